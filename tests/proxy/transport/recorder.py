"""The receiving end of an exchange, which writes down what it was told."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Literal

import msgspec

from proxy.origin import parse_origin
from proxy.transport import Connection, Pool, ResponseHead, TransportError
from tests.scripted import Gone, Upstream

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Recorder:
    """A Receiver; `ended` says "whole" or the kind of the error."""

    def __init__(self) -> None:
        self.calls: list[str] = []  # "head", "data", "end" in order
        self.head: ResponseHead | None = None
        self.reads: list[bytes] = []
        self.errors: list[TransportError | None] = []
        self._told = asyncio.Event()

    @property
    def body(self) -> bytes:
        """All that came so far."""
        return b"".join(self.reads)

    @property
    def status(self) -> int | None:
        """None before the head."""
        return self.head.status if self.head else None

    def on_head(self, head: ResponseHead) -> None:
        """Note the head."""
        self.head = head
        self._note("head")

    def on_data(self, data: bytes) -> None:
        """Note a piece of body."""
        self.reads.append(data)
        self._note("data")

    def on_end(self, error: TransportError | None) -> None:
        """Note the end."""
        self.errors.append(error)
        self._note("end")

    async def told(self, call: str, times: int = 1) -> None:
        """Until that call came so many times in all."""
        while self.calls.count(call) < times:
            self._told.clear()
            await self._told.wait()

    async def ended(self) -> str:
        """Wait for the end, let the loop turn, and see that there was one end and nothing later."""
        await self.told("end")
        for _ in range(3):
            await asyncio.sleep(0)
        assert self.calls[-1] == "end"
        assert len(self.errors) == 1
        return "whole" if self.errors[0] is None else self.errors[0].kind

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._told.set()


def pool_for(url: str) -> Pool:
    """A pool with nothing out of the ordinary."""
    return Pool(parse_origin(url))


def start(connection: Connection, body: bytes = b"", *, expects_body: bool = True) -> Recorder:
    """Send a request; the recorder hears the answer."""
    receiver = Recorder()
    head = GET
    if body:
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    connection.send(head, body, receiver, expects_body=expects_body)
    return receiver


class Exchange(msgspec.Struct):
    """What became of one exchange."""

    ended: str  # "whole", or the kind of the error
    receiver: Recorder
    kept: bool  # the connection went back to the pool
    distrusted: bool


async def exchange(
    *reads: bytes,
    then: Literal["wait", "close", "reset"] = "wait",
    body: bytes = b"",
    expects_body: bool = True,
) -> Exchange:
    """What becomes of an answer that comes in these reads."""
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()
        receiver = start(connection, body, expects_body=expects_body)
        with contextlib.suppress(Gone):  # we hung up on it
            await up.request()
            for read in reads:
                up.send(read)
                await up.pause()
        if then == "close":
            up.close()
        elif then == "reset":
            up.reset()
        ended = await receiver.ended()
        kept, distrusted = pool.idle > 0, pool.distrusted
        pool.close()
    return Exchange(ended, receiver, kept, distrusted)


async def ask(pool: Pool, *, fresh: bool = False) -> Recorder:
    """One whole exchange over the pool."""
    receiver = start(await pool.acquire(fresh=fresh))
    await receiver.ended()
    return receiver


async def closed(connection: Connection) -> None:
    """Until that connection is closed."""
    while not connection.closed:  # noqa: ASYNC110  # an idle connection tells its pool, nobody else
        await asyncio.sleep(0)
