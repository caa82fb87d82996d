"""The HTTP server under both listeners: aiohttp's, with less patience and fewer words.

aiohttp parses requests and keeps connections. What it leaves open is closed here: a connection on
which no request comes, a head that drips in, a body that proves malformed while a handler waits
for the rest of it, the rest of a body that was refused, and how many connections there may be and
how many requests on one. `tests/e2e/test_front_door_connections.py` holds aiohttp to what this
takes from it: `_messages`, `_waiter` and `_current_request`, beside what it documents.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from time import monotonic
from typing import Any, TypeAlias, cast

from aiohttp import StreamReader, hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import RawRequestMessage

from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import FaultKind
from proxy.errors import client_fault, proxy_fault

NAME = "penstock"  # all that the Server header says
HEAD_SECONDS = 10.0  # how long a head may take, the first one from when the connection is made
KEEPALIVE_SECONDS = 75.0  # longer than load balancers keep theirs
LINGER_SECONDS = 1.0  # how long a refused request's body is read on, so the client sees why
# And how far: clients that send all before they read, as httpx does under asyncio, take a reset for
# an outage. What is dropped costs 0.5 ms a MiB and no memory.
LINGER_BYTES = 32 * 1024 * 1024
BODY_BUFFER_BYTES = 64 * 1024  # of a body not asked for yet; aiohttp holds twice this and one read
MAX_REQUESTS = 10_000  # on one connection, so that none stays with one replica for ever
WORD_SECONDS = 1.0  # between two words of connections refused

_Base = web.RequestHandler  # by name where each request comes by: super() costs 1 % of it
_Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
_Factory: TypeAlias = Callable[
    [
        RawRequestMessage,
        StreamReader,
        web.RequestHandler,
        AbstractStreamWriter,
        "asyncio.Task[None]",
    ],
    web.BaseRequest,
]


def _whole(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\nconnection: close\r\n" % status
    return b"%bretry-after: 1\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)


_UNPARSABLE = OPENAI_CHAT.encode_error(
    client_fault(FaultKind.INVALID_REQUEST, "the request is not well-formed HTTP"), 400
)
_BROKEN = OPENAI_CHAT.encode_error(proxy_fault(FaultKind.INTERNAL, "internal error"), 500)
_FULL = _whole(
    b"503 Service Unavailable",
    OPENAI_CHAT.encode_error(
        proxy_fault(FaultKind.OVERLOADED, "the proxy has as many connections as it may"), 503
    ),
)


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_awaited", "_has_begun", "_head_timer", "_server", "requests")

    def __init__(self, server: Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None is how aiohttp's own server says none
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=0,  # ours ends after so many bytes too
            read_bufsize=BODY_BUFFER_BYTES,
            auto_decompress=False,  # compressed requests are refused: nothing need inflate them
        )
        self._server = server
        self._awaited = -1  # the number of the request whose head is awaited
        self._head_timer: asyncio.TimerHandle | None = None
        self._has_begun = False  # False: there was no room for it
        self.requests = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve it, if there is room."""
        if self._server.has_room:
            self._has_begun = True
            super().connection_made(transport)
            self._await_head()
            return
        refused = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        refused.write(_FULL)
        refused.close()
        self._server.refused()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let go of everything."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        if self._has_begun:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; then see what aiohttp does not say about it."""
        _Base.data_received(self, data)
        if self._messages:
            if self._head_timer is not None:
                self._let_timers_go(self._head_timer)
            request = self._current_request
            if request is not None and not request.content.is_eof():
                # Something is queued behind a body without an end: what made it unparsable.
                request.content.set_exception(web.RequestPayloadError("malformed"))
        elif data and self._waiter is not None:  # part of a head
            self._await_head()

    def _await_head(self) -> None:
        """Give the next request's head its time, once."""
        if self._awaited != self.requests:
            self._awaited = self.requests
            if self._head_timer is not None:
                self._head_timer.cancel()
            loop = asyncio.get_running_loop()
            self._head_timer = loop.call_later(HEAD_SECONDS, self._wait_no_longer)

    def _let_timers_go(self, head_timer: asyncio.TimerHandle) -> None:
        """A stream may be silent for minutes: it need not hold a kilobyte for them."""
        head_timer.cancel()
        self._head_timer = None
        self.keep_alive(True)  # noqa: FBT003 - aiohttp's way to stop the other; its answer decides

    def _wait_no_longer(self) -> None:
        if self.requests == self._awaited and not self._messages:
            self.force_close()

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Write the answer; where the request has more to send, give it time to notice."""
        finished = _Base.finish_response(self, request, resp, start_time)
        return finished if request.content.is_eof() else self._lingering(finished, request.content)

    async def _lingering(
        self, finished: Awaitable[tuple[web.StreamResponse, bool]], body: StreamReader
    ) -> tuple[web.StreamResponse, bool]:
        answer, is_lost = await finished
        if not is_lost:
            await self._linger(body)
        return answer, is_lost

    async def _linger(self, body: StreamReader) -> None:
        """Read on a little: to close with bytes unread is to reset, which can lose the answer."""
        left = LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while left > 0 and self.connected and not (body.is_eof() or body.exception()):
                    left -= len(await body.readany())

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - quotes the request
    ) -> web.StreamResponse:
        """The answer to what cannot be parsed, or to what broke a handler; then it is over."""
        if status >= 500:
            self.log_exception("a handler failed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("part of an answer was sent already")
        body = _BROKEN if status >= 500 else _UNPARSABLE
        answer = web.Response(body=body, status=status, content_type="application/json")
        answer.headers[hdrs.SERVER] = NAME
        answer.force_close()
        return answer


class Server(web.Server):
    """Makes the connections of one listener, and counts them.

    A handler is cancelled when its client goes: without that a silent stream outlives it.
    `on_full` is told how many connections were refused so far, once a second at most; a
    `max_connections` of None is no limit.
    """

    def __init__(
        self,
        handler: _Handler,
        *,
        request_factory: _Factory | None = None,
        max_connections: int | None = None,
        on_full: Callable[[int], None] = lambda _: None,
    ) -> None:
        super().__init__(handler, request_factory=request_factory, handler_cancellation=True)
        self._make = self.request_factory
        self.request_factory = cast(_Factory, self._counted)  # we make no other connections
        self._max_connections = max_connections
        self._on_full = on_full
        self._refused = 0
        self._told = -WORD_SECONDS

    def __call__(self) -> web.RequestHandler:
        """The protocol of a new connection."""
        return Connection(self)

    @property
    def has_room(self) -> bool:
        """Whether there may be one more connection."""
        return self._max_connections is None or len(self._connections) < self._max_connections

    def refused(self) -> None:
        """A connection was closed for want of room."""
        self._refused += 1
        now = monotonic()
        if now >= self._told + WORD_SECONDS:
            self._told = now
            self._on_full(self._refused)

    def _counted(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: Connection,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        """The request; the last that its connection may send says so."""
        protocol.requests += 1
        if protocol.requests >= MAX_REQUESTS:
            message = message._replace(should_close=True)
        return self._make(message, payload, protocol, writer, task)
