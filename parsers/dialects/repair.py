"""JSON as model servers really write it: broken UTF-8, halves of characters, absurd depth."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from parsers.errors import BadPayload

T = TypeVar("T")

# What msgspec leaves with on bytes that are not JSON for this decoder.
# DecodeError and UnicodeDecodeError are ValueErrors; RecursionError is for "[[[[…".
NOT_JSON = (ValueError, RecursionError)

# One escape sequence: a whole surrogate pair, a surrogate alone, or any other escape.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def decode(decoder: msgspec.json.Decoder[T], payload: bytes) -> T:
    """The value of one JSON payload, tried a second time after repairing its text.

    Raises BadPayload if it is no JSON, or not of the decoder's type, even then.
    """
    try:
        return decoder.decode(payload)
    except NOT_JSON:
        pass
    try:
        return decoder.decode(repaired(payload))
    except NOT_JSON as error:
        raise BadPayload("not the JSON that was expected") from error


def repaired(payload: bytes) -> bytes:
    """The payload with what is no Unicode replaced by U+FFFD.

    aimock cuts text by UTF-16 units, so that half of an emoji stands in one delta as
    `"\\ud83d"`; others cut UTF-8 in the middle of a character.
    """
    whole = payload.decode("utf-8", "replace").encode()
    return _ESCAPE.sub(_without_lone_surrogate, whole)


def _without_lone_surrogate(escape: re.Match[bytes]) -> bytes:
    return b"\\ufffd" if escape[1] else escape[0]
