"""What the native protocols of model servers share that no client speaks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from parsers.dialects import faults
from parsers.dialects.base import MAX_EVENT_BYTES, Members, StreamDecoder
from parsers.dialects.framing import AnswerDecoder, PayloadReader
from parsers.errors import BadPayload
from parsers.events import Failed, Fault, StreamEvent

MakeReader: TypeAlias = Callable[[], PayloadReader]


class NativeServer:
    """The part of an upstream dialect that does not depend on its words."""

    reader: MakeReader

    def amend(self, members: Members) -> None:
        """Nothing: every request is written for it."""

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> StreamDecoder:
        """A decoder for one streamed answer."""
        return AnswerDecoder(self.reader(), self.decode_body, max_event_bytes)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole answer: the same object as the last one of a stream, with all of the text."""
        return read_whole(self.reader(), body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """As `decode_body`."""
        return self.decode_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, from whatever body came with it."""
        return faults.from_response(status, body)


def read_whole(reader: PayloadReader, body: bytes) -> list[StreamEvent]:
    """The events of a body that is one payload; PROTOCOL if it is none that ends an answer."""
    events: list[StreamEvent] = []
    try:
        over = reader.read(body, "", events)
    except BadPayload:
        over = False
    return events if over else [Failed(faults.from_response(200, body))]
