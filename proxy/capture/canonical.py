"""A text as it reads whatever way it is quoted, and where each of its bytes stands.

JSON, JSON inside a JSON text, Python's `repr`, percent-encoding and HTML write one text in many
ways. Both the text that is looked for and the bytes that are searched are brought into one form,
so that the form in which something was sent does not matter. The form is not meant to be read: all
quoting is taken off, also what only looks like it, and two texts that come to the same are taken
for the same.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

# How often a text may be quoted. Each round takes a layer off, and somebody may send a thousand.
_MAX_LAYERS = 6

# Each alternative begins with a plain byte: so `re` looks for these bytes first, which is fast.
_ESCAPE = re.compile(
    rb"\\\\*u([dD][89abAB][0-9a-fA-F]{2})\\+u([dD][c-fC-F][0-9a-fA-F]{2})"  # a pair, in UTF-16
    rb"|\\\\*u([0-9a-fA-F]{4})|\\\\*U([0-9a-fA-F]{8})"
    rb"|\\\\*x([0-9a-fA-F]{2})|%([0-9a-fA-F]{2})"
    rb"|&#([0-9]{2,7});|&#[xX]([0-9a-fA-F]{2,6});"
    rb"|&(amp|lt|gt|quot|apos);"
    rb"|\xc2([\x80-\xbf])|\xc3([\x80-\xbf])"  # in UTF-8 what `repr` and Latin-1 have as one byte
    rb"|\\\\*"
)
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
# Backslashes are left out, so a line feed and the "n" of its escape become the same; a plus sign in
# a query is a space.
_LETTERS = bytes.maketrans(b"\n\r\t\b\f+", b"nrtbf ")


class Canonical:
    """The form of some bytes; `spot` leads from it back to them."""

    def __init__(self, data: bytes) -> None:
        self._layers: list[_Layer] = []
        while len(self._layers) < _MAX_LAYERS and _ESCAPE.search(data):
            self._layers.append(_Layer(data))
            data = self._layers[-1].text
        self.text = data.translate(_LETTERS)

    def spot(self, begin: int, end: int) -> tuple[int, int]:
        """Where these bytes of the form stand in the data; not for an empty range."""
        for layer in reversed(self._layers):
            begin, end = layer.place(begin)[0], layer.place(end - 1)[1]
        return begin, end


class _Layer:
    """Some bytes with one layer of quoting taken off."""

    def __init__(self, data: bytes) -> None:
        self._starts: list[int] = []  # of each piece, in the text
        self._raw: list[tuple[int, int, bool]] = []  # each piece's begin and end; as they are?
        parts = []
        size = 0
        for begin, end, meant in _pieces(data):
            self._starts.append(size)
            self._raw.append((begin, end, meant is None))
            parts.append(data[begin:end] if meant is None else meant)
            size += len(parts[-1])
        self.text = b"".join(parts)

    def place(self, at: int) -> tuple[int, int]:
        """Where a byte of the text stands, with all the quoting that makes it."""
        index = bisect_right(self._starts, at) - 1
        begin, end, is_plain = self._raw[index]
        if not is_plain:
            return begin, end
        begin += at - self._starts[index]
        return begin, begin + 1


def _pieces(data: bytes) -> Iterator[tuple[int, int, bytes | None]]:
    """Begin and end of each piece, and what it stands for; None: for itself."""
    at = 0
    for found in _ESCAPE.finditer(data):
        if at < found.start():
            yield at, found.start(), None
        at = found.end()
        meant = _meant(found)
        if meant:  # nothing for a backslash before a letter
            yield found.start(), at, meant
    if at < len(data):
        yield at, len(data), None


def _meant(found: re.Match[bytes]) -> bytes:
    if found.lastindex is None:
        return b""
    if found.lastindex == 2:
        return bytes.fromhex((found[1] + found[2]).decode()).decode("utf-16-be").encode()
    return _MEANINGS[found.lastindex](found[found.lastindex])


def _utf8(number: int) -> bytes:
    return chr(number).encode("utf-8", "surrogatepass") if number < 0x110000 else b""


def _code_point(digits: bytes) -> bytes:
    return _utf8(int(digits, 16))


def _byte(digits: bytes) -> bytes:
    return bytes((int(digits, 16),))


# By the number of the group in `_ESCAPE`.
_MEANINGS: Mapping[int, Callable[[bytes], bytes]] = MappingProxyType(
    {
        3: _code_point,
        4: _code_point,
        5: _byte,
        6: _byte,
        7: lambda digits: _utf8(int(digits)),
        8: _code_point,
        9: _ENTITIES.__getitem__,
        10: bytes,
        11: lambda low: bytes((low[0] + 0x40,)),
    }
)
