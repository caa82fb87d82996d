"""Model servers that can be struck down and raised again, and what a penstock thinks of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from proxy.endpoints import EndpointState
from proxy.traffic.breaker import Circuit
from tests.e2e.frames import ANSWER, stream
from tests.harness import Proxy, chat
from tests.scripted import Conversation

CHAT = "/v1/chat/completions"


class Replica:
    """A script that answers after a while; struck down, it breaks every connection."""

    def __init__(self, seconds_per_answer: float = 0.02, answer: bytes = stream(ANSWER)) -> None:
        self.is_up = True
        self.asked = 0  # requests that came, in whatever state it was
        self.answered = 0
        self._seconds = seconds_per_answer
        self._answer = answer
        self._open: set[Conversation] = set()

    async def __call__(self, up: Conversation) -> None:
        """Answer the requests of one connection."""
        self._open.add(up)
        try:
            async for _ in up.requests():
                self.asked += 1
                self.note()
                if not self.is_up:
                    up.reset()
                    return
                await self.answer(up)
                self.answered += self.is_up
        finally:
            self._open.discard(up)

    def note(self) -> None:
        """Called for each request that comes, in whatever state it is."""

    async def answer(self, up: Conversation) -> None:
        """Answer one request."""
        await asyncio.sleep(self._seconds)
        up.send(self._answer)

    def strike_down(self) -> None:
        """Break every connection, and all that come."""
        self.is_up = False
        for up in self._open:
            up.reset()

    def raise_again(self) -> None:
        """Answer again."""
        self.is_up = True


def state_of(proxy: Proxy, url: str) -> EndpointState:
    """The live state of this endpoint."""
    (state,) = (state for state in proxy.service.live.states() if state.url == url)
    return state


def is_open(state: EndpointState) -> bool:
    """Whether the endpoint is left out, or on trial."""
    return state.breaker.circuit(monotonic()) is not Circuit.CLOSED


async def at_rate(proxy: Proxy, rate: float, seconds: float) -> list[tuple[int, bytes]]:
    """The answers to so many requests a second for so long, however long each takes."""
    started = monotonic()
    async with asyncio.TaskGroup() as group:
        asked = []
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, started + number / rate - monotonic()))
            asked.append(group.create_task(proxy.ask(CHAT, chat())))
    return [each.result() for each in asked]


async def until(holds: Callable[[], bool]) -> None:
    """Wait until this holds. Raises TimeoutError after ten seconds."""
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.002)


def held(proxy: Proxy) -> dict[str, int]:
    """What requests hold, by what it is."""
    live, service = proxy.service.live, proxy.service
    return {
        "requests": service.in_flight,
        "clocks": len(service.sweep),
        "endpoints": sum(state.inflight for state in live.states()),
        "places in lines": sum(len(state.line) for state in live.states()),
        "models": sum(live.of_model(label).inflight for label in service.registry.models),
    }
