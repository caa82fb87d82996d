"""One endpoint on the wire: connects and asks as penstock does, and keeps the time of each read."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import msgspec

from proxy.origin import Origin
from proxy.providers.base import UpstreamRequest
from proxy.transport import Connection, Pool, ResponseHead, Reuse, TransportError

CONNECT_SECONDS = 10.0  # twice what penstock waits by default
MAX_BODY_BYTES = 4 * 1024 * 1024  # a scrape of TGI has some 100 kB
_FOR_EVER = Reuse(idle_seconds=float("inf"))


class Read(msgspec.Struct, frozen=True):
    """What one read brought of a body, and when: in seconds since the request."""

    at: float
    data: bytes


class Answer:
    """Receives one answer; what is over the limit is dropped."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.reads: list[Read] = []
        self.error: TransportError | None = None
        self.head_at: float | None = None
        self.ended_at: float | None = None
        self._asked = monotonic()
        self._size = 0
        self._more = asyncio.Event()

    @property
    def body(self) -> bytes:
        """All of the body so far."""
        return b"".join(read.data for read in self.reads)

    @property
    def seconds(self) -> float:
        """How long it took, or takes so far."""
        return monotonic() - self._asked if self.ended_at is None else self.ended_at

    async def ended(self) -> None:
        """Wait for its end."""
        while self.ended_at is None:
            await self._news()

    async def streaming(self) -> None:
        """Wait for the first of its body, or its end."""
        while self.ended_at is None and not self.reads:
            await self._news()

    async def _news(self) -> None:
        self._more.clear()
        await self._more.wait()

    # -- the transport's side

    def on_head(self, head: ResponseHead) -> None:
        """Status and headers."""
        self.status, self.headers = head.status, head.headers
        self.head_at = monotonic() - self._asked
        self._more.set()

    def on_data(self, data: bytes) -> None:
        """One read."""
        if self._size < MAX_BODY_BYTES:
            self._size += len(data)
            self.reads.append(Read(monotonic() - self._asked, data))
        self._more.set()

    def on_end(self, error: TransportError | None) -> None:
        """The end, as framed or not."""
        self.error = error
        self.ended_at = monotonic() - self._asked
        self._more.set()


class Wire:
    """The way to one origin. Whatever happens on it is an `Answer`, also what goes wrong."""

    def __init__(self, origin: Origin, tls: ssl.SSLContext, seconds: float) -> None:
        self._pool = Pool(origin, tls=tls, reuse=_FOR_EVER)
        self._seconds = seconds

    async def connect(self) -> float:
        """How many seconds a new connection takes. Raises TransportError."""
        since = monotonic()
        (await self._connected()).abort()
        return monotonic() - since

    async def get(self, head: bytes) -> Answer:
        """What a GET is answered with."""
        return await self.ask(UpstreamRequest(head, b""))

    async def ask(self, request: UpstreamRequest) -> Answer:
        """The whole answer, or as much as comes in time."""
        async with self.asking(request) as answer:
            try:
                async with asyncio.timeout(self._seconds):
                    await answer.ended()
            except TimeoutError:
                answer.on_end(TransportError("timeout", "no end in time"))
        return answer

    @asynccontextmanager
    async def asking(self, request: UpstreamRequest) -> AsyncIterator[Answer]:
        """An answer under way; leaving the block hangs up."""
        try:
            connection = await self._connected()
        except TransportError as error:
            answer = Answer()
            answer.on_end(error)
            yield answer
            return
        answer = Answer()
        try:
            connection.send(request.head, request.body, answer)
            yield answer
        finally:
            connection.abort()

    async def idle(self, head: bytes, seconds: float) -> float | None:
        """After how many seconds of silence a kept connection is closed; None: not in this time.

        0 if it is not kept at all.
        """
        connection = await self._connected()
        answer = Answer()
        try:
            connection.send(head, b"", answer)
            async with asyncio.timeout(self._seconds):
                await answer.ended()
            since = monotonic()
            while not connection.closed and monotonic() < since + seconds:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            return monotonic() - since if connection.closed else None
        finally:
            connection.abort()

    def close(self) -> None:
        """Close what is left."""
        self._pool.close()

    async def _connected(self) -> Connection:
        try:
            async with asyncio.timeout(min(self._seconds, CONNECT_SECONDS)):
                return await self._pool.acquire(fresh=True)
        except TimeoutError:
            raise TransportError("timeout", "no connection in time") from None
