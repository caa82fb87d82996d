"""Faults in the words of Responses: the event `error`, and the error of a failed answer."""

from __future__ import annotations

import msgspec

from parsers.dialects.openai import errors
from parsers.events import Fault
from parsers.sse import encode_event

_Object = dict[str, object]


class Words(msgspec.Struct, frozen=True):
    """An error as OpenAI has it."""

    message: str
    type: str
    param: str | None
    code: str | int | None


class _Envelope(msgspec.Struct, frozen=True):
    error: Words


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def words_of(fault: Fault) -> Words:
    """The same words as in the body of a refusal, but that a code is a text here."""
    words = _ENVELOPE.decode(errors.encode_error(fault)).error
    if isinstance(words.code, int):
        return msgspec.structs.replace(words, code=str(words.code))
    return words


def error_event(fault: Fault, sequence_number: int | None = None) -> bytes:
    """The frame `error`. Its number is left out where nobody counted.

    The published schema has code and message at the top, the wire has them in `error`, and the
    SDKs raise on that alone (upstreams.md 5): readers of both find them.
    """
    words = words_of(fault)
    event: _Object = {"type": "error"}
    if sequence_number is not None:
        event["sequence_number"] = sequence_number
    event |= {"code": words.code, "message": words.message, "param": words.param, "error": words}
    return encode_event(msgspec.json.encode(event), "error")


def failure(fault: Fault) -> _Object:
    """`error` of a failed answer, where a code is a must."""
    words = words_of(fault)
    return {"code": words.code or words.type, "message": words.message}
