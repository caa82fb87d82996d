"""Many short streams whose every token is known: what is sent, what arrives, what is counted.

Both ends are plain protocols, so that the time goes to the penstock between them. What a model
server does stands in the prompt: how many tokens, and what comes after the last.
"""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any
from urllib.parse import urlsplit

import msgspec

from tests.e2e.frames import DONE, FINISH, TOKEN
from tests.e2e.rawclient import post
from tests.harness import chat
from tests.scripted import LAST_CHUNK, STREAM_HEAD, chunk

WORKERS = 32
CANCELLED, FAILING, SLOW = 0.30, 0.10, 0.05
SLOW_PAUSES_SECONDS = (0.002, 0.02)

_PLAN = re.compile(rb"tokens=(\d+) then=(\w+)")
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_OUTCOME = re.compile(rb'"outcome":"(\w+)"')
_FRAME = chunk(TOKEN)
_END = chunk(FINISH + DONE) + LAST_CHUNK


class Case(msgspec.Struct, frozen=True):
    """One stream. `then` is what the server does after its tokens: end, hold or break."""

    tokens: int
    then: str
    is_slow: bool = False

    @property
    def outcome(self) -> str:
        """What the proxy must make of it; held streams are those that their clients leave."""
        return {"end": "complete", "hold": "client_gone", "break": "truncated"}[self.then]


def cases(seed: int, count: int) -> Iterator[Case]:
    """So many streams; the same for the same seed."""
    random = Random(seed)
    for _ in range(count):
        tokens, chance = random.randint(1, 12), random.random()
        if chance < CANCELLED:
            yield Case(tokens, "hold")
        elif chance < CANCELLED + FAILING:
            yield Case(tokens, "break")
        else:
            yield Case(tokens, "end", is_slow=chance < CANCELLED + FAILING + SLOW)


# The model server


class Server(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, open_: set[Server]) -> None:
        self._open = open_
        self._data = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open.discard(self)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or length is None or len(body) < int(length[1]):
            return
        self._data = b""
        plan = _PLAN.search(body)
        assert plan is not None
        self._transport.write(STREAM_HEAD + _FRAME * int(plan[1]))
        if plan[2] == b"end":
            self._transport.write(_END)
        elif plan[2] == b"break":
            self._transport.close()


@asynccontextmanager
async def model_server() -> AsyncIterator[tuple[str, set[Server]]]:
    """Its URL, and the connections that are open to it."""
    loop, open_ = asyncio.get_running_loop(), set[Server]()
    server = await loop.create_server(lambda: Server(open_), "127.0.0.1", 0, backlog=1024)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", open_
    finally:
        server.close()


# The clients


class Load:
    """Sends streams, and counts what came of them."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._address = (address.hostname or "", address.port or 0)
        self.sent: Counter[str] = Counter()  # by the outcome it must have
        self.delivered = 0  # tokens
        self.wrong: list[tuple[Case, bytes]] = []

    async def run(self, wanted: Iterator[Case]) -> None:
        """Send them all, `WORKERS` at a time."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work(wanted))

    async def _work(self, wanted: Iterator[Case]) -> None:
        client: Client | None = None
        for case in wanted:  # shared: each takes the next one
            if client is None or client.is_closed:
                client = await self._connected()
            body = await client.ask(case)
            self.sent[case.outcome] += 1
            tokens = body.count(TOKEN)
            self.delivered += tokens
            if tokens != case.tokens or (DONE in body) != (case.then == "end"):
                self.wrong.append((case, body[-300:]))
        if client is not None:
            client.close()

    async def _connected(self) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(Client, *self._address)
        return client


class Client(asyncio.Protocol):
    """The client's end of one connection."""

    def __init__(self) -> None:
        self.is_closed = False
        self._transport: asyncio.Transport
        self._body = bytearray()
        self._case: Case | None = None
        self._done: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_closed = True
        self._finish()

    def data_received(self, data: bytes) -> None:
        self._body += data
        case = self._case
        if case is None:
            return
        if case.is_slow:
            self._transport.pause_reading()
            pause = SLOW_PAUSES_SECONDS[len(data) % 2]
            asyncio.get_running_loop().call_later(pause, self._read_on)
        if self._body.endswith(LAST_CHUNK):
            self._finish()
        elif case.then == "hold" and self._body.count(TOKEN) == case.tokens:
            self.close()
            self._finish()

    def _read_on(self) -> None:
        with suppress(RuntimeError):  # closed meanwhile
            self._transport.resume_reading()

    async def ask(self, case: Case) -> bytes:
        """The whole answer, or as much of it as this client stays for."""
        self._body.clear()
        self._case, self._done = case, asyncio.get_running_loop().create_future()
        self._transport.write(
            post("/v1/chat/completions", chat(f"tokens={case.tokens} then={case.then}"))
        )
        await self._done
        return bytes(self._body)

    def close(self) -> None:
        """Leave at once."""
        self.is_closed = True
        self._transport.abort()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class Lines(io.BytesIO):
    """Where the log is written: counts the requests by outcome, and keeps nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: Counter[str] = Counter()

    def write(self, data: Any) -> int:
        """Take in some lines."""
        for line in bytes(data).splitlines():
            if b'"event":"request"' in line:
                found = _OUTCOME.search(line)
                assert found is not None
                self.outcomes[found[1].decode()] += 1
        return len(data)
