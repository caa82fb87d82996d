"""An answer in server-sent events: bytes to payloads, and the verdict at the end.

What every dialect over SSE has in common stands here (upstreams.md 0): broken keep-alives are
skipped, an error may hide in lines that are no event, an event cut off by the end of the body is
none, and a body that ends without an end mark is a failure unless the dialect says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from parsers.dialects import faults
from parsers.dialects.stray import StrayLines
from parsers.errors import BadPayload, FrameTooLarge
from parsers.events import Ended, Failed, Fault, FaultKind, StreamEvent
from parsers.sse import SSEEvent, SSEParser

_TRUNCATED = Fault(FaultKind.TRUNCATED, "upstream", "upstream's answer broke off")
_ODD = Failed(
    Fault(FaultKind.PROTOCOL, "upstream", "upstream sent an event that is not its format")
)


class PayloadReader(Protocol):
    """What a dialect makes of the events of one answer."""

    @property
    def complete(self) -> bool:
        """Whether the answer is whole, should the body end here without an end mark."""

    @property
    def started(self) -> bool:
        """Whether the answer has begun."""

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether the last of it is terminal.

        Raises BadPayload for what is not of the dialect, after appending what came before it.
        """


class AnswerDecoder:
    """A StreamDecoder over SSE. `decode_body` is for a whole answer sent in place of a stream."""

    def __init__(
        self,
        reader: PayloadReader,
        decode_body: Callable[[bytes], list[StreamEvent]],
        max_event_bytes: int,
        *,
        named: bool = False,
    ) -> None:
        self._named = named  # the dialect's own clients go by the names of events
        self._odd = False
        self._reader = reader
        self._decode_body = decode_body
        self._stray = StrayLines()
        self._parser = SSEParser(
            flush_at_eof=True, max_event_bytes=max_event_bytes, on_unknown=self._keep_stray
        )
        # Told by a line `error: …`, and how many events of its read came before it.
        self._fault: Fault | None = None
        self._events_before_fault = 0
        self._over = False
        self.frames = 0

    @property
    def pending_bytes(self) -> int:
        """How many of the bytes fed last belong to an event that is not complete."""
        return 0 if self._over else self._parser.pending_bytes

    @property
    def odd(self) -> bool:
        """Whether there was what the dialect's own clients fail on, and we do not."""
        return self._odd or self._parser.odd

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that these bytes complete.

        Raises FrameTooLarge, with the events before it, beyond the event limit.
        """
        # per token
        if self._over:
            return []
        try:
            frames = self._parser.feed(data)
        except FrameTooLarge as error:
            before = [frame for frame in error.events if isinstance(frame, SSEEvent)]
            raise FrameTooLarge(
                str(error), kind=error.kind, events=self._take_all(before)
            ) from None
        return self._take_all(frames)

    def close(self) -> list[StreamEvent]:
        """The last events: of an event without its blank line if it is whole, and the verdict."""
        if self._over:
            return []
        events = self._take_all(self._parser.close())
        if events == [_ODD]:  # cut in its middle
            events = self._verdict()
        elif not self._over:
            events += self._verdict()
        self._over = True
        return events

    def _keep_stray(self, name: bytes, value: bytes) -> None:
        if name == b"error" and self._fault is None:
            self._fault = faults.recognise(value, "error")
            self._events_before_fault = self._parser.completed
        self._stray.add(name, value)

    def _take_all(self, frames: list[SSEEvent]) -> list[StreamEvent]:
        # per token
        events: list[StreamEvent] = []
        self.frames += len(frames)
        fault = self._fault
        if fault is not None:  # what came after it does not count, however it was cut into reads
            frames = frames[: self._events_before_fault]
        named = self._named
        for frame in frames:
            if named and not frame.event:
                self._odd = True
            try:
                over = self._reader.read(frame.data, frame.event, events)
            except BadPayload:
                self._odd = True
                over = _read_odd(frame, events)
            if over:
                self._over = True
                return events
        if fault is not None:
            self._over = True
            events.append(Failed(fault))
        return events

    def _verdict(self) -> list[StreamEvent]:
        """How a body without an end mark ended."""
        stray = self._stray.body
        fault = faults.recognise(stray) if stray else None
        if fault is not None:
            return [Failed(fault)]
        if self._reader.complete:
            return [Ended(marked=False)]
        if stray and not self._reader.started:
            return self._decode_body(stray)
        return [Failed(_TRUNCATED)]


def _read_odd(frame: SSEEvent, events: list[StreamEvent]) -> bool:
    """A payload that its dialect cannot read: a broken keep-alive, an error, or a surprise."""
    payload = frame.data.strip()
    if (not payload or payload.startswith(b":")) and frame.event != "error":
        return False
    fault = faults.recognise(payload, frame.event)
    events.append(Failed(fault) if fault else _ODD)
    return True
