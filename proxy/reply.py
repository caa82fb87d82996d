"""The answer to one client, written straight to its transport.

aiohttp parses requests and keeps connections; the bytes of an answer are ours, because a token
must cost one write and no task switch. A `Reply` is what a handler returns to aiohttp, which finds
it written already.

Nothing is queued without bound: `write` says when the client reads too slowly, the relay then
stops reading its upstream, and `drain` waits until the client has caught up. A whole answer is
written at once; the next request on its connection waits until it has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

# aiohttp's transports tell their protocol to pause above this; `drain` waits for the opposite.
HIGH_WATER_BYTES = 64 * 1024
SLOW_READER_SECONDS = 30.0  # how long a client may take to make room for the next write

_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}
# RFC 9110's words, which Python has from 3.13 on; and Anthropic's own.
_REASONS |= {413: b"Content Too Large", 422: b"Unprocessable Content", 529: b"Overloaded"}
_STATUS_LINES = {code: b"HTTP/1.1 %d %b\r\n" % (code, reason) for code, reason in _REASONS.items()}
EVENT_STREAM = (
    b"content-type: text/event-stream\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
JSON = b"content-type: application/json\r\n"
END_OF_CHUNKS = b"0\r\n\r\n"


class Reply(web.StreamResponse):
    """One answer: `send` a whole one, or `start`, `write` and `end` a streamed one.

    Header blocks are bytes, each line ended by CRLF; whoever passes them vouches that they hold
    no other control characters.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        # The base class is not initialised: it would prepare to write a head, and ours is bytes.
        self._http11 = request.version == HttpVersion11
        self._persistent = bool(request.keep_alive)
        self._transport = request.transport
        self._writer: AbstractStreamWriter = request.writer
        self.started = False
        self.ended = False
        self.bytes_out = 0

    @property
    def prepared(self) -> bool:
        """aiohttp asks: has anything been written?"""
        return self.started

    @property
    def keep_alive(self) -> bool:
        """aiohttp asks: may the connection serve another request?"""
        return self._persistent and self.ended

    def tap(self, wrap: Callable[[asyncio.Transport], asyncio.Transport]) -> None:
        """Write to what this makes of the transport from now on."""
        if self._transport is not None:
            self._transport = wrap(self._transport)

    def close_after(self) -> None:
        """End the connection with this answer; only before its head is written."""
        self._persistent = False

    def send(self, status: int, headers: bytes, body: bytes) -> None:
        """Write a whole answer, in one piece."""
        self.started = self.ended = True
        self._put(
            b"%b%b%bcontent-length: %d\r\n\r\n%b"
            % (_STATUS_LINES[status], headers, self._connection_header(), len(body), body)
        )

    def start(self, headers: bytes, first: bytes = b"", *, whole: bool = False) -> None:
        """Write the head of a streamed 200 and its first bytes, in one piece.

        With `whole` they are its last bytes too, and the end mark goes along.
        """
        self.started = True
        self.ended = whole
        if not self._http11:
            self._persistent = False  # without chunks only the end of the connection is an end
            head = b"%b%bconnection: close\r\n\r\n" % (_STATUS_LINES[200], headers)
            self._put(head + first)
            return
        head = b"%b%b%btransfer-encoding: chunked\r\n\r\n" % (
            _STATUS_LINES[200],
            headers,
            self._connection_header(),
        )
        body = _chunk(first) if first else b""
        self._put(b"%b%b%b" % (head, body, END_OF_CHUNKS if whole else b""))

    def write(self, data: bytes) -> bool:  # type: ignore[override]  # not a coroutine: per token
        """Write a piece of a streamed answer; False when the client must catch up first."""
        # per token
        transport = self._transport
        if transport is None or transport.is_closing():
            return True  # the cancellation is on its way
        self.bytes_out += len(data)
        transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._http11 else data)
        return transport.get_write_buffer_size() <= HIGH_WATER_BYTES

    def end(self, last: bytes = b"") -> None:
        """Write the last bytes and the end mark of a streamed answer."""
        self.ended = True
        if not self._http11:
            self._put(last)
        else:
            self._put(_chunk(last) + END_OF_CHUNKS if last else END_OF_CHUNKS)

    def cut(self) -> None:
        """Break the connection, so that nobody takes the answer for whole.

        What was not sent yet is lost: a client that reads nothing must not keep it in our memory.
        """
        self.ended = False
        self._persistent = False
        if self._transport is not None:
            self._transport.abort()

    async def drain(self) -> None:
        """Wait until the client has read enough for more to be written. Raises TimeoutError."""
        async with asyncio.timeout(SLOW_READER_SECONDS):
            await self._writer.drain()

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:  # noqa: ARG002
        """aiohttp calls this for what was not written yet; everything has been."""
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:  # noqa: ARG002 - aiohttp's
        """aiohttp calls this at the end, which has been written; then it takes the next request."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() > HIGH_WATER_BYTES:
            try:
                await self.drain()
            except TimeoutError:
                self.cut()

    def _connection_header(self) -> bytes:
        return b"" if self._persistent and self._http11 else self._explicit_connection()

    def _explicit_connection(self) -> bytes:
        return b"connection: keep-alive\r\n" if self._persistent else b"connection: close\r\n"

    def _put(self, data: bytes) -> None:
        self.bytes_out += len(data)
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
