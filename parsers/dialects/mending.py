"""Frames as the official clients of a dialect can read them, where a server writes otherwise.

Measured (upstreams.md 0): OpenAI's SDK loses the first event to a byte order mark, and dies of an
event without data, of a comment after an `id:`, of two values in one payload, and of a byte that
is not UTF-8. Anthropic's passes over every event without a name, and so hears nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from parsers.dialects import repair
from parsers.errors import BadPayload
from parsers.sse import SSEParser, encode_event

# The values of a payload that is several, else the payload itself. Raises BadPayload.
Split: TypeAlias = Callable[[bytes], list[bytes]]


class _Typed(msgspec.Struct, frozen=True):
    type: str


_TYPED = msgspec.json.Decoder(_Typed)


def mended(frames: bytes, *, split: Split | None = None, named: bool = False) -> bytes:
    """The events of whole frames, each with nothing but its name and its data.

    `named` gives the name that stands in the payload to those without one.
    """
    out = []
    for event in SSEParser().feed(frames):
        if not event.data.strip() or event.data.startswith(b":"):  # a broken keep-alive
            continue
        values = [event.data] if split is None else _split(event.data, split)
        name = event.event or (_type_in(event.data) if named else "")
        out += [encode_event(value, name) for value in values]
    return b"".join(out)


def readable(body: bytes) -> bytes:
    """A whole answer as read; what is not UTF-8, on which every client fails, becomes U+FFFD."""
    if body.isascii():
        return body
    try:
        body.decode()
    except UnicodeDecodeError:
        return body.decode(errors="replace").encode()
    return body


def _split(payload: bytes, split: Split) -> list[bytes]:
    try:
        values = split(payload)
    except BadPayload:  # the end mark
        return [payload]
    return values if len(values) > 1 else [payload]


def _type_in(payload: bytes) -> str:
    try:
        name = _TYPED.decode(payload).type
    except repair.NOT_JSON:
        return ""
    return name if name.isprintable() else ""
