"""What a TGI server answers: the stream of tokens, and the one JSON object (tgi.md 4 and 6.1).

There is no `[DONE]`: the end is the first event whose `generated_text` is not null. Finish reason
and token counts stand there, and only if `parameters.details` was true; where they are missing
nothing is made up. A special token carries text that is no part of the answer.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from parsers.dialects import faults, repair
from parsers.errors import BadPayload
from parsers.events import (
    MAX_COUNT,
    Ended,
    Failed,
    Finished,
    FinishReason,
    StreamEvent,
    Text,
    Usage,
)

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _Token(msgspec.Struct, frozen=True, gc=False):
    text: str = ""
    special: bool = False


class _Details(msgspec.Struct, frozen=True, gc=False):
    finish_reason: str | None = None
    generated_tokens: _Count | None = None
    input_length: _Count | None = None  # in streams only, and not in those of old versions


class _Frame(msgspec.Struct, frozen=True, gc=False):
    token: _Token | None = None
    generated_text: str | None = None
    details: _Details | None = None


_FRAME = msgspec.json.Decoder(_Frame)
_BODY: msgspec.json.Decoder[_Frame | tuple[_Frame]] = msgspec.json.Decoder(_Frame | tuple[_Frame])

_REASONS = {
    "eos_token": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "content_filter": FinishReason.CONTENT_FILTER,  # no word of TGI's, but our own encoder's
}


class TokenReader:
    """The events of a `/generate_stream` answer."""

    complete = False  # the end mark is the only end

    def __init__(self) -> None:
        self.started = False

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether that ends the answer. Raises BadPayload."""
        # per token
        try:
            frame = repair.decode(_FRAME, payload)
        except BadPayload:
            if payload.strip() == b"[DONE]":  # not TGI's; some proxies put it after every stream
                return False
            raise
        token, text = frame.token, frame.generated_text
        if token is not None and token.text and not token.special:
            self.started = True
            events.append(Text(token.text))
        if text is not None:
            events += _end(frame.details)
            return True
        if token is None and (fault := faults.recognise(payload, name)) is not None:
            events.append(Failed(fault))
            return True
        return False


def _end(details: _Details | None) -> list[StreamEvent]:
    if details is None:
        return [Ended()]
    events: list[StreamEvent] = []
    if details.finish_reason:
        # A word that nobody knows is told as a stop, and stays in `raw`.
        reason = _REASONS.get(details.finish_reason, FinishReason.STOP)
        events.append(Finished(reason, raw=details.finish_reason))
    if details.input_length is not None and details.generated_tokens is not None:
        events.append(Usage(details.input_length, details.generated_tokens))
    events.append(Ended())
    return events


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer: an object, or on `POST /` an array with one object.

    There is no Usage among the events: TGI tells the length of the input in a header alone,
    `x-prompt-tokens`.
    """
    try:
        value = repair.decode(_BODY, body)
    except BadPayload:
        return [Failed(faults.from_response(200, body))]
    answer = value if isinstance(value, _Frame) else value[0]
    if answer.generated_text is None:
        return [Failed(faults.from_response(200, body))]
    text: list[StreamEvent] = [Text(answer.generated_text)] if answer.generated_text else []
    return text + _end(answer.details)
