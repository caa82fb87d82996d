"""One HTTP/1.1 response, from bytes to a head, pieces of body and an exact end. Opens nothing.

Strategy. llhttp (through httptools, all its leniencies off) reads the grammar. It was checked to
refuse CL together with TE, a second or odd CL, bare LF, folded headers, control characters and
spaces in chunk sizes. Four things are ours, for it does not have them:

* Where a response ends inside a read. httptools does not say. So the last byte of any read that
  may end a response is fed alone: if the response was complete before it, there is surplus; if
  it became complete with it, the end is exact. A chunked read can end a response only if it ends
  in CR LF CR LF, or is too short to show all four; other chunked reads, which is to say tokens,
  are fed whole.
* What ends only with the connection. httptools has no call for end of input; `until_close` tells.
* Limits: on headers, and on bytes that bring neither head nor body (interim responses, chunk
  extensions, trailers).
* What llhttp lets pass: transfer codings that we cannot undo, 101, HTTP/0.9 and 2.0 in
  HTTP/1.1's clothes, interim responses with a body.

Every response gets a parser of its own (0.7 µs), so nothing of one can be left for the next.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from httptools import HttpParserError, HttpResponseParser

from proxy.transport.errors import TransportError

MAX_HEADERS = 128  # trailers included; aiohttp's own limit
MAX_HEADER_BYTES = 8 * 1024  # name and value; nginx's buffer for one header
MAX_HEAD_BYTES = 64 * 1024
# Framing without content: an endless chunk extension, a drip of 1xx, a head that never ends.
MAX_BARREN_BYTES = 64 * 1024

_BLANK = b"\r\n\r\n"


class ResponseHead(msgspec.Struct, frozen=True, gc=False):
    """Status and headers of a final response; names in lower case, repeated ones joined by `, `."""

    status: int
    headers: dict[bytes, bytes]


class ResponseReader:
    """Reads one response; after `close` it must not be fed again."""

    __slots__ = (
        "_barren_bytes",
        "_chunked",
        "_expects_body",
        "_header_bytes",
        "_header_count",
        "_headers",
        "_parser",
        "complete",
        "head",
        "keep_alive",
        "on_body",
        "pieces",
        "surplus",
        "until_close",
    )

    def __init__(self, *, expects_body: bool = True) -> None:
        self.head: ResponseHead | None = None
        self.pieces: list[bytes] = []  # body not yet taken; the caller clears it
        self.complete = False  # the end came, as framed
        self.surplus = False  # and then more bytes
        self.keep_alive = False  # the upstream is willing
        self.until_close = False  # only the end of the connection ends this body
        # llhttp's own callback: a list's append costs no Python frame.
        self.on_body = self.pieces.append if expects_body else _discard
        self._expects_body = expects_body
        self._chunked = False
        self._headers: dict[bytes, bytes] = {}
        self._header_count = 0
        self._header_bytes = 0
        self._barren_bytes = 0
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> TransportError | None:  # per token
        """Take one read, never empty; what was understood before an error stays valid."""
        try:
            if self._chunked and len(data) >= len(_BLANK) and not data.endswith(_BLANK):
                self._parser.feed_data(data)
                self.surplus = self.complete
            elif self.until_close:
                self._parser.feed_data(data)
            else:
                self._feed_up_to_the_end(data)
        except HttpParserError as error:
            return self._judge(error)
        if self.pieces:
            self._barren_bytes = 0
            return None
        return self._count_barren(len(data))

    def close(self) -> None:
        """Let go of the parser, whose callbacks would keep this reader alive in a cycle."""
        del self._parser

    def _feed_up_to_the_end(self, data: bytes) -> None:
        view = memoryview(data)
        self._parser.feed_data(view[:-1])
        if self.complete:
            self.surplus = True
            return
        self._parser.feed_data(view[-1:])

    def _judge(self, error: HttpParserError) -> TransportError | None:
        if self.complete:  # it choked on what came after the end
            self.surplus = True
            return None
        if isinstance(error.__context__, TransportError):  # raised in a callback below
            return error.__context__
        return TransportError("framing", f"not an HTTP/1.1 response: {error}")  # llhttp's words

    def _count_barren(self, count: int) -> TransportError | None:
        if self.complete:
            return None
        self._barren_bytes += count
        if self._barren_bytes <= MAX_BARREN_BYTES:
            return None
        where = "a response head" if self.head is None else "chunk framing"
        return TransportError("too_large", f"more than {MAX_BARREN_BYTES} bytes of {where}")

    # llhttp's callbacks

    def on_message_begin(self) -> None:
        """Stop at a second response: nobody asked for it."""
        if self.complete:
            raise TransportError("framing", "bytes after the end of the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count every header, keep those that are not trailers."""
        size = len(name) + len(value)
        self._header_count += 1
        self._header_bytes += size
        if self._header_count > MAX_HEADERS:
            raise TransportError("too_large", f"more than {MAX_HEADERS} headers")
        if size > MAX_HEADER_BYTES:
            raise TransportError("too_large", f"a header over {MAX_HEADER_BYTES} bytes")
        if self._header_bytes > MAX_HEAD_BYTES:
            raise TransportError("too_large", f"headers over {MAX_HEAD_BYTES} bytes")
        if self.head is None:
            name = name.lower()
            known = self._headers.get(name)
            self._headers[name] = value if known is None else b"%b, %b" % (known, value)

    def on_headers_complete(self) -> None:
        """Judge the head; skip it if it is an interim one (RFC 9110, 15.2)."""
        status = self._parser.get_status_code()
        if not 100 <= status <= 599 or status == 101:
            raise TransportError("framing", f"status {status} was not to be expected")
        self._check_framing(status)
        if status < 200:
            self._headers = {}
            return
        self.head = ResponseHead(status, self._headers)
        self.complete = not self._expects_body

    def on_message_complete(self) -> None:
        """Note the end, unless it is an interim response that ended."""
        self.complete = self.head is not None

    def _check_framing(self, status: int) -> None:
        version = self._parser.get_http_version()
        if version not in {"1.1", "1.0"}:
            raise TransportError("framing", f"HTTP version {version}")
        coding = self._headers.get(b"transfer-encoding")
        framed = coding is not None or b"content-length" in self._headers
        if coding is not None and coding.lower() != b"chunked":
            raise TransportError("framing", "a transfer coding other than chunked")
        if status < 200 and framed:
            raise TransportError("framing", "an interim response with a body")
        self._chunked = coding is not None
        has_body = self._expects_body and status >= 200 and status not in {204, 304}
        self.until_close = has_body and not framed
        self.keep_alive = version == "1.1" and self._parser.should_keep_alive()


class TappedReader(ResponseReader):
    """A reader that shows what it is fed to somebody else first."""

    __slots__ = ("_show",)

    def __init__(self, show: Callable[[bytes], None]) -> None:
        super().__init__()
        self._show = show

    def feed(self, data: bytes) -> TransportError | None:
        """As of any reader."""
        self._show(data)
        return super().feed(data)


def _discard(_: bytes) -> None:
    """Body bytes after the answer to a HEAD request; they are surplus."""
