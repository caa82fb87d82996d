"""How a request ended: the closed list of outcomes, and the account that is settled once.

The same word stands in `penstock_requests_total{outcome}` and in the log line; on the wire it is
an error's code to clients of OpenAI's dialect where it says more than the upstream's own (a wait
that ended, `truncated`, `drained`).
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from parsers.events import Fault, FaultKind, FinishReason, Usage


class Clock(StrEnum):
    """Which of the five waits ran out."""

    CONNECT = "connect"
    HEADERS = "headers"
    FIRST_TOKEN = "first_token"  # noqa: S105 - a token of text, not a secret
    IDLE = "idle"
    TOTAL = "total"


class Outcome(StrEnum):
    """Every way a request can end; each request ends in exactly one."""

    COMPLETE = "complete"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    FILTERED = "filtered"
    REJECTED = "rejected"  # refused for what it asked or who asked, here or upstream
    SHED = "shed"  # refused here because there was too much to do
    UPSTREAM_ERROR = "upstream_error"
    TRUNCATED = "truncated"
    TIMEOUT_CONNECT = "timeout_connect"
    TIMEOUT_HEADERS = "timeout_headers"
    TIMEOUT_FIRST_TOKEN = "timeout_first_token"  # noqa: S105 - a token of text, not a secret
    TIMEOUT_IDLE = "timeout_idle"
    TIMEOUT_TOTAL = "timeout_total"
    CLIENT_GONE = "client_gone"
    DRAINED = "drained"
    INTERNAL_ERROR = "internal_error"

    @property
    def is_success(self) -> bool:
        """Whether the client got a whole answer."""
        return self in _SUCCESSES


_SUCCESSES = frozenset({Outcome.COMPLETE, Outcome.LENGTH, Outcome.TOOL_CALLS, Outcome.FILTERED})

_BY_REASON = {
    FinishReason.STOP: Outcome.COMPLETE,
    FinishReason.LENGTH: Outcome.LENGTH,
    FinishReason.TOOL_CALLS: Outcome.TOOL_CALLS,
    FinishReason.CONTENT_FILTER: Outcome.FILTERED,
}

# What an upstream says of the request rather than of itself.
_REFUSALS = frozenset(
    {
        FaultKind.INVALID_REQUEST,
        FaultKind.CONTEXT_LENGTH,
        FaultKind.CONTENT_FILTER,
        FaultKind.UNKNOWN_MODEL,
        FaultKind.TOO_LARGE,
    }
)

DRAINED_CODE = "drained"

_OF_OURS = {FaultKind.INTERNAL: Outcome.INTERNAL_ERROR, FaultKind.OVERLOADED: Outcome.SHED}

_BUSY = frozenset({FaultKind.OVERLOADED, FaultKind.RATE_LIMITED, FaultKind.QUOTA_EXCEEDED})


def outcome_of_finish(reason: FinishReason | None) -> Outcome:
    """The outcome of a whole answer; None where the upstream named no reason."""
    return _BY_REASON[reason] if reason is not None else Outcome.COMPLETE


def outcome_of_fault(fault: Fault) -> Outcome:
    """The outcome of a request that ended in this fault."""
    if fault.kind is FaultKind.TIMEOUT and isinstance(fault.code, str):
        return Outcome(fault.code) if fault.code in _TIMEOUTS else Outcome.UPSTREAM_ERROR
    if fault.code == DRAINED_CODE:
        return Outcome.DRAINED
    if fault.kind is FaultKind.TRUNCATED:
        return Outcome.TRUNCATED
    if fault.origin == "proxy":
        return _OF_OURS.get(fault.kind, Outcome.REJECTED)
    if fault.origin != "upstream" or fault.kind in _REFUSALS:
        return Outcome.REJECTED
    return Outcome.UPSTREAM_ERROR


class Verdict(StrEnum):
    """What an attempt says of its endpoint."""

    SUCCESS = "success"
    BUSY = "busy"  # it is alive, and has enough to do
    REFUSED = "refused"  # it is alive, and did not like the request, or our key
    FAULT = "fault"  # a reset, a truncation, a timeout, nonsense, a failure of its own
    CANCELLED = "cancelled"  # nothing: we went away first


_FAULTS = frozenset(
    {
        FaultKind.UNREACHABLE,
        FaultKind.TIMEOUT,
        FaultKind.TRUNCATED,
        FaultKind.PROTOCOL,
        FaultKind.UPSTREAM,
    }
)


def verdict_of(outcome: Outcome, fault: Fault | None) -> Verdict:
    """What an attempt says of its endpoint: only what is its own doing is held against it."""
    if outcome.is_success:
        return Verdict.SUCCESS
    if fault is None or outcome in (Outcome.CLIENT_GONE, Outcome.DRAINED, Outcome.INTERNAL_ERROR):
        return Verdict.CANCELLED
    if fault.kind in _BUSY:
        return Verdict.BUSY
    return Verdict.FAULT if fault.kind in _FAULTS else Verdict.REFUSED


_TIMEOUTS = frozenset(f"timeout_{clock}" for clock in Clock)

_WAITED_FOR = {
    Clock.CONNECT: "a connection to the model server",
    Clock.HEADERS: "the model server to answer",
    Clock.FIRST_TOKEN: "the first token",
    Clock.IDLE: "the next token",
    Clock.TOTAL: "the whole answer",
}


def timeout_fault(clock: Clock, seconds: float) -> Fault:
    """The fault of a clock that ran out; its code is the outcome's word."""
    return Fault(
        kind=FaultKind.TIMEOUT,
        origin="upstream",
        message=f"timed out after {seconds:g} s waiting for {_WAITED_FOR[clock]}",
        code=f"timeout_{clock}",
    )


