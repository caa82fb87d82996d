"""What clients send, decoded with complaints that a client may read.

A complaint names the place and what was expected there; it never quotes what was sent.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from parsers.dialects.repair import NOT_JSON, repaired
from parsers.errors import BadPayload

T = TypeVar("T")


def decode(decoder: msgspec.json.Decoder[T], body: bytes | msgspec.Raw, at: str = "") -> T:
    """The value of a request body, or of its member `at`.

    Halves of surrogate pairs are repaired: Python clients can send them. Raises BadPayload with a
    text for the client.
    """
    try:
        try:
            return decoder.decode(body)
        except msgspec.ValidationError:
            raise
        except NOT_JSON:
            return decoder.decode(repaired(bytes(body)))
    except msgspec.ValidationError as error:
        raise BadPayload(complaint(str(error), at)) from None
    except NOT_JSON:
        raise BadPayload("the request body is not valid JSON") from None


# msgspec quotes the value in all its other messages.
_HARMLESS = ("Expected ", "Object missing required field ")


def complaint(message: str, at: str = "") -> str:
    """msgspec's message in our form: the path first (from `at` down), the value never."""
    what, _, path = message.partition(" - at `$")
    place = (at + path.rstrip("`")).removeprefix(".") or "the request body"
    if not what.startswith(_HARMLESS):
        what = "not a valid value"
    return f"{place}: {what[0].lower()}{what[1:]}"
