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
from parsers.events import TERMINAL, Ended, Failed, Fault, FaultKind, StreamEvent
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

    def read(self, payload: bytes, name: str) -> list[StreamEvent]:
        """What one event says; a terminal event is the last. Raises BadPayload."""


class AnswerDecoder:
    """A StreamDecoder over SSE. `decode_body` is for a whole answer sent in place of a stream."""

    def __init__(
        self,
        reader: PayloadReader,
        decode_body: Callable[[bytes], list[StreamEvent]],
        max_event_bytes: int,
    ) -> None:
        self._reader = reader
        self._decode_body = decode_body
        self._stray = StrayLines()
        self._parser = SSEParser(
            flush_at_eof=True, max_event_bytes=max_event_bytes, on_unknown=self._stray.add
        )
        self._started = False
        self._over = False

    @property
    def pending_bytes(self) -> int:
        """How many of the bytes fed last belong to an event that is not complete."""
        return 0 if self._over else self._parser.pending_bytes

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

    def _take_all(self, frames: list[SSEEvent]) -> list[StreamEvent]:
        # per token
        events: list[StreamEvent] = []
        for frame in frames:
            events += self._take(frame)
            if events and isinstance(events[-1], TERMINAL):
                self._over = True
                return events
        if events:
            self._started = True
        if self._stray.fault is not None:
            self._over = True
            events.append(Failed(self._stray.fault))
        return events

    def _take(self, frame: SSEEvent) -> list[StreamEvent]:
        # per token
        payload = frame.data.strip()
        if (not payload or payload.startswith(b":")) and frame.event != "error":
            return []
        try:
            return self._reader.read(payload, frame.event)
        except BadPayload:
            fault = faults.recognise(payload, frame.event)
            return [Failed(fault) if fault else _ODD]

    def _verdict(self) -> list[StreamEvent]:
        """How a body without an end mark ended."""
        stray = self._stray.body
        fault = faults.recognise(stray) if stray else None
        if fault is not None:
            return [Failed(fault)]
        if self._reader.complete:
            return [Ended(marked=False)]
        if stray and not self._started:
            return self._decode_body(stray)
        return [Failed(_TRUNCATED)]
