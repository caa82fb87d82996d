"""Server-sent events (WHATWG HTML, section 9.2): bytes to events, and back.

Strategy: most reads bring exactly one event, and `feed` recognises that shape without touching
any state; a read of several such events is cut at its blank lines. Everything else is cut into
lines by `bytes.splitlines`, which knows the three line ends of the standard and no others, in C.
Data stays bytes. The value of a data line that goes on in the next read is kept in pieces, which
are joined once, when the event is complete. The variants that were weighed, with figures:
docs/adr/0003-sse-parser.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from parsers.errors import FrameTooLarge, SizeLimit

OnUnknown: TypeAlias = Callable[[bytes, bytes], None]

_BOM = b"\xef\xbb\xbf"
_DATA = b"data: "
# As a number: for `b"\r" in data` CPython raises and drops a TypeError first, eight times the cost.
_CR = 0x0D
# What fits 64 bits. Longer ones are ignored: nobody waits that long, and int() has a limit too.
_MAX_RETRY_DIGITS = 18
_BLANK_LINES = (b"\n", b"\r\n", b"\r")


class SSEEvent(msgspec.Struct, frozen=True, gc=False):
    """One event. `data` is UTF-8: what was not has become U+FFFD.

    `event` is empty where the stream names none (a browser then says "message"). `id` is the last
    id the stream gave, in this event or before. `retry` is this event's own, in milliseconds.
    """

    event: str
    data: bytes
    id: str = ""
    retry: int | None = None


class _Block:
    """What the lines since the last blank line said."""

    def __init__(self, max_data_bytes: int) -> None:
        self.event = ""
        self.id = ""
        self.retry: int | None = None
        self.repaired = False  # whether some event's data was not UTF-8
        self._data: list[bytes] = []  # pieces, line feeds among them
        self._data_bytes = 0
        self._max_data_bytes = max_data_bytes

    def add_data(self, value: bytes) -> None:
        """Take the value of a data line, or the first piece of it."""
        if self._data:
            self.extend_data(b"\n")
        self.extend_data(value)

    def extend_data(self, piece: bytes) -> None:
        """Take a further piece of the same value."""
        self._data.append(piece)
        self._data_bytes += len(piece)
        if self._data_bytes > self._max_data_bytes:
            raise FrameTooLarge("event over the size limit", kind="event_too_large")

    @property
    def is_bare(self) -> bool:
        """Whether it would be an event, had it data."""
        return bool(self.event) and not self._data

    def end(self) -> SSEEvent | None:
        """The event, None without data; then all is forgotten but the id, which stays in force."""
        event = None
        if self._data:
            data = b"".join(self._data)
            data = data if data.isascii() else self.utf8(data)
            event = SSEEvent(self.event, data, self.id, self.retry)
            self._data = []
            self._data_bytes = 0
        self.event = ""
        self.retry = None
        return event

    def utf8(self, data: bytes) -> bytes:
        """The same bytes; or, if they are not UTF-8, the nearest that are."""
        try:
            data.decode()
        except UnicodeDecodeError:
            self.repaired = True
            return data.decode(errors="replace").encode()
        return data


class SSEParser:
    """Bytes of one stream in, its events out, however the bytes are cut.

    `flush_at_eof` lets `close` complete an event that lacks its blank line. The limits bound the
    bytes of one line (without its end) and of one event's data; beyond them `feed` raises
    FrameTooLarge at once, and so does every later call. Without a limit of their own, lines may
    be as long as the longest data line. Memory is bounded by the limits; an object per piece comes
    on top, which counts when a long line arrives a few bytes at a time. `pending_bytes` means
    nothing after a failure.

    `on_unknown` is told name and value of each line whose field the standard does not know;
    llama.cpp reports errors in a field `error`, Gemini as bare JSON lines. A line without a colon
    is all name, and comments are not told.

    `odd` says whether the stream has held what is allowed, or nearly, and makes official clients
    fail (upstreams.md 0): a byte order mark, bytes that are not UTF-8, ids, retry times, names
    without data.
    """

    def __init__(
        self,
        *,
        flush_at_eof: bool = False,
        max_line_bytes: int | None = None,
        max_event_bytes: int | None = None,
        on_unknown: OnUnknown | None = None,
    ) -> None:
        self.last_event_id = ""
        # The last valid one of the stream, in milliseconds.
        self.retry: int | None = None
        # Bytes fed since the last blank line: those of an event that is not complete.
        self.pending_bytes = 0

        self._flush_at_eof = flush_at_eof
        self._on_unknown = on_unknown
        max_data = sys.maxsize if max_event_bytes is None else max_event_bytes
        self._max_line = max_data + len(_DATA) if max_line_bytes is None else max_line_bytes
        self._failure: SizeLimit | None = None

        self._odd = False
        self._events: list[SSEEvent] = []
        self._block = _Block(max_data)
        # The line that the last chunk left unfinished: its pieces, unless it is known for a data
        # line, whose pieces go to the block at once; and its length.
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._after_cr = False
        # The bytes that may yet become a byte order mark; None once the first line has begun.
        self._opening: bytes | None = b""
        # The longest chunk that may go past all of this; 0 unless the parser is between events.
        self._express_bytes = 0
        self._max_express = min(self._max_line, max_data)

    def feed(self, data: bytes) -> list[SSEEvent]:
        """The events that these bytes complete. Raises FrameTooLarge."""
        # per token: one whole event, the shape of nearly every read
        if (
            len(data) <= self._express_bytes
            and data[:6] == _DATA
            and data[-2:] == b"\n\n"
            and data.find(b"\n") == len(data) - 2
            and _CR not in data
        ):
            value = data[6:-2]
            value = value if value.isascii() else self._block.utf8(value)
            return [SSEEvent("", value, self.last_event_id)]
        return self._feed(data)

    @property
    def odd(self) -> bool:
        """Whether official clients would fail on this stream."""
        return self._odd or self._block.repaired

    @property
    def completed(self) -> int:
        """How many events the running `feed` has completed so far; for `on_unknown` to ask."""
        return len(self._events)

    def close(self) -> list[SSEEvent]:
        """The last event, at a clean end of the body, if it is to be flushed. Raises as `feed`."""
        # Two line feeds end whatever line and block there are, and are nothing if there are none.
        return self._feed(b"\n\n" if self._flush_at_eof else b"")

    def _feed(self, chunk: bytes) -> list[SSEEvent]:
        if self._failure:
            raise FrameTooLarge("nothing can follow what was too large", kind=self._failure)
        try:
            if chunk:
                self._read(chunk)
        except FrameTooLarge as error:
            self._failure = error.kind
            self._express_bytes = 0
            error.events = self._events
            raise
        events, self._events = self._events, []
        return events

    def _read(self, chunk: bytes) -> None:
        text = self._trim(chunk)
        if not self.pending_bytes and self._read_plain(text):
            return
        lines = text.splitlines()
        # No text, no unfinished line: b"" is in b"\r\n" too.
        rest = b"" if text[-1:] in b"\r\n" else lines.pop()
        if lines and self._line_bytes:
            self._end_line(lines.pop(0))
        self._read_lines(lines)
        if rest:
            self._hold(rest)
        self._after_cr = text[-1:] == b"\r"
        self._count(chunk, lines, rest)

    def _read_plain(self, text: bytes) -> bool:
        """Take whole events of one data line each, and nothing else; False: read it by lines."""
        if text[-2:] != b"\n\n" or _CR in text or len(text) > self._max_express:
            return False
        lines = text[:-2].split(b"\n\n")
        # As many line feeds as these events have, so there is none within a line.
        if text.count(b"\n") != 2 * len(lines) or not all(line[:6] == _DATA for line in lines):
            return False
        last_id = self.last_event_id
        for line in lines:
            value = line[6:]
            data = value if value.isascii() else self._block.utf8(value)
            self._events.append(SSEEvent("", data, last_id))
        self._after_cr = False
        self._express_bytes = self._max_express
        return True

    def _trim(self, chunk: bytes) -> bytes:
        """The chunk without a mark that opens the stream, or the LF of a CRLF cut in two."""
        if self._opening is not None:
            return self._trim_bom(self._opening + chunk)
        # Between events the LF may stay: it is one more blank line.
        if self._after_cr and self.pending_bytes:
            return chunk.removeprefix(b"\n")
        return chunk

    def _trim_bom(self, opening: bytes) -> bytes:
        if len(opening) < len(_BOM) and _BOM.startswith(opening):
            self._opening = opening
            return b""
        self._opening = None
        self._odd = opening.startswith(_BOM)
        return opening.removeprefix(_BOM)

    def _read_lines(self, lines: list[bytes]) -> None:
        # per token: attributes are looked up once per chunk
        block, max_line = self._block, self._max_line
        for line in lines:
            if not line:
                self._odd = self._odd or block.is_bare
                event = block.end()
                self.last_event_id = block.id
                if event is not None:
                    self._events.append(event)
            elif line.startswith(_DATA):
                block.add_data(line[6:])
            else:
                self._read_field(line)
            if len(line) > max_line:
                raise FrameTooLarge("line over the size limit", kind="line_too_long")

    def _read_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        match name:
            case b"data":
                self._block.add_data(value)
            case b"event":
                self._block.event = value.decode(errors="replace")
            case b"id":
                self._odd = True
                if b"\0" not in value:
                    self._block.id = value.decode(errors="replace")
            case b"retry":
                self._odd = True
                if value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                    self.retry = self._block.retry = int(value)
            case b"":
                pass  # a comment
            case _:
                if self._on_unknown is not None:
                    self._on_unknown(name, value)

    def _hold(self, piece: bytes) -> None:
        """Keep a piece of a line whose end is still to come."""
        if self._line_bytes and not self._line:
            self._block.extend_data(piece)  # it is a data line, known as such
        elif self._line_bytes < len(_DATA):
            self._hold_opening(b"".join(self._line) + piece)
        else:
            self._line.append(piece)
        self._line_bytes += len(piece)
        if self._line_bytes > self._max_line:
            raise FrameTooLarge("line over the size limit", kind="line_too_long")

    def _hold_opening(self, opening: bytes) -> None:
        # "data:" alone does not tell yet whether a space follows, which would not be data.
        if opening.startswith(b"data:") and len(opening) > len(b"data:"):
            self._line = []
            self._block.add_data(opening[6 if opening.startswith(_DATA) else 5 :])
        else:
            self._line = [opening]

    def _end_line(self, piece: bytes) -> None:
        self._hold(piece)
        if self._line:
            self._read_field(b"".join(self._line))
            self._line = []
        self._line_bytes = 0

    def _count(self, chunk: bytes, lines: list[bytes], rest: bytes) -> None:
        """Update `pending_bytes`; `lines` are those that began in this chunk and ended in it."""
        if lines[-1:] == [b""] and not rest:
            self.pending_bytes = 0
        elif b"" not in lines:
            self.pending_bytes += len(chunk)
        else:
            count = lines[::-1].index(b"") + bool(rest)
            ends = chunk.splitlines(keepends=True)
            self.pending_bytes = sum(map(len, ends[len(ends) - count :]))
        self._express_bytes = 0 if self.pending_bytes else self._max_express


def encode_event(data: bytes, event: str = "") -> bytes:
    """One event as a frame; each line of the data becomes a data line.

    A reader sees every line end in `data` as LF. Raises ValueError for a line end in `event`.
    """
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = b"data: " + data.replace(b"\n", b"\ndata: ") + b"\n\n"
    if not event:
        return lines
    if "\n" in event or "\r" in event:
        raise ValueError("an event name holds a line end")
    return b"event: " + event.encode() + b"\n" + lines


def comment(text: str) -> bytes:
    """A frame that every reader skips; a line each for the lines of the text."""
    return b"".join(b": %b\n" % line for line in text.encode().splitlines() or [b""]) + b"\n"


def frames(data: bytes) -> list[bytes]:
    """The raw frames of whole frames, each with its blank line; joined they are the input again.

    What follows the last blank line comes as a last, unfinished frame.
    """
    plain = _CR not in data and b"\n\n\n" not in data and data[:1] != b"\n"
    if plain and data[-2:] == b"\n\n":
        return [frame + b"\n\n" for frame in data[:-2].split(b"\n\n")]
    found: list[bytes] = []
    lines: list[bytes] = []
    for line in data.splitlines(keepends=True):
        lines.append(line)
        if line in _BLANK_LINES:
            found.append(b"".join(lines))
            lines.clear()
    if lines:
        found.append(b"".join(lines))
    return found
