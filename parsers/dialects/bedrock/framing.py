"""An answer in an AWS event stream: messages to events, exceptions to faults, and the verdict.

What Bedrock's streams have in common (upstreams.md 8). An exception may come in any place, as the
first message too, and its type may be one that nobody has heard of. A stream that ends without
the model's own end mark was cut off, however politely it was closed.
"""

from __future__ import annotations

import msgspec

from parsers.dialects import faults, repair
from parsers.dialects.framing import PayloadReader
from parsers.errors import BadFrame, BadPayload
from parsers.events import Ended, Failed, Fault, FaultKind, StreamEvent
from parsers.eventstream import EventStreamDecoder, Message

_TRUNCATED = Failed(Fault(FaultKind.TRUNCATED, "upstream", "upstream's answer broke off"))
_ODD = Failed(
    Fault(FaultKind.PROTOCOL, "upstream", "upstream sent an event that is not its format")
)


class MessageDecoder:
    """A StreamDecoder over an event stream; the reader is given each event under its type.

    `marked` says whether a reader that is complete has seen the end mark.
    """

    def __init__(self, reader: PayloadReader, max_event_bytes: int, *, marked: bool) -> None:
        self._reader = reader
        self._marked = marked
        self._messages = EventStreamDecoder(max_message_bytes=max_event_bytes)
        self._over = False
        self.frames = 0

    odd = False  # no client speaks it

    @property
    def pending_bytes(self) -> int:
        """How many bytes belong to an event that is not complete."""
        return 0 if self._over else self._messages.pending_bytes

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that these bytes complete; bytes that are no event stream end in `Failed`."""
        # per token
        if self._over:
            return []
        try:
            messages = self._messages.feed(data)
        except BadFrame as defect:
            before = [each for each in defect.messages if isinstance(each, Message)]
            return self._take_last(before, defect)
        return self._take_all(messages)

    def close(self) -> list[StreamEvent]:
        """The verdict. A message that was cut off does no harm after the end mark."""
        if self._over:
            return []
        self._over = True
        return [Ended(marked=self._marked)] if self._reader.complete else [_TRUNCATED]

    def _take_last(self, messages: list[Message], defect: BadFrame) -> list[StreamEvent]:
        events = self._take_all(messages)
        if not self._over:
            self._over = True
            events.append(Failed(Fault(FaultKind.PROTOCOL, "upstream", _defective(defect))))
        return events

    def _take_all(self, messages: list[Message]) -> list[StreamEvent]:
        # per token
        events: list[StreamEvent] = []
        self.frames += len(messages)
        for message in messages:
            if self._take(message, events):
                self._over = True
                break
        return events

    def _take(self, message: Message, events: list[StreamEvent]) -> bool:
        # per token
        headers = message.headers
        if headers.get(":message-type") != "event":
            fault = _fault_of(message)
            if fault is not None:
                events.append(Failed(fault))
            return fault is not None
        try:
            return self._reader.read(message.payload, str(headers.get(":event-type")), events)
        except BadPayload:
            events.append(_ODD)
            return True


def _defective(defect: BadFrame) -> str:
    return f"upstream's event stream is broken: {defect}"


class _Exception(msgspec.Struct, frozen=True):
    message: str | None = None


_EXCEPTION = msgspec.json.Decoder(_Exception)


def _fault_of(message: Message) -> Fault | None:
    """What an exception or an error is about; None for a message of another kind."""
    headers = message.headers
    match headers.get(":message-type"):
        case "exception":
            text = _text_of(message.payload)
            return faults.from_words(text, type=_word(headers.get(":exception-type")))
        case "error":
            text = _word(headers.get(":error-message"))
            return faults.from_words(text, type=_word(headers.get(":error-code")))
        case _:
            return None


def _text_of(payload: bytes) -> str | None:
    try:
        return repair.decode(_EXCEPTION, payload).message
    except BadPayload:
        return payload.decode("utf-8", "replace") or None


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None