class Account(msgspec.Struct):
    """What is known of one request while it runs; owned by its exchange.

    Times are monotonic seconds. `settle` is called once; later calls change nothing, so that the
    first word about an ending is the one that counts.
    """

    request_id: str
    started: float
    dialect: str = "none"
    client: str = "anonymous"
    model: str = "unknown"
    provider: str = "none"
    endpoint: str = "none"
    stream: bool = False
    exact: bool = False
    upstream_dialect: str = "none"  # of the model server that was asked last
    generation: int = 0
    phase: str = "admit"
    attempts: int = 0
    first_token: float | None = None
    last_token: float | None = None
    contents: int = 0  # events with visible content
    events_in: int = 0  # of streams, all that the model servers sent
    events_out: int = 0  # and all that the client was sent
    events_merged: tuple[int, int] = (0, 0)  # how many of both the metrics have
    queue_seconds: float = 0.0  # waiting for room at an endpoint
    connect_seconds: float = 0.0  # waiting for a connection
    sent_at: float | None = None  # when a model server was last asked
    reader_seconds: float = 0.0  # waiting for a client that reads slowly
    lag_seconds: float = 0.0  # how late the event loop was, all in all, while it ran
    wasted: int = 0  # events with content that were made for nobody
    dropped: tuple[str, ...] = ()  # hints that the model server was not told
    trace_id: str = ""  # of a trace that somebody keeps
    usage: Usage | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    status: int = 0  # what the client was told; 0 if nothing went out
    outcome: Outcome | None = None
    fault: Fault | None = None
    ended: float = 0.0

    def settle(self, outcome: Outcome, fault: Fault | None, now: float) -> None:
        """Say how it ended; the first call wins."""
        if self.outcome is None:
            self.outcome = outcome
            self.fault = fault
            self.ended = now

    @property
    def prefill_seconds(self) -> float | None:
        """From the request's last leaving for a model server to its first token.

        Of an answer that is not streamed, to its end. None where nothing came.
        """
        if self.sent_at is None:
            return None
        until = self.first_token if self.stream else self.ended
        return None if until is None else max(until - self.sent_at, 0.0)

    @property
    def decode_seconds(self) -> float | None:
        """From the first token to the last, but for the time that a slow reader took."""
        if not self.stream or self.first_token is None or self.last_token is None:
            return None
        return max(self.last_token - self.first_token - self.reader_seconds, 0.0)

    @property
    def usage_source(self) -> str:
        """`reported` by the upstream, `counted` here, or `unknown`."""
        if self.usage is not None:
            return "reported"
        return "counted" if self.contents else "unknown"
