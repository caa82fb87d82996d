"""Where heads and bodies stand in the bytes of an HTTP message, whole or cut off anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

_BLANK = b"\r\n\r\n"
_LINE = re.compile(rb"([!#-'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*([^\r\n]*)")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d")


class Field(msgspec.Struct, frozen=True):
    """A header of a message, and where its value stands."""

    name: bytes  # in lower case
    value: bytes
    begin: int
    end: int


class Message(msgspec.Struct, frozen=True):
    """A request or a response, as far as it came."""

    size: int  # in bytes
    first: tuple[int, int]  # the request or status line
    fields: tuple[Field, ...]  # of all heads, and of the trailers
    body: tuple[tuple[int, int], ...]  # without what frames it
    is_chunked: bool = False

    @property
    def frame(self) -> tuple[tuple[int, int], ...]:
        """What frames the body: the head, and what stands between chunks and after them."""
        ends = (0, *(end for _, end in self.body))
        begins = (*(begin for begin, _ in self.body), self.size)
        return tuple(zip(ends, begins, strict=True))

    def value(self, name: bytes) -> bytes:
        """The value of a header; empty without one."""
        return next((field.value for field in self.fields if field.name == name), b"")


def message(data: bytes) -> Message:
    """The message that these bytes are, or begin; of what is none, all is body."""
    fields: list[Field] = []
    begin, end = 0, _head_end(data, 0)
    while True:
        fields += _fields(data, begin, end)
        if _INTERIM.match(data, begin) is None or end == len(data):
            break
        begin, end = end, _head_end(data, end)
    first = (begin, _line_end(data, begin, end))
    found = Message(len(data), first, tuple(fields), ((end, len(data)),))
    if b"chunked" not in found.value(b"transfer-encoding").lower():
        return found
    body, rest = _chunks(data, end)
    trailers = _fields(data, rest, len(data)) if rest < len(data) else ()
    return Message(len(data), first, (*fields, *trailers), tuple(body), is_chunked=True)


def _head_end(data: bytes, at: int) -> int:
    found = data.find(_BLANK, at)
    return len(data) if found < 0 else found + len(_BLANK)


def _line_end(data: bytes, begin: int, end: int) -> int:
    found = data.find(b"\n", begin, end)
    return end if found < 0 else found + 1


def _fields(data: bytes, begin: int, end: int) -> Iterator[Field]:
    for line in re.finditer(rb"[^\r\n]+", data[begin:end]):
        found = _LINE.match(line[0])
        if found is not None:
            at = begin + line.start() + found.start(2)
            yield Field(found[1].lower(), found[2], at, at + len(found[2]))


def _chunks(data: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    """Where the chunks stand, and where they end; what is no chunk counts as body."""
    body: list[tuple[int, int]] = []
    while (found := _CHUNK.match(data, at)) is not None:
        begin, size = found.end(), int(found[1], 16)
        if size == 0:
            return body, begin
        body.append((begin, min(begin + size, len(data))))
        at = begin + size + len(b"\r\n")
    if at < len(data):
        body.append((at, len(data)))
    return body, len(data)
