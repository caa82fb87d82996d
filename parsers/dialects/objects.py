"""Texts that should be JSON objects: the arguments of calls, as models write them."""

from __future__ import annotations

import msgspec

from parsers.dialects.base import Members
from parsers.dialects.repair import NOT_JSON

EMPTY_OBJECT = msgspec.Raw(b"{}")

_OBJECT: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)


def object_of(text: str, member: str = "_raw") -> msgspec.Raw:
    """The text as an object, byte for byte if it is one; nothing is the empty object.

    Any other text, a model's mistake in most cases, becomes this member of one: servers that want
    an object refuse everything else, and nothing is to be lost (translation.md 2).
    """
    if not text.strip():
        return EMPTY_OBJECT
    try:
        _OBJECT.decode(text)
    except NOT_JSON:
        return object_with(member, text)
    return msgspec.Raw(text.encode())


def object_with(member: str, text: str) -> msgspec.Raw:
    """The object with this text as its only member."""
    return msgspec.Raw(msgspec.json.encode({member: text}))
