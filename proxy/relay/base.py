"""What every relay does: judge the head, read an error's body, keep the clocks, end once."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf
from time import monotonic

import msgspec

from parsers.dialects.base import refusal_of
from parsers.events import Fault, FaultKind
from proxy.errors import client_fault, status_of, upstream_fault
from proxy.outcome import Account, Clock, Outcome, outcome_of_fault, timeout_fault
from proxy.relay.headers import rate_limits
from proxy.relay.hiding import without
from proxy.relay.patience import retry_after
from proxy.relay.plan import Ending, Plan
from proxy.reply import Reply
from proxy.transport import Connection, Inflater, ResponseHead, TransportError

LINGER_SECONDS = 0.2  # how long an upstream may take to end its body after its end mark
MAX_ERROR_BYTES = 64 * 1024  # an error page is read this far, to learn what it says

_BAD_HTTP = ("framing", "too_large")


class Relay(ABC):
    """Receives one upstream answer and gives the client its own.

    `transport` calls `on_head`, `on_data` and `on_end`; the sweep calls `tick`; the handler awaits
    `run`. Subclasses say what a good head and its body mean.
    """

    # Without slots a stream would keep a dictionary of 1.5 kB: it has more than thirty attributes.
    __slots__ = (
        *("_braked", "_clock", "_clock_at", "_connection", "_error_body", "_failed", "_head"),
        *(
            "_inflater",
            "_on_answer",
            "_sent_at",
            "_told",
            "_total_at",
            "_wake",
            "account",
            "ending",
        ),
        *("due", "error_headers", "malformed", "plan", "reply", "reply_headers"),
    )

    def __init__(
        self, plan: Plan, reply: Reply, account: Account, on_answer: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.reply = reply
        self.account = account
        self.ending: Ending | None = None
        self.reply_headers = b"x-request-id: %b\r\n%b" % (
            account.request_id.encode(),
            plan.headers,
        )
        self.error_headers = b""  # what the upstream said of its limits, beside a refusal
        self.malformed = ""  # in what way the answer was not as it should be
        self._told = 0  # failures that the client was told in band
        self._connection: Connection | None = None
        self._inflater: Inflater | None = None
        self._head: ResponseHead | None = None
        self._error_body = bytearray()
        self._failed = False
        self._braked = False
        self._on_answer = on_answer  # called once the client gets its first byte
        self._wake: asyncio.Future[None] | None = None
        self._clock = Clock.HEADERS
        self._clock_at = inf
        self.due = 0.0  # when the sweep is to look again; 0 after each change but a token
        self._sent_at = 0.0
        self._total_at = account.started + plan.timeouts.total_seconds

    # -- the handler's side

    @property
    def is_answering(self) -> bool:
        """Whether an answer may come, or has; a request that may be sent again has none."""
        if self.ending is not None:
            return not self.ending.unanswered
        return self._connection is not None

    @property
    def seconds_left(self) -> float:
        """Until the whole request has taken too long."""
        return max(0.0, self._total_at - monotonic())

    def attach(self, connection: Connection) -> None:
        """The request is about to be sent on this connection."""
        if self.ending is not None:  # a clock or a drain came first
            connection.abort()
            return
        self._connection = connection
        self._sent_at = self.account.sent_at = monotonic()
        self._await(Clock.HEADERS, self._sent_at, self.plan.timeouts.headers_seconds)

    async def run(self) -> Ending:
        """Wait for the ending; let a client that reads slowly catch up meanwhile."""
        while self.ending is None:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
            if self._braked:
                await self._catch_up()
        return self.ending

    def abandon(self) -> None:
        """The client is gone: close the upstream connection, which frees the model server."""
        self._drop_connection()
        self._finish(Ending(Outcome.CLIENT_GONE))

    def fail(self, fault: Fault) -> None:
        """End with this fault; after the first byte the client is told in band."""
        if self.ending is not None:
            return
        fault = without(fault, self.plan.hidden())
        self._drop_connection()
        if self.reply.started and not self.reply.ended:
            self.reply.end(self.plan.client.error_frame(fault, status_of(fault)))
            self._told = 1
        self._finish(Ending(outcome_of_fault(fault), fault))

    # -- the sweep's side

    def tick(self, now: float) -> None:
        """End what has waited too long."""
        if self.ending is None:
            if now >= self._total_at:
                self._expire(Clock.TOTAL)
            elif now >= self._clock_at:
                self._expire(self._clock)
        self.due = min(self._total_at, self._clock_at)

    def _await(self, clock: Clock, since: float, seconds: float) -> None:
        """Start one of the clocks, with this limit."""
        self._clock = clock
        self._clock_at = since + seconds
        self.due = 0.0

    def _expire(self, clock: Clock) -> None:
        self.fail(timeout_fault(clock, getattr(self.plan.timeouts, f"{clock}_seconds")))

    # -- the transport's side

    def on_head(self, head: ResponseHead) -> None:
        """The status line and headers have come."""
        self._head = head
        encoding = head.headers.get(b"content-encoding")
        if encoding is not None and encoding.lower() != b"identity":
            try:
                self._inflater = Inflater(encoding)
            except TransportError:
                self.fail(_undecodable())
                return
        if 200 <= head.status < 300:
            self.account.phase = "stream"
            self.accept(head)
        else:
            self._failed = True
            self.error_headers = rate_limits(head)

    def on_data(self, data: bytes) -> None:
        """All that one read brought of the body."""
        # per token
        if self.ending is not None:
            return
        if self._inflater is not None:
            self._inflate(data)
        elif self._failed:
            self._take_error(data)
        else:
            self.take(data)

    def on_end(self, error: TransportError | None) -> None:
        """The body has ended as framed, or broke off; the connection is no longer ours."""
        connection, self._connection = self._connection, None
        if self.ending is not None:
            return
        if self._head is None:
            self._unanswered(error, connection)
        elif self._failed:
            self.fail(self._refusal(self._head))
        elif error is None:
            self.close()
        else:
            self.broken(error)

    # -- for the subclass

    @abstractmethod
    def report(self) -> None:
        """Bring the account up to date; asked once a second, and at the end."""

    @abstractmethod
    def accept(self, head: ResponseHead) -> None:
        """A good head: what follows is an answer."""

    @abstractmethod
    def take(self, data: bytes) -> None:
        """Bytes of the answer."""

    @abstractmethod
    def close(self) -> None:
        """The answer's body is whole."""

    def broken(self, error: TransportError) -> None:
        """The answer's body broke off."""
        kind = FaultKind.PROTOCOL if error.kind in _BAD_HTTP else FaultKind.TRUNCATED
        self.fail(upstream_fault(kind, "the model server broke off its answer"))

    # -- inside

    def _inflate(self, data: bytes) -> None:
        assert self._inflater is not None  # noqa: S101 - the caller looked
        try:
            for piece in self._inflater.feed(data):
                if self.ending is not None:
                    return
                if self._failed:
                    self._take_error(piece)
                else:
                    self.take(piece)
        except TransportError:
            self.fail(_undecodable())

    def _take_error(self, data: bytes) -> None:
        """More of an error page; the beginning of a long one is enough."""
        assert self._head is not None  # noqa: S101 - a body comes after a head
        self._error_body += data[: MAX_ERROR_BYTES - len(self._error_body)]
        if len(self._error_body) == MAX_ERROR_BYTES:
            self.fail(self._refusal(self._head))

    def _unanswered(self, error: TransportError | None, connection: Connection | None) -> None:
        if error is not None and error.kind in _BAD_HTTP:
            self.fail(upstream_fault(FaultKind.PROTOCOL, "the model server did not answer in HTTP"))
            return
        message = "the model server closed the connection without an answer"
        fault = upstream_fault(FaultKind.UNREACHABLE, message)
        if self.reply.started:  # with comments, before there was an answer
            self.fail(fault)
            return
        nothing_came = connection is None or not connection.response_started
        self._finish(Ending(outcome_of_fault(fault), fault, unanswered=nothing_came))

    def _refusal(self, head: ResponseHead) -> Fault:
        """What a status other than success was about; redirects are not followed."""
        if head.status < 400:
            return upstream_fault(FaultKind.PROTOCOL, "the model server answered with a redirect")
        dialect, body = self.plan.route.dialect, bytes(self._error_body)
        fault = refusal_of(dialect, head.status, head.headers, body)
        seconds = retry_after(head)
        return fault if seconds is None else msgspec.structs.replace(fault, retry_after=seconds)

    def _brake(self) -> None:
        """The client reads too slowly: stop reading upstream until it has caught up."""
        if self._connection is not None and not self._braked and self.ending is None:
            self._braked = True
            self._clock_at = inf  # it is not the upstream that keeps us waiting
            self._connection.pause_reading()
            self._signal()

    async def _catch_up(self) -> None:
        since = monotonic()
        try:
            await self.reply.drain()
            self.account.reader_seconds += monotonic() - since
        except TimeoutError:
            self._drop_connection()
            self.reply.cut()
            fault = client_fault(FaultKind.TIMEOUT, "the client stopped reading")
            self._finish(Ending(Outcome.CLIENT_GONE, fault))
            return
        self._braked = False
        if self._connection is not None and self.ending is None:
            self._await(Clock.IDLE, monotonic(), self.plan.timeouts.idle_seconds)
            self._connection.resume_reading()

    def _drop_connection(self) -> None:
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def _finish(self, ending: Ending) -> None:
        if self.ending is None:
            self.ending = ending
            self._signal()

    def _signal(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)


def _undecodable() -> Fault:
    message = "the model server's answer is compressed in a way that cannot be read"
    return upstream_fault(FaultKind.PROTOCOL, message)
