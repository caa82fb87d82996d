"""What all requests share: the registry, the connections, the clocks, the books.

One per process, made by `app`. It knows which requests run, so that a drain can wait for them.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Protocol

from parsers.events import Fault, FaultKind
from proxy.clocks import Sweep
from proxy.endpoints import LiveState
from proxy.errors import RequestFailed, proxy_fault
from proxy.log import Log
from proxy.metrics import Metrics
from proxy.outcome import Account, Outcome
from proxy.registry import Registry
from proxy.reload import Reloader
from proxy.upstream import Upstream


class Running(Protocol):
    """A request under way."""

    @property
    def account(self) -> Account:
        """Its account."""

    def drain(self) -> None:
        """End now, and tell the client so."""


class Service:
    """The shared parts, and the door that every request goes in and out by."""

    def __init__(
        self, reloader: Reloader[Registry], live: LiveState, metrics: Metrics, log: Log
    ) -> None:
        self.reloader = reloader
        self.live = live
        self.metrics = metrics
        self.log = log
        self.upstream = Upstream()
        self.sweep = Sweep()
        self.draining = False
        self._running: set[Running] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        metrics.watch_inflight(lambda: len(self._running), live.states)

    @property
    def registry(self) -> Registry:
        """The registry for a request that comes now."""
        return self.reloader.current

    def check_room(self) -> None:
        """Raise RequestFailed if no request may enter now; the asking one is counted already."""
        if len(self._running) > self.registry.limits.max_concurrent_requests:
            message = "the proxy serves as many requests as it may"
            raise RequestFailed(proxy_fault(FaultKind.OVERLOADED, message, retry_after=1))

    def enter(self, running: Running) -> None:
        """A request came in."""
        self.metrics.started += 1
        self._running.add(running)
        self._empty.clear()

    def leave(self, running: Running) -> None:
        """A request has ended: balance its books."""
        self._running.discard(running)
        if not self._running:
            self._empty.set()
        self.metrics.count(running.account)
        self.log.write_later("request", partial(log_fields, running.account))

    async def drain(self, seconds: float) -> None:
        """Wait until nothing runs; end what still does after this time."""
        self.draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            for running in tuple(self._running):
                running.drain()


def log_fields(account: Account) -> dict[str, object]:
    """The account as a log line: no prompt, no answer, no key, no address."""
    fault = account.fault
    fields: dict[str, object] = {
        "request_id": account.request_id,
        "client": account.client,
        "model": account.model,
        "provider": account.provider,
        "endpoint": account.endpoint,
        "dialect": account.dialect,
        "exact": account.exact,
        "stream": account.stream,
        "generation": account.generation,
        "outcome": account.outcome or Outcome.INTERNAL_ERROR,
        "status": account.status,
        "phase": account.phase,
        "attempts": account.attempts,
        "seconds": round(account.ended - account.started, 6),
        "bytes_in": account.bytes_in,
        "bytes_out": account.bytes_out,
        "usage": account.usage_source,
    }
    if account.dropped:
        fields["dropped"] = list(account.dropped)
    if account.first_token is not None:
        fields["first_token_seconds"] = round(account.first_token - account.started, 6)
    if account.usage is not None:
        fields["input_tokens"] = account.usage.prompt
        fields["output_tokens"] = account.usage.completion
    elif account.contents:
        fields["contents"] = account.contents
    if fault is not None:
        fields["fault"] = fault_fields(fault)
    return fields


def fault_fields(fault: Fault) -> dict[str, object]:
    """A fault as it may be logged: its message is safe to show, and is shown."""
    return {
        "kind": fault.kind,
        "origin": fault.origin,
        "code": fault.code,
        "message": fault.message,
    }
