"""A scripted upstream: real sockets on loopback that answer exactly the bytes a test writes.

A test that holds both ends in its hands reads as a conversation:

    async with Upstream() as upstream:
        ...                                   # the code under test connects to upstream.url
        up = await upstream.accept()
        request = await up.request()
        up.send(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\n")
        await up.pause()                      # the other side has read that
        up.send(b"hi")
        await up.gone()                       # the other side hung up

A test that only needs an upstream to behave in some way gives it a script, run once for every
connection; the connection is closed when the script returns:

    async def answer(up: Conversation) -> None:
        async for request in up.requests():
            up.send(response(b"hi"))

    async with Upstream(answer) as upstream:
        ...
        assert upstream.connections == 1
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import socket
import ssl
import struct
import subprocess
import termios
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import msgspec
import pytest

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
LAST_CHUNK = b"0\r\n\r\n"

# linux/netlink.h, linux/sock_diag.h; idiag_rqueue behind nlmsghdr, four bytes, the id, expires.
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_RQUEUE_OFFSET = 16 + 4 + 48 + 4


def response(body: bytes = b"", *, status: int = 200, headers: bytes = b"") -> bytes:
    """A whole response; `headers` are whole lines."""
    length = len(body)
    return b"HTTP/1.1 %d Scripted\r\n%bContent-Length: %d\r\n\r\n%b" % (
        status,
        headers,
        length,
        body,
    )


def chunk(data: bytes) -> bytes:
    """Data in a chunk of its own."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Gone(Exception):
    """The other side hung up before saying all of what was awaited; ends a script quietly."""


class Request(msgspec.Struct, frozen=True):
    """One request as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    head: bytes  # up to and including the blank line


class Conversation:
    """The upstream's end of one connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, log: list[Request]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._log = log
        writer.transport.set_write_buffer_limits(high=0)

    @property
    def alpn(self) -> str | None:
        """The protocol that the TLS handshake agreed on, if any."""
        tls: ssl.SSLObject | None = self._writer.get_extra_info("ssl_object")
        return tls.selected_alpn_protocol() if tls else None

    async def request(self) -> Request:
        """The next request, whole. Raises Gone if the client hangs up instead."""
        request = await self.request_head()
        length = int(request.headers.get("content-length", "0"))
        request = msgspec.structs.replace(request, body=await self.read(length))
        self._log.append(request)
        return request

    async def requests(self) -> AsyncIterator[Request]:
        """One request after the other, until the client hangs up."""
        with contextlib.suppress(Gone):
            while True:
                yield await self.request()

    async def request_head(self) -> Request:
        """The next request without reading its body, which stays in the sockets."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone from error
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        fields = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        return Request(method=method, target=target, headers=headers, body=b"", head=head)

    async def read(self, count: int) -> bytes:
        """So many bytes of whatever the client sends. Raises Gone."""
        try:
            return await self._reader.readexactly(count)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone from error

    def send(self, data: bytes) -> None:
        """Write these bytes, and no others."""
        self._writer.write(data)

    async def pause(self) -> None:
        """Until the other side has read all that was sent: what is sent next is a new read.

        Looks into the kernel's queues, so it holds for other processes too. Plain TCP only: bytes
        read from TLS may still wait to be decrypted, and unix sockets are not listed. Raises Gone.
        """
        await self._drained()
        while self._unread():  # noqa: ASYNC110  # there is no event for the kernel's queues
            await asyncio.sleep(0)

    def finish(self) -> None:
        """Say that no more will be sent (FIN), but go on reading."""
        self._writer.write_eof()

    def close(self) -> None:
        """Close after what was sent. If the client's bytes were not all read, TCP resets."""
        self._writer.close()

    def reset(self) -> None:
        """Break the connection (RST); what the client has not read may be lost, so pause first."""
        sock = self._writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def gone(self) -> None:
        """Until the client hung up, one way or the other; what it still sends is dropped."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    async def _drained(self) -> None:
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise Gone from error

    def _unread(self) -> bool:
        """Whether bytes wait in our send queue or in the client's receive queue."""
        sock = self._writer.get_extra_info("socket")
        if sock.fileno() < 0:
            raise Gone
        if struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * 4))[0]:
            return True
        client, ours = (self._writer.get_extra_info(end) for end in ("peername", "sockname"))
        return _receive_queue(sock.family, client[:2], ours[:2]) > 0


