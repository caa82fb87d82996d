"""The connections to one endpoint that wait for a request: last in, first out.

Strategy. Reuse saves a connect, and is where answers get swapped; so a connection is handed out
only while it is beyond doubt. It was kept because its last response ended exactly; it has been
idle for less than the upstream's own idle limit; and at the moment of handing it out the kernel
holds nothing unread. A kept connection with something unread is passed over and left where it is:
the loop will read it in its next round, and then the connection closes itself, and tells us if it
was bytes. After that nothing of this endpoint is reused for a while, since one late surplus
response is indistinguishable from the answer to the next request.

LIFO lets the surplus of a burst grow old and be swept. There is no limit on connections in use:
admission decides that.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable
from functools import partial

import msgspec
from aiohappyeyeballs import start_connection

from proxy.origin import Origin
from proxy.transport.connection import Connection
from proxy.transport.errors import TransportError
from proxy.transport.tls import client_tls

# RFC 8305: how long the first address may stay silent before the second is tried as well.
_HAPPY_EYEBALLS_SECONDS = 0.25


class Reuse(msgspec.Struct, frozen=True):
    """When a connection may serve again."""

    idle_seconds: float = 4.0  # uvicorn, so most Python model servers, closes after 5
    idle_connections: int = 512  # beyond it the oldest is closed
    distrust_seconds: float = 300.0  # no reuse for so long after unasked-for bytes


class Pool:
    """The connections of one endpoint. The owner calls `sweep` once a second, `close` at the end.

    `tls` is used for https only; None means `client_tls()`. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        tls: ssl.SSLContext | None = None,
        reuse: Reuse | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.origin = origin
        self._tls = (tls or client_tls()) if origin.scheme == "https" else None
        self._reuse = reuse or Reuse()
        self._clock = clock
        self._idle: dict[Connection, float] = {}  # since when; oldest first
        self._distrusted_until = float("-inf")
        self._closed = False

    @property
    def idle(self) -> int:
        """How many connections wait."""
        return len(self._idle)

    @property
    def distrusted(self) -> bool:
        """Whether the endpoint sent unasked-for bytes not long ago; then nothing is reused."""
        return self._clock() < self._distrusted_until

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """A connection for one request, kept or (always, if `fresh`) new.

        The caller limits the wait, and sends on it or aborts it before it awaits anything else.
        Raises TransportError (unreachable).
        """
        kept = None if fresh else self.kept()
        return kept or await self._connect()

    def kept(self) -> Connection | None:
        """A connection that served before and is beyond doubt; None if a new one is needed."""
        self.sweep(self._clock())
        for connection in reversed(self._idle):
            if connection.quiet:
                del self._idle[connection]
                return connection
        return None

    def sweep(self, now: float) -> None:
        """Close what has been idle for too long; `now` in the clock's seconds."""
        while self._idle:
            oldest, since = next(iter(self._idle.items()))
            if now - since < self._reuse.idle_seconds:
                return
            oldest.abort()

    def close(self) -> None:
        """Close what is idle, keep nothing any more. Requests under way are not disturbed."""
        self._closed = True
        self._drop_idle()

    # Keeper: what connections call

    def keep(self, connection: Connection) -> None:
        """Take back a connection whose response ended exactly."""
        if self._closed or self.distrusted:
            connection.abort()
            return
        self._idle[connection] = self._clock()
        if len(self._idle) > self._reuse.idle_connections:
            next(iter(self._idle)).abort()

    def forget(self, connection: Connection) -> None:
        """Drop a connection that closed."""
        self._idle.pop(connection, None)

    def distrust(self) -> None:
        """Reuse nothing for a while."""
        self._distrusted_until = self._clock() + self._reuse.distrust_seconds
        self._drop_idle()

    def _drop_idle(self) -> None:
        for connection in list(self._idle):
            connection.abort()

    async def _connect(self) -> Connection:
        try:
            return await self._open(asyncio.get_running_loop())
        # gaierror and SSLError are OSErrors; uvloop has RuntimeErrors, says aiohappyeyeballs.
        except (OSError, UnicodeError, RuntimeError) as error:
            raise TransportError("unreachable", f"cannot connect: {error}") from error

    async def _open(self, loop: asyncio.AbstractEventLoop) -> Connection:
        origin = self.origin
        if origin.uds is not None:
            _, connection = await loop.create_unix_connection(
                partial(Connection, self, loop), origin.uds
            )
            return connection
        _, connection = await loop.create_connection(
            partial(Connection, self, loop),
            ssl=self._tls,
            server_hostname=origin.host if self._tls else None,
            sock=await _connected_socket(origin, loop),
        )
        return connection


async def _connected_socket(origin: Origin, loop: asyncio.AbstractEventLoop) -> socket.socket:
    """A TCP connection to whichever address answers first; uvloop's own way tries them in turn."""
    host = origin.address or origin.host
    addresses = await loop.getaddrinfo(host, origin.port, type=socket.SOCK_STREAM)
    return await start_connection(
        addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS, interleave=1, loop=loop
    )
