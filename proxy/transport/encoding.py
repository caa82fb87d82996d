"""Compressed bodies, which we ask upstreams not to send, undone in bounded steps."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from proxy.transport.errors import TransportError

MAX_PIECE_BYTES = 64 * 1024

_GZIP = 16 + zlib.MAX_WBITS  # header and checksum required
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_DEFLATED = 8  # RFC 1950: the method in the low half of a zlib stream's first byte


class Inflater:
    """The plain bytes of one body; never more than `MAX_PIECE_BYTES` at a time.

    Raises TransportError (framing): at once for an encoding other than gzip and deflate, in
    `feed` for data that is neither. How much is too much in all is for the caller to say: a piece
    is only made when it is asked for.
    """

    def __init__(self, encoding: bytes) -> None:
        name = encoding.strip().lower()
        if name not in {b"gzip", b"x-gzip", b"deflate"}:
            raise TransportError("framing", "a content encoding other than gzip and deflate")
        self._gzip = name != b"deflate"
        self._stream: zlib._Decompress | None = None  # None: between two members, or at the start
        self._members = 0  # begun so far

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that these bytes give. Take them all before feeding again."""
        full = False  # zlib may hold back output of input that it has taken
        while data or full:
            stream = self._stream or self._begin(data)
            try:
                piece = stream.decompress(data, MAX_PIECE_BYTES)
            except zlib.error as error:
                raise TransportError("framing", "a compressed body that is broken") from error
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
            full = len(piece) == MAX_PIECE_BYTES and not stream.eof
            self._stream = None if stream.eof else stream
            if piece:
                yield piece

    def close(self) -> None:
        """The body ended. Raises TransportError (truncated) if its compression did not."""
        if self._stream is not None or not self._members:
            raise TransportError("truncated", "a compressed body that ends early")

    def _begin(self, data: bytes) -> zlib._Decompress:
        if self._members and not self._gzip:
            raise TransportError("framing", "bytes after a deflated body")
        self._members += 1
        if self._gzip:  # several members are one body (RFC 1952, 2.2)
            self._stream = zlib.decompressobj(_GZIP)
        else:  # meant is zlib's format; some servers send bare deflate (RFC 9110, 8.4.1.2)
            self._stream = zlib.decompressobj(_ZLIB if data[0] & 15 == _DEFLATED else _RAW)
        return self._stream