def _receive_queue(family: int, local: tuple[str, int], remote: tuple[str, int]) -> int:
    """How many bytes the owner of this end of a connection has not read; 0 if it is closed.

    Asks the kernel as `ss` does: sock_diag(7). /proc/net/tcp takes milliseconds under test.
    """
    ports = struct.pack("!HH", local[1], remote[1])
    hosts = b"".join(socket.inet_pton(family, end[0]).ljust(16, b"\0") for end in (local, remote))
    any_interface_and_cookie = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)
    query = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    query += ports + hosts + any_interface_and_cookie
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as kernel:
        header = struct.pack("=IHHII", 16 + len(query), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0)
        kernel.send(header + query)
        answer = kernel.recv(4096)
    if struct.unpack_from("=H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        return 0  # an error: there is no such connection
    unread: int = struct.unpack_from("=I", answer, _RQUEUE_OFFSET)[0]
    return unread


Script: TypeAlias = Callable[[Conversation], Awaitable[None]]


class Upstream:
    """A server on loopback; without a script its conversations wait for `accept`.

    An error in a script fails the test at once, out of the `async with`.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        host: str = "127.0.0.1",
        uds: Path | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests: list[Request] = []  # all that were read, over all connections
        self.connections = 0  # accepted so far
        self.port = 0
        self._script = script
        self._host = host
        self._uds = uds
        self._tls = tls
        self._accepted: asyncio.Queue[Conversation] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []
        self._scripts = asyncio.TaskGroup()
        self._playing: list[asyncio.Task[None]] = []
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """Where it listens, as an endpoint's URL."""
        if self._uds is not None:
            return f"unix:{self._uds}"
        scheme = "http" if self._tls is None else "https"
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{host}:{self.port}"

    async def accept(self) -> Conversation:
        """The next connection, if there is no script."""
        return await self._accepted.get()

    async def stop(self) -> None:
        """Listen no more: who connects is refused. Open conversations go on."""
        if self._server is not None:
            self._server.close()

    async def __aenter__(self) -> Self:
        await self._scripts.__aenter__()
        if self._uds is not None:
            self._server = await asyncio.start_unix_server(self._met, self._uds)
            return self
        self._server = await asyncio.start_server(self._met, self._host, 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()
        for writer in self._writers:
            with contextlib.suppress(
                AttributeError
            ):  # Python 3.11.2: of TLS that is closed already
                writer.transport.abort()
        for script in self._playing:
            script.cancel()
        await asyncio.sleep(0)  # let the sockets close
        if isinstance(error, asyncio.CancelledError):  # a failed script may have sent it
            await self._scripts.__aexit__(kind, error, trace)
        else:  # the test's own error leaves as it is, not within a group
            await self._scripts.__aexit__(None, None, None)

    def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        conversation = Conversation(reader, writer, self.requests)
        if self._script is None:
            self._accepted.put_nowait(conversation)
        else:
            self._playing.append(self._scripts.create_task(self._play(self._script, conversation)))

    async def _play(self, script: Script, conversation: Conversation) -> None:
        with contextlib.suppress(Gone):
            await script(conversation)
        conversation.close()


def make_certificate(folder: Path) -> tuple[ssl.SSLContext, str]:
    """A server's TLS settings for localhost and 127.0.0.1, and the file a client must trust."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        [*command.split(), "-subj", "/CN=localhost", "-addext", names, *files],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, str(certificate)
