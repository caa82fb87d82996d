"""What all requests share: the registry, the connections, the clocks, the books.

One per process, made by `app`. It knows which requests run, so that a drain can wait for them.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Protocol

from msgspec.structs import replace

from parsers.events import Fault, FaultKind
from proxy.capture import Captures
from proxy.clocks import Sweep
from proxy.drain import RETRY_AFTER_SECONDS, Drain
from proxy.endpoints import LiveState
from proxy.errors import RequestFailed, proxy_fault
from proxy.log import Log
from proxy.metrics import Metrics, Sources
from proxy.outcome import DRAINED_CODE, Account
from proxy.quota import Quotas
from proxy.ration import Ration
from proxy.registry import Registry
from proxy.reload import Reloader
from proxy.request_line import request_line
from proxy.upstream import Upstream

BOOK_SECONDS = 1.0  # between two looks at what long streams have come to
WRONG_KEYS_PER_SECOND = 100  # that have a line of their own; some 50 kB


class Running(Protocol):
    """A request under way."""

    @property
    def account(self) -> Account:
        """Its account."""

    def report(self) -> None:
        """Bring its account up to date."""

    def be_last(self) -> None:
        """Let no other request follow on the same connection."""

    def drain(self) -> None:
        """End now, and tell the client so."""


class Service:
    """The shared parts, and the door that every request goes in and out by.

    `drain_seconds` is how long requests may go on in a drain; None: as the configuration says.
    """

    def __init__(
        self,
        reloader: Reloader[Registry],
        live: LiveState,
        metrics: Metrics,
        log: Log,
        drain_seconds: float | None = None,
    ) -> None:
        self.reloader = reloader
        self.live = live
        self.metrics = metrics
        self.log = log
        self.upstream = Upstream()
        self.sweep = Sweep()
        self.captures = Captures(reloader, log)
        self.quotas = Quotas()
        self._wrong_keys = Ration(WRONG_KEYS_PER_SECOND)
        self.leaving: Drain | None = None  # None: it stays
        self._drain_seconds = drain_seconds
        self.drain_begun = asyncio.Event()
        self._all_told = False
        self._running: set[Running] = set()
        self._emptied: asyncio.Event | None = None  # None: nobody waits for the last one
        metrics.watch(
            Sources(
                running=lambda: [running.account for running in tuple(self._running)],
                endpoints=live.states,
                draining=lambda: self.draining,
                ready=lambda: not self.draining and not self.registry.unready,
                lag_seconds=lambda: self.sweep.lag_seconds,
                log_dropped=lambda: log.dropped,
                captures=lambda: self.captures.counts,
            )
        )

    @property
    def registry(self) -> Registry:
        """The registry for a request that comes now."""
        return self.reloader.current

    @property
    def in_flight(self) -> int:
        """How many requests run."""
        return len(self._running)

    @property
    def draining(self) -> bool:
        """Whether a drain has begun."""
        return self.leaving is not None

    def check_room(self) -> None:
        """Raise RequestFailed if no request may enter now; the asking one is counted already."""
        if self.leaving is not None and self.leaving.refuses(monotonic()):
            raise RequestFailed(drained_fault())
        if len(self._running) > self.registry.limits.max_concurrent_requests:
            message = "the proxy serves as many requests as it may"
            raise RequestFailed(proxy_fault(FaultKind.OVERLOADED, message, retry_after=1))

    def enter(self, running: Running) -> None:
        """A request came in."""
        self.metrics.started += 1
        running.account.lag_seconds = -self.sweep.lag_seconds
        self._running.add(running)
        if self.leaving is not None:
            running.be_last()

    def leave(self, running: Running) -> None:
        """A request has ended: balance its books."""
        self._running.discard(running)
        running.account.lag_seconds += self.sweep.lag_seconds
        if self._emptied is not None and not self._running:
            self._emptied.set()
        self.metrics.count(running.account)
        fault = running.account.fault
        if fault is None or fault.kind is not FaultKind.UNAUTHENTICATED or self._is_told(fault):
            self.log.write_later("request", partial(request_line, running.account))

    def _is_told(self, fault: Fault) -> bool:
        """Whether there is a line for a wrong key; who tries many must not fill the log."""
        if fault.origin != "client":
            return True
        if not self._wrong_keys.take():
            return False
        if omitted := self._wrong_keys.kept_back():
            self.log.write("omitted", requests=omitted, reason="unauthenticated")
        return True

    async def run_books(self) -> None:
        """Merge what streams have come to so far into the metrics, until cancelled."""
        while True:
            await asyncio.sleep(BOOK_SECONDS)
            for running in tuple(self._running):
                if running.account.first_token is not None:
                    running.report()
                    self.metrics.merge(running.account)

    def begin_drain(self, reason: str, seconds: float | None = None) -> Drain:
        """The drain that has begun, or begins now; `seconds` None: it takes what it is set to."""
        if self.leaving is None:
            rules = self.registry.config.site.penstock.drain
            if seconds is None:
                seconds = self._drain_seconds
            if seconds is None:
                seconds = rules.deadline_seconds
            now = datetime.now(UTC)
            self.leaving = Drain(reason, now, monotonic(), rules.grace_seconds, seconds)
            self.log.write("draining", reason=reason, seconds=seconds, in_flight=self.in_flight)
            self.drain_begun.set()
            for running in self._running:
                running.be_last()
        return self.leaving

    async def run_drain(self) -> None:
        """Once a drain has begun: wait for its deadline, end what still runs."""
        await self.drain_begun.wait()
        assert self.leaving is not None  # noqa: S101 - it has begun
        await asyncio.sleep(self.leaving.seconds_left(monotonic()))
        self._end_all()

    async def drain(self, seconds: float | None = None) -> None:
        """Drain: wait until nothing runs, end what still does at the deadline."""
        drain = self.begin_drain("stop", seconds)
        if not self._running:
            return
        self._emptied = asyncio.Event()
        try:
            async with asyncio.timeout(drain.seconds_left(monotonic())):
                await self._emptied.wait()
        except TimeoutError:
            self._end_all()

    def _end_all(self) -> None:
        """End what runs, and once: nothing new can have come in since."""
        if not self._all_told:
            self._all_told = True
            for running in tuple(self._running):
                running.drain()


def drained_fault() -> Fault:
    """What a request is told for which penstock does not stay."""
    message = "the proxy is shutting down"
    fault = proxy_fault(FaultKind.OVERLOADED, message, retry_after=RETRY_AFTER_SECONDS)
    return replace(fault, code=DRAINED_CODE)
