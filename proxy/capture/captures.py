"""Which requests are captured: those of a provider, a model, a client; and those that failed.

`on` is the one thing that a request asks. What it is made from changes with the configuration and
with POST /debug, and what was asked for there ends by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from random import Random
from time import monotonic
from typing import Literal

import msgspec
from aiohttp import web

from proxy.capture.format import CLIENT
from proxy.capture.recorder import (
    Budget,
    Recording,
    Sender,
    TappedSender,
    TappedTransport,
    request_head,
    untapped,
)
from proxy.capture.store import DEBUG, FAILED, SLOW, Finished, Store, directory_of
from proxy.config.schema import Capture
from proxy.log import Log
from proxy.outcome import Account, Outcome
from proxy.registry import Registry
from proxy.reload import Reloader
from proxy.reply import Reply
from proxy.upstream import Upstream

# All that is held for captures, of requests that run and of those that wait to be written.
MAX_HELD_BYTES = 64 * 1024 * 1024

_NO_FAILURES = (Outcome.CLIENT_GONE, Outcome.DRAINED)

_random = Random()  # noqa: S311 - draws samples, guards nothing


class Debugged(msgspec.Struct, frozen=True):
    """Whose requests are captured for a while: all for one model, or all of one client."""

    by: Literal["model", "client"]
    name: str  # the model's reference, or the client's name


class Captures:
    """Begins, judges and keeps the captures of one penstock."""

    def __init__(self, reloader: Reloader[Registry], log: Log) -> None:
        self.on = False  # whether any request may have to be captured
        self._reloader = reloader
        self._budget = Budget(MAX_HELD_BYTES)
        self._store = Store(partial(log.write, "capture"))
        self._until: dict[Debugged, float] = {}  # monotonic
        self._verbose: frozenset[str] = frozenset()  # providers
        self._rules = Capture()
        self._refresh()

    # -- the switch

    async def run(self) -> None:
        """Follow the configuration, until cancelled."""
        while True:
            seen = self._reloader.status
            self._refresh()
            await self._reloader.changed(seen)

    def debug(self, debugged: Debugged, seconds: float) -> None:
        """Capture these from now on, for so long; a later word takes the place of an earlier."""
        self._until[debugged] = monotonic() + seconds
        self._refresh()

    def stop(self, debugged: Debugged | None) -> None:
        """Capture these no more; None: whatever was asked for."""
        if debugged is None:
            self._until.clear()
        else:
            self._until.pop(debugged, None)
        self._refresh()

    @property
    def debugged(self) -> Mapping[Debugged, float]:
        """What was asked for, and for how many seconds it goes on."""
        self._refresh()
        now = monotonic()
        return {each: until - now for each, until in self._until.items()}

    @property
    def verbose(self) -> list[str]:
        """The providers that the configuration says to capture."""
        return sorted(self._verbose)

    @property
    def directory(self) -> str:
        """Where the files are."""
        return str(directory_of(self._rules))

    @property
    def counts(self) -> Mapping[str, int]:
        """How many captures were written, dropped (too many waited), and lost to the disk."""
        store = self._store
        return {"written": store.written, "dropped": store.dropped, "failed": store.failed}

    @property
    def held_bytes(self) -> int:
        """What is held of requests that run or wait to be written."""
        return self._budget.held

    def close(self) -> None:
        """Write what waits, for a moment; it blocks."""
        self._store.close()

    def _refresh(self) -> None:
        registry, now = self._reloader.current, monotonic()
        self._rules = registry.config.site.penstock.capture
        self._verbose = frozenset(
            model.provider.id for model in registry.models.values() if model.provider.verbose
        )
        self._until = {each: until for each, until in self._until.items() if now < until}
        self.on = bool(self._verbose or self._until or self._rules.keep_last)

    # -- one request

    def begin(self, request: web.BaseRequest, account: Account, reply: Reply) -> RequestCapture:
        """Record a request from its head on; most are let go once their model is known."""
        if any(until <= monotonic() for until in self._until.values()):
            self._refresh()
        recording = Recording(account, self._budget, self._rules.max_bytes)
        recording.note(CLIENT, "received", request_head(request))
        return RequestCapture(self, recording, reply)

    def is_debugged(self, account: Account) -> bool:
        """Whether the request is one of those looked into, and is drawn."""
        wanted = (
            account.provider in self._verbose
            or Debugged("model", account.model) in self._until
            or Debugged("client", account.client) in self._until
        )
        return wanted and _random.random() < self._rules.sample

    @property
    def keeps_failures(self) -> bool:
        """Whether those that fail are kept unasked."""
        return self._rules.keep_last > 0

    def reason_for(self, account: Account, *, debugged: bool) -> str | None:
        """Why to keep a request that has ended; None: there is no reason."""
        if debugged:
            return DEBUG
        if self.keeps_failures and account.attempts and account.outcome is not None:
            if not account.outcome.is_success and account.outcome not in _NO_FAILURES:
                return FAILED
            slow = self._rules.slow_seconds
            if slow is not None and account.ended - account.started >= slow:
                return SLOW
        return None

    def keep(self, recording: Recording, reason: str, fields: dict[str, object]) -> None:
        """Have it written; `fields` are those of the request's log line."""
        self._store.put(
            Finished(
                reason=reason,
                ended=datetime.now(UTC),
                fields=fields,
                events=recording.events,
                hidden=frozenset(recording.hidden),
                incomplete=recording.incomplete,
                rules=self._rules,
                release=recording.release,
            )
        )


class RequestCapture:
    """What an exchange does for its capture: five calls, in this order, the last in any case."""

    def __init__(self, captures: Captures, recording: Recording, reply: Reply) -> None:
        self._captures = captures
        self._recording: Recording | None = recording  # None: nobody wants it
        self._reply = reply
        self._debugged: bool | None = None  # None: its model is not known yet
        reply.tap(lambda transport: TappedTransport(transport, recording))

    def received(self, body: bytes) -> None:
        """The body of the client's request is here."""
        if self._recording is not None and body:
            self._recording.note(CLIENT, "received", body)

    def over(self, upstream: Upstream) -> Sender:
        """What calls go by, now that the model is known: a tap, or `upstream` itself."""
        recording = self._recording
        if recording is None:
            return upstream
        self._debugged = self._captures.is_debugged(recording.account)
        if self._debugged or self._captures.keeps_failures:
            return TappedSender(upstream, recording)
        self._let_go(recording)
        return upstream

    def end(self, fields: dict[str, object]) -> None:
        """The request has ended, and its account is settled."""
        recording, captures = self._recording, self._captures
        if recording is None:
            return
        account = recording.account
        if self._debugged is None:
            self._debugged = captures.is_debugged(account)
        reason = captures.reason_for(account, debugged=self._debugged)
        if reason is None:
            self._let_go(recording)
        else:
            recording.close()
            captures.keep(recording, reason, fields)

    def _let_go(self, recording: Recording) -> None:
        self._recording = None
        self._reply.tap(untapped)
        recording.release()
