"""The relay of a streamed answer, exact or translated.

Two things are held back, both bounded. The *head* waits for the first event with content (or for
a failure, which then becomes a real status), `HOLD_SECONDS` and `HOLD_BYTES` at most. On the exact
path a *frame* waits until it is whole, so that a break never leaves half an event at the client.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from time import monotonic
from typing import cast

import msgspec

from parsers.dialects.base import Identity, StreamDecoder
from parsers.dialects.glance import Glance
from parsers.errors import FrameTooLarge, ParseError
from parsers.events import Fault, FaultKind, StreamEvent
from proxy.errors import upstream_fault
from proxy.outcome import Account, Clock
from proxy.relay.base import LINGER_SECONDS, Relay
from proxy.relay.cached import CachedDecoder, cached_in
from proxy.relay.headers import passed_on
from proxy.relay.plan import Ending, Plan
from proxy.relay.verdict import Verdict
from proxy.relay.writers import TranslatingWriter, Writer, writer_for
from proxy.reply import EVENT_STREAM, Reply
from proxy.transport import ResponseHead

HOLD_SECONDS = 10.0  # how long a streamed answer's head may wait for its first event
HOLD_BYTES = 1024 * 1024  # and how much of comments and role chunks may wait with it
_DEFECTS = {FaultKind.PROTOCOL: "format", FaultKind.TRUNCATED: "truncated"}
GLANCE_AFTER = 8  # tokens; learning what they look like costs as much as decoding five


class StreamRelay(Relay):
    """Decodes each read, writes what it means to the client, one write per read."""

    __slots__ = (
        *("_contents", "_decoder", "_glance", "_glanced", "_held", "_held_bytes", "_hold_until"),
        *("_idle_seconds", "_read_before", "_silence", "_speak_at", "_speaks_early"),
        *("_spoke_at", "_verdict", "_whole", "_writer"),
    )

    def __init__(
        self, plan: Plan, reply: Reply, account: Account, on_answer: Callable[[], None]
    ) -> None:
        super().__init__(plan, reply, account, on_answer)
        self._decoder: StreamDecoder = plan.route.dialect.stream_decoder(
            plan.limits.max_event_bytes
        )
        self._writer: Writer = writer_for(plan, self._decoder)
        self._glance = Glance(plan.limits.max_event_bytes) if plan.exact else None
        self._verdict = Verdict(account)
        self._idle_seconds = plan.timeouts.idle_seconds
        self._contents = 0
        self._glanced = 0  # events that the decoder did not see
        self._read_before = account.events_in  # by earlier attempts
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._hold_until = inf
        keep_alive = plan.keep_alive
        self._silence = inf if keep_alive.mode == "off" else keep_alive.interval_seconds
        self._speaks_early = keep_alive.mode == "early" and bool(plan.client.keepalive)
        self._speak_at = account.started + self._silence if self._speaks_early else inf
        self._spoke_at = 0.0  # when the client was last told something that is no token
        self._whole: bytearray | None = None  # a JSON answer where a stream was asked for

    # -- the handler's and the sweep's side

    def abandon(self) -> None:
        """The client is gone; if it has its whole answer, that is no failure."""
        if self._verdict.ended:
            self._finish_whole()
        else:
            super().abandon()

    def fail(self, fault: Fault) -> None:
        """End with this fault, unless only the upstream's last, meaningless bytes are missing."""
        if self._verdict.ended:
            self._finish_whole()
        else:
            super().fail(fault)

    def report(self) -> None:
        """How many events were read and, unless they are held back still, written."""
        read = self._glanced + self._decoder.frames
        self.account.events_in = self._read_before + read
        if self.reply.started:
            self.account.events_out = self._writer.frames(read) + self._told

    def tick(self, now: float) -> None:
        """Also open the stream to the client when its first event is long in coming."""
        super().tick(now)
        if self.ending is not None or self._verdict.ended:
            return
        if self.reply.started:
            self._break_silence(now)
        elif now >= self._hold_until or now >= self._speak_at:
            self._open(b"")
        self.due = min(self.due, self._next_word_at())

    # -- the transport's side

    def accept(self, head: ResponseHead) -> None:
        """A stream begins; or a whole answer, or an error, told as JSON with a 200."""
        kind = head.headers.get(b"content-type") or b""
        if kind.startswith(b"text/html"):
            self.fail(upstream_fault(FaultKind.PROTOCOL, "the model server sent a web page"))
        elif kind.startswith(b"application/json"):
            self._whole = bytearray()
            self._writer = TranslatingWriter(self._named_plan())  # it is to become a stream
        self.reply_headers += passed_on(head)
        if (cached := cached_in(head)) is not None:
            self._decoder = CachedDecoder(self._decoder, cached)
        now = monotonic()
        self._await(Clock.FIRST_TOKEN, now, self.plan.timeouts.first_token_seconds)
        self._hold_until = now + HOLD_SECONDS

    def take(self, data: bytes) -> None:
        """Decode what a glance does not tell, take note, write."""
        # per token
        if self._verdict.ended:
            return
        if self._whole is not None:
            self._collect(data)
            return
        glance = self._glance if self._contents > GLANCE_AFTER else None
        if glance is not None and (contents := glance.dull(data)):
            self.account.contents += contents
            self._glanced += contents
            self.account.last_token = monotonic()
            if not self.reply.write(data):  # the answer has begun, and nothing of this ends it
                self._brake()
            self._restart_idle_clock()
            return
        try:
            events = self._decoder.feed(data)
        except ParseError as error:
            if isinstance(error, FrameTooLarge):
                self.malformed = "too_large"
                self._take_before(error, data)
            self.fail(upstream_fault(FaultKind.PROTOCOL, str(error)))
            return
        if glance is not None and not self._decoder.odd:
            glance.learn(data, events)
        if events:
            self._verdict.read(events)
        self._pass_on(self._writer.render(data, events))

    def close(self) -> None:
        """The body ended as framed; whether the answer did is for the dialect to say."""
        if self._verdict.ended:
            self._finish_whole()
            return
        try:
            events = self._last_events()
        except ParseError as error:
            self.fail(upstream_fault(FaultKind.PROTOCOL, str(error)))
            return
        self._verdict.read(events)
        self._pass_on(self._writer.render_last(events))
        self._finish_whole()

    # -- inside

    def _take_before(self, error: FrameTooLarge, data: bytes) -> None:
        """Pass on what the same read completed before what is too large."""
        if not error.events:
            return
        events = cast(Sequence[StreamEvent], error.events)
        self._verdict.read(events)
        self._pass_on(self._writer.render_before(data, events))

    def _next_word_at(self) -> float:
        """When the client is to hear something, should nothing come until then."""
        if not self.reply.started:
            return min(self._hold_until, self._speak_at)
        if self._braked or not self.plan.client.keepalive:
            return inf
        return max(self.account.last_token or 0.0, self._spoke_at) + self._silence

    def _break_silence(self, now: float) -> None:
        """Write a comment if nothing was for long: between frames, so no frame is cut."""
        since = max(self.account.last_token or 0.0, self._spoke_at)
        comment = self.plan.client.keepalive
        if not comment or self._braked or now < since + self._silence:
            return
        if self._speaks_early or self._verdict.visible:
            self._spoke_at = now
            if not self.reply.write(comment):
                self._brake()

    def _pass_on(self, out: bytes) -> None:
        """Write what one read gave, then end if that was the end."""
        # per token
        verdict = self._verdict
        if not self.reply.started:
            self._hold_or_open(out)
        elif verdict.ended:
            self.reply.end(out)
        elif out and not self.reply.write(out):
            self._brake()
        if verdict.fault is not None:
            self.fail(verdict.fault)
        elif verdict.ended:
            self._await_last_bytes()
        elif self._contents != self.account.contents:
            self._restart_idle_clock()

    def _hold_or_open(self, out: bytes) -> None:
        if self._verdict.ended:
            self._open(out, whole=True)
        elif self._verdict.visible:
            self._open(out)
        elif out:
            self._held.append(out)
            self._held_bytes += len(out)
            if self._held_bytes > HOLD_BYTES:
                self._open(b"")

    def _open(self, out: bytes, *, whole: bool = False) -> None:
        """Tell the client that its stream begins, with everything held so far."""
        self.account.status = 200
        self._spoke_at = monotonic()
        self.due = 0.0
        self._on_answer()
        first = b"".join([*self._held, out])
        self.reply.start(self.reply_headers + EVENT_STREAM, first, whole=whole)
        self._held.clear()

    def _restart_idle_clock(self) -> None:
        """Only content resets it: comments and role-only chunks are no tokens."""
        # per token
        self._contents = self.account.contents
        if self._clock is not Clock.IDLE:
            self._clock = Clock.IDLE
            self.due = 0.0  # it may run out earlier than the one before
        if self.account.last_token is not None and not self._braked:
            self._clock_at = self.account.last_token + self._idle_seconds

    def _await_last_bytes(self) -> None:
        """The client has everything; let the upstream end its body, so the connection is kept."""
        self._await(Clock.IDLE, monotonic(), LINGER_SECONDS)

    def _finish_whole(self) -> None:
        if self.ending is None:
            self._drop_connection()
            self._finish(Ending(self._verdict.outcome))

    def _finish(self, ending: Ending) -> None:
        """End, once; say what there was to read and how it was."""
        if self.ending is None:
            self.report()
            if not self.malformed:
                self.malformed = _defect(ending.fault) or ("mended" if self._decoder.odd else "")
        super()._finish(ending)

    def _named_plan(self) -> Plan:
        """The plan with a name for the answer; on the exact path that is the upstream's to give."""
        account, now = self.account, datetime.now(UTC)
        identity = Identity(account.request_id, int(now.timestamp()), account.model)
        return msgspec.structs.replace(self.plan, identity=identity)

    def _collect(self, data: bytes) -> None:
        assert self._whole is not None  # noqa: S101 - the caller looked
        self._whole += data
        if len(self._whole) > self.plan.limits.max_event_bytes:
            self.fail(upstream_fault(FaultKind.PROTOCOL, "the model server's answer is too large"))

    def _last_events(self) -> list[StreamEvent]:
        if self._whole is not None:
            return self.plan.route.dialect.decode_body(bytes(self._whole))
        return self._decoder.close()


def _defect(fault: Fault | None) -> str:
    return "" if fault is None else _DEFECTS.get(fault.kind, "")
