"""AWS event streams (application/vnd.amazon.eventstream): bytes to messages, and back.

A message is its total length and that of its headers, a CRC of these eight bytes, the headers,
the payload, and a CRC of all before it; numbers are big-endian. A length is believed only after
its own CRC fits and it is within the limit, so a broken stream is refused with its first twelve
bytes, and no length that it names is ever waited for or reserved.

Sources: smithy.io "Amazon Event Stream", upstreams.md 8; limits as in botocore.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from struct import Struct
from typing import TypeAlias
from zlib import crc32

import msgspec

from parsers.errors import BadChecksum, BadFrame

# Timestamps are milliseconds since the epoch, UUIDs are their 16 bytes.
HeaderValue: TypeAlias = bool | int | bytes | str

_PRELUDE = Struct(">III")
_CRC = Struct(">I")
_OVERHEAD_BYTES = _PRELUDE.size + _CRC.size
_MAX_HEADER_BYTES = 128 * 1024  # botocore's
_MAX_MESSAGE_BYTES = 24 * 1024 * 1024  # botocore's limit for a payload


class Message(msgspec.Struct, frozen=True, gc=False):
    """One message; its headers are to be read only: equal ones in a row are one object."""

    headers: Mapping[str, HeaderValue]
    payload: bytes


class EventStreamDecoder:
    """Turns bytes, however they are cut, into the messages that they complete."""

    def __init__(self, *, max_message_bytes: int = _MAX_MESSAGE_BYTES) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._total = 0  # length of the message that has begun; 0: its prelude is not here yet
        self._defect: BadFrame | None = None
        self._raw_headers = b""
        self._headers: Mapping[str, HeaderValue] = {}

    @property
    def pending_bytes(self) -> int:
        """How many bytes belong to a message that is not complete."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """The messages that these bytes complete.

        Raises BadFrame, with the messages before it; then every later call raises as well.
        """
        # per token
        if self._defect is not None:
            raise self._defect
        messages: list[Message] = []
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        try:
            used = self._take(source, messages)
        except BadFrame as defect:
            self._defect = type(defect)(str(defect), kind=defect.kind)
            self._buffer.clear()
            defect.messages = messages
            raise
        if source is self._buffer:
            del self._buffer[:used]
        else:
            self._buffer += data[used:]
        return messages

    def close(self) -> list[Message]:
        """Nothing, at the end of the stream. Raises BadFrame if a message is cut off by it."""
        if self._defect is not None:
            raise self._defect
        if self._buffer:
            raise BadFrame("a message was cut off", kind="truncated")
        return []

    def _take(self, source: bytes | bytearray, messages: list[Message]) -> int:
        """Append the whole messages; how many bytes they took."""
        # per token
        at, end = 0, len(source)
        while True:
            if not self._total:
                if end - at < _PRELUDE.size:
                    return at
                self._total = self._length_at(source, at)
            if end - at < self._total:
                return at
            messages.append(self._message(bytes(memoryview(source)[at : at + self._total])))
            at += self._total
            self._total = 0

    def _length_at(self, source: bytes | bytearray, at: int) -> int:
        total, header_bytes, checksum = _PRELUDE.unpack_from(source, at)
        if crc32(memoryview(source)[at : at + 8]) != checksum:
            raise BadChecksum(
                "the lengths of a message do not fit their checksum", kind="prelude_crc"
            )
        if total > self._max_message_bytes or header_bytes > _MAX_HEADER_BYTES:
            raise BadFrame("a message over the size limit", kind="length")
        if header_bytes > total - _OVERHEAD_BYTES:
            raise BadFrame("a message longer than it says", kind="length")
        length: int = total
        return length

    def _message(self, frame: bytes) -> Message:
        # per token
        if crc32(memoryview(frame)[:-4]) != _CRC.unpack_from(frame, len(frame) - 4)[0]:
            raise BadChecksum("the checksum of a message does not fit", kind="message_crc")
        start = _PRELUDE.size + int.from_bytes(frame[4:8])
        raw_headers = frame[_PRELUDE.size : start]
        if raw_headers != self._raw_headers:
            self._headers = _Headers(raw_headers).read()
            self._raw_headers = raw_headers
        return Message(self._headers, frame[start:-4])


class _Headers:
    """Reads a block of headers; the lengths in it are checked against its end."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def read(self) -> dict[str, HeaderValue]:
        """All of them. Raises BadFrame."""
        headers: dict[str, HeaderValue] = {}
        while self._at < len(self._raw):
            name = _text(self._take(self._take(1)[0]))
            if not name or name in headers:
                raise _bad_header()
            headers[name] = self._value()
        return headers

    def _value(self) -> HeaderValue:
        kind = self._take(1)[0]
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind not in _SIZES:
            raise _bad_header()
        size = _SIZES[kind]
        value = self._take(int.from_bytes(self._take(2)) if size is None else size)
        return _READERS[kind](value)

    def _take(self, count: int) -> bytes:
        start, self._at = self._at, self._at + count
        if self._at > len(self._raw):
            raise _bad_header()
        return self._raw[start : self._at]


def _bad_header() -> BadFrame:
    return BadFrame("the headers of a message cannot be read", kind="header")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _bad_header() from None


def _number(value: bytes) -> int:
    return int.from_bytes(value, signed=True)


_TRUE, _FALSE, _BYTE, _SHORT, _INT, _LONG, _BYTES, _STRING, _TIMESTAMP, _UUID = range(10)
_CONSTANTS = {_TRUE: True, _FALSE: False}
# None: two bytes say it.
_SIZES = {_BYTE: 1, _SHORT: 2, _INT: 4, _LONG: 8, _BYTES: None, _STRING: None}
_SIZES |= {_TIMESTAMP: 8, _UUID: 16}
_READERS: dict[int, Callable[[bytes], HeaderValue]] = {
    **dict.fromkeys((_BYTE, _SHORT, _INT, _LONG, _TIMESTAMP), _number),
    **dict.fromkeys((_BYTES, _UUID), bytes),
    _STRING: _text,
}


def encode_message(payload: bytes, headers: Mapping[str, HeaderValue]) -> bytes:
    """A message as bytes; every number becomes a long.

    Raises OverflowError for a name, a value or a number that does not fit its field.
    """
    block = b"".join(_named(name.encode()) + _written(headers[name]) for name in headers)
    total = _OVERHEAD_BYTES + len(block) + len(payload)
    lengths = total.to_bytes(4) + len(block).to_bytes(4)
    frame = lengths + _CRC.pack(crc32(lengths)) + block + payload
    return frame + _CRC.pack(crc32(frame))


def _named(name: bytes) -> bytes:
    return len(name).to_bytes(1) + name


def _written(value: HeaderValue) -> bytes:
    if isinstance(value, bool):
        return bytes([_TRUE if value else _FALSE])
    if isinstance(value, int):
        return bytes([_LONG]) + value.to_bytes(8, signed=True)
    kind, raw = (_STRING, value.encode()) if isinstance(value, str) else (_BYTES, value)
    return bytes([kind]) + len(raw).to_bytes(2) + raw
