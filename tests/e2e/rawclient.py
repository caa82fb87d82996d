"""A client that sends exactly the bytes a test writes, reads when it is told to, and hangs up."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import msgspec


class Answer(msgspec.Struct, frozen=True):
    """One response as it arrived; header names in lower case, chunks taken off the body."""

    status: int
    headers: dict[str, str]
    body: bytes
    head: bytes


class RawClient:
    """The client's end of one connection to penstock."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Write these bytes, and no others."""
        self._writer.write(data)

    def ask(self, path: str, body: object, *headers: str, version: str = "1.1") -> None:
        """Write one POST of JSON; `headers` are whole lines without their ends."""
        self.send(post(path, body, *headers, version=version))

    async def read_until(self, mark: bytes) -> bytes:
        """What comes, up to and including this."""
        return await self._reader.readuntil(mark)

    async def read_some(self) -> bytes:
        """What has come, once something has; empty at the end."""
        return await self._reader.read(1024 * 1024)

    async def rest(self) -> bytes:
        """Everything until the other side closes, or breaks, the connection."""
        data = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := await self.read_some():
                data += piece
        return bytes(data)

    async def answer(self) -> Answer:
        """The next response, whole; its status line must be of HTTP/1."""
        head = await self.read_until(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        version, status, *_ = first.split(" ")
        assert version in ("HTTP/1.1", "HTTP/1.0")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        if status.startswith("1"):
            return await self.answer()
        return Answer(int(status), headers, await self._body(headers), head)

    async def answers(self) -> list[Answer]:
        """All responses until the other side closes the connection."""
        found = []
        while True:
            try:
                found.append(await self.answer())
            except (asyncio.IncompleteReadError, ConnectionError):
                return found

    def hang_up(self) -> None:
        """Close at once."""
        self._writer.transport.abort()

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join([piece async for piece in self._chunks()])
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        return await self.rest()

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.read_until(b"\r\n"), 16):
            yield await self._reader.readexactly(size)
            assert await self._reader.readexactly(2) == b"\r\n"
        assert await self._reader.readexactly(2) == b"\r\n"


def post(path: str, body: object, *headers: str, version: str = "1.1") -> bytes:
    """A POST of JSON, as bytes."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    lines = [f"POST {path} HTTP/{version}", "Host: penstock", f"Content-Length: {len(data)}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + data


@asynccontextmanager
async def raw_client(url: str, *, receive_bytes: int | None = None) -> AsyncIterator[RawClient]:
    """A connection to this URL; `receive_bytes` makes the kernel take in no more than about that.

    What penstock has sent beyond it waits on its side.
    """
    address = urlsplit(url)
    sock = socket.socket()
    sock.setblocking(False)
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
    limit = receive_bytes or 64 * 1024
    reader, writer = await asyncio.open_connection(sock=sock, limit=limit)
    try:
        yield RawClient(reader, writer)
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # let the socket close
