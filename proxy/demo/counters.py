"""How many generations run, ever ran, and lost their reader: what stands in for the GPU."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from msgspec import Struct

from proxy.demo.failures import overloaded


class State(Struct, frozen=True):
    """The counts at one moment; `aborted` are those whose reader left."""

    running: int = 0
    started: int = 0
    aborted: int = 0


class Counters:
    """The running generations of one server, at most `limit` at a time."""

    def __init__(self, limit: int) -> None:
        self.state = State()
        self._limit = limit
        self._changed = asyncio.Event()

    @contextmanager
    def generation(self, prompts: int) -> Iterator[None]:
        """Hold one permit for each prompt; raises `InferError` at once if there are too few."""
        if self.state.running + prompts > self._limit:
            raise overloaded()
        self._add(running=prompts, started=prompts)
        try:
            yield
        except (asyncio.CancelledError, ConnectionError):
            # The first comes from handler_cancellation, the second from a write that lost the race.
            self._add(aborted=prompts)
            raise
        finally:
            self._add(running=-prompts)

    async def reached(self, wanted: Mapping[str, int], wait_seconds: float) -> State:
        """The state as soon as every count in `wanted` is met, or as it is after `wait_seconds`."""
        try:
            async with asyncio.timeout(wait_seconds):
                while any(getattr(self.state, name) != value for name, value in wanted.items()):
                    await self._changed.wait()
        except TimeoutError:
            pass
        return self.state

    def page(self) -> str:
        """TGI's gauges of its work, as Prometheus reads them; nothing ever waits here."""
        gauges = {"tgi_batch_current_size": self.state.running, "tgi_queue_size": 0}
        return "".join(f"# TYPE {name} gauge\n{name} {value}\n" for name, value in gauges.items())

    def _add(self, *, running: int = 0, started: int = 0, aborted: int = 0) -> None:
        state = self.state
        self.state = State(
            state.running + running, state.started + started, state.aborted + aborted
        )
        self._changed.set()
        self._changed = asyncio.Event()
