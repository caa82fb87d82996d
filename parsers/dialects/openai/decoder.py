"""The bytes of a chat completion, streamed or whole, as events.

Rules of upstreams.md 0: an error is looked for before anything else; `[DONE]` ends a stream and
does not make it a success; an end without it is one only if every choice was finished; empty
payloads and those that begin with a colon are broken keep-alives.
"""

from __future__ import annotations

import re

from parsers.dialects import faults, repair
from parsers.dialects.base import MAX_EVENT_BYTES
from parsers.dialects.openai.chunks import ChunkReader
from parsers.dialects.openai.wire import CHUNK, FIRST_CHUNK, Chunk
from parsers.dialects.repair import NOT_JSON
from parsers.dialects.stray import StrayLines
from parsers.errors import BadPayload, FrameTooLarge
from parsers.events import Ended, Failed, Fault, FaultKind, StreamEvent
from parsers.sse import SSEEvent, SSEParser

_DONE = b"[DONE]"

_TRUNCATED = Fault(FaultKind.TRUNCATED, "upstream", "upstream's answer broke off")
_NOT_JSON = Fault(FaultKind.PROTOCOL, "upstream", "upstream sent an event that is not its format")
_NO_ANSWER = Fault(FaultKind.PROTOCOL, "upstream", "upstream sent something that is not an answer")


class OpenAIDecoder:
    """One streamed answer. After its terminal event it gives nothing more."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._stray = StrayLines()
        self._parser = SSEParser(
            flush_at_eof=True, max_event_bytes=max_event_bytes, on_unknown=self._stray.add
        )
        self._reader = ChunkReader()
        self._decoder = FIRST_CHUNK
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
            complete = [event for event in error.events if isinstance(event, SSEEvent)]
            raise FrameTooLarge(
                str(error), kind=error.kind, events=self._take_all(complete)
            ) from None
        return self._take_all(frames)

    def close(self) -> list[StreamEvent]:
        """The last events: of an event without its blank line if it is whole, and the verdict."""
        if self._over:
            return []
        events = self._take_all([event for event in self._parser.close() if _is_whole(event.data)])
        if not self._over:
            events += self._verdict()
            self._over = True
        return events

    def _take_all(self, frames: list[SSEEvent]) -> list[StreamEvent]:
        # per token
        events: list[StreamEvent] = []
        for frame in frames:
            self._take(frame.data, frame.event, events)
            if self._over:
                return events
        if self._stray.fault is not None:
            self._fail(self._stray.fault, events)
        return events

    def _take(self, payload: bytes, name: str, events: list[StreamEvent]) -> None:
        # per token
        try:
            chunk = self._decoder.decode(payload)
        except NOT_JSON:
            self._take_odd(payload.strip(), name, events)
            return
        self._take_chunk(chunk, payload, name, events)

    def _take_chunk(
        self, chunk: Chunk, payload: bytes, name: str, events: list[StreamEvent]
    ) -> None:
        # per token
        if not chunk.choices or chunk.error or name == "error":
            fault = faults.recognise(payload, name)
            if fault is not None:
                self._fail(fault, events)
                return
        try:
            self._reader.read(chunk, events)
        except BadPayload:
            self._fail(_NOT_JSON, events)
            return
        if self._reader.started:
            self._decoder = CHUNK
        if events and type(events[-1]) is Failed:
            self._over = True

    def _take_odd(self, payload: bytes, name: str, events: list[StreamEvent]) -> None:
        """A payload that is no chunk: the end mark, a broken keep-alive, or a real surprise."""
        if payload == _DONE:
            events += self._reader.release()
            events.append(Ended(proven=self._reader.finished_any))
            self._over = True
        elif name != "error" and (not payload or payload.startswith(b":")):
            return
        elif (chunk := _repaired(payload)) is not None:
            self._take_chunk(chunk, payload, name, events)
        elif pieces := _concatenated(payload):
            for piece in pieces:
                if not self._over:
                    self._take(piece, name, events)
        else:
            self._fail(faults.recognise(payload, name) or _NOT_JSON, events)

    def _fail(self, fault: Fault, events: list[StreamEvent]) -> None:
        events.append(Failed(fault))
        self._over = True

    def _verdict(self) -> list[StreamEvent]:
        """How a stream without an end mark ended."""
        stray = self._stray.body
        fault = faults.recognise(stray) if stray else None
        if fault is not None:
            return [Failed(fault)]
        if self._reader.finished_all:
            return [Ended(marked=False)]
        if stray and not self._reader.started:
            return decode_body(stray)
        return [Failed(_TRUNCATED)]


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer, or the error or the page that came in its place, as events."""
    try:
        answer = repair.decode(FIRST_CHUNK, body)
    except BadPayload:
        return [Failed(faults.from_response(200, body))]
    if answer.error or not answer.choices:
        return [Failed(faults.recognise(body) or _NO_ANSWER)]
    reader, events = ChunkReader(), list[StreamEvent]()
    try:
        reader.read(answer, events)
    except BadPayload:
        return [Failed(_NO_ANSWER)]
    if not isinstance(events[-1], Failed):
        events += [*reader.release(), Ended()]
    return events


def _is_whole(payload: bytes) -> bool:
    """Whether an event without its blank line was cut by nothing but the blank line."""
    payload = payload.strip()
    return payload == _DONE or _repaired(payload) is not None


def _repaired(payload: bytes) -> Chunk | None:
    try:
        return repair.decode(FIRST_CHUNK, payload)
    except BadPayload:
        return None


# A tolerance, not a feature: what is larger or has more seams is refused, for each seam may cost
# a scan of the whole.
_MAX_SEAMS = 32
_MAX_CONCATENATED_BYTES = 1024 * 1024
_SEAM = re.compile(rb"\}[ \t\r\n]{0,8}\{")


def _concatenated(payload: bytes) -> list[bytes]:
    """The JSON values that a server wrote into one payload; empty if it is not that."""
    if len(payload) > _MAX_CONCATENATED_BYTES:
        return []
    values: list[bytes] = []
    start = 0
    for count, seam in enumerate(_SEAM.finditer(payload)):
        if count == _MAX_SEAMS:
            return []
        value = payload[start : seam.start() + 1]
        if _repaired(value) is not None:
            values.append(value)
            start = seam.end() - 1
    if start == 0 or _repaired(payload[start:]) is None:
        return []
    return [*values, payload[start:]]
