"""What the client is sent for one read of a stream: its own bytes, or its translation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from parsers.dialects.base import ExactDialect, StreamDecoder, UpstreamDialect
from parsers.errors import FrameTooLarge
from parsers.events import Failed, StreamEvent, Usage
from parsers.sse import frames
from proxy.relay.plan import Plan


class Writer(Protocol):
    """Makes the bytes for the client."""

    def frames(self, read: int) -> int:
        """How many events it made of so many that were read."""

    def render(self, data: bytes, events: Sequence[StreamEvent]) -> bytes:
        """For one read and the events it completed."""

    def render_before(self, data: bytes, events: Sequence[StreamEvent]) -> bytes:
        """For a read with these events, and then one that is too large: nothing follows it."""

    def render_last(self, events: Sequence[StreamEvent]) -> bytes:
        """For the events that the end of the body brought."""


def writer_for(plan: Plan, decoder: StreamDecoder) -> Writer:
    """The writer that a plan asks for; `decoder` is the one that watches the stream."""
    if plan.exact is None:
        return TranslatingWriter(plan)
    return ExactWriter(plan, plan.exact, decoder)


class TranslatingWriter:
    """Encodes each event in the client's dialect."""

    def __init__(self, plan: Plan) -> None:
        self._encode = plan.client.stream_encoder(
            plan.identity, include_usage=plan.include_usage
        ).encode
        self._frames = 0

    def frames(self, read: int) -> int:  # noqa: ARG002
        """As many as there are blank lines in what it gave: all our encoders write LF."""
        return self._frames

    def render(self, data: bytes, events: Sequence[StreamEvent]) -> bytes:  # noqa: ARG002
        """The events, without a failure, which the relay tells."""
        # per token
        out = b"".join([self._encode(e) for e in events if type(e) is not Failed])
        self._frames += out.count(b"\n\n")
        return out

    def render_before(self, data: bytes, events: Sequence[StreamEvent]) -> bytes:
        """As `render`."""
        return self.render(data, events)

    def render_last(self, events: Sequence[StreamEvent]) -> bytes:
        """As `render`."""
        return self.render(b"", events)


class ExactWriter:
    """Gives every whole frame as read.

    Four exceptions, each settled by a decision record: frames that only report the usage which
    we asked for and the client did not; a failure's own frame and what follows it, which the
    relay tells in the client's dialect; the blank line that a last frame may lack; and from where a
    stream holds what the dialect's own clients cannot read on, frames with the same data and
    nothing of that.
    """

    def __init__(self, plan: Plan, client: ExactDialect, decoder: StreamDecoder) -> None:
        self._decoder = decoder
        self._client = client
        self._upstream: UpstreamDialect = plan.route.dialect
        self._max_event_bytes = plan.limits.max_event_bytes
        self._drops_usage = not plan.include_usage
        self._tail: list[bytes] = []
        self._left_out = 0

    def frames(self, read: int) -> int:
        """All but the few that are left out."""
        return read - self._left_out

    def render(self, data: bytes, events: Sequence[StreamEvent]) -> bytes:
        """The frames that this read completed."""
        # per token
        out = data if not self._tail and not self._decoder.pending_bytes else self._cut(data)
        if self._decoder.odd:
            out = self._client.mended(out)
        for event in events:
            if type(event) is Usage and self._drops_usage:
                out = self._without_usage(out)
            elif type(event) is Failed:
                return self._before_failure(out)
        return out

    def render_before(self, data: bytes, events: Sequence[StreamEvent]) -> bytes:
        """The frames of this read before the one that is too large."""
        whole = self._readable(b"".join([*self._tail, data]))
        self._tail = []
        self._decoder = self._upstream.stream_decoder()  # after a failure theirs tells no more
        self._decoder.feed(whole)
        return self.render(whole, events)

    def render_last(self, events: Sequence[StreamEvent]) -> bytes:
        """The last frame where it lacks its blank line, and is not a failure."""
        tail, self._tail = b"".join(self._tail), []
        if not tail or any(type(event) is Failed for event in events):
            return b""
        whole = tail + b"\n\n"
        if self._decoder.odd:
            whole = self._client.mended(whole)
        told_usage = any(type(event) is Usage for event in events)
        return self._without_usage(whole) if told_usage and self._drops_usage else whole

    def _without_usage(self, out: bytes) -> bytes:
        # per token
        rest = self._client.without_usage(out)
        if len(rest) != len(out):
            self._left_out += _blank_lines(out) - _blank_lines(rest)
        return rest

    def _cut(self, data: bytes) -> bytes:
        """Whole frames now, the rest when it is whole."""
        pending = self._decoder.pending_bytes
        self._tail.append(data)
        if pending >= len(data):
            return b""
        held = b"".join(self._tail)
        cut = len(held) - pending
        self._tail = [held[cut:]] if pending else []
        return held[:cut]

    def _readable(self, held: bytes) -> bytes:
        """The whole frames before the first that is too large."""
        probe = self._upstream.stream_decoder(self._max_event_bytes)
        good = []
        for frame in frames(held):
            try:
                probe.feed(frame)
            except FrameTooLarge:
                break
            if probe.pending_bytes:
                break
            good.append(frame)
        return b"".join(good)

    def _before_failure(self, out: bytes) -> bytes:
        """The frames before the one that tells of a failure."""
        probe = self._upstream.stream_decoder()
        good, whole = [], frames(out)
        for frame in whole:
            if any(type(event) is Failed for event in probe.feed(frame)):
                break
            good.append(frame)
        self._left_out += len(whole) - len(good)
        return b"".join(good)


def _blank_lines(data: bytes) -> int:
    return data.count(b"\n\n") + data.count(b"\r\n\r\n")
