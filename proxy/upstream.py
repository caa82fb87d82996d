"""Calls to model servers: one pool of connections per endpoint, one attempt and its safe retry."""

from __future__ import annotations

import asyncio
from ssl import SSLContext
from time import monotonic
from typing import Protocol
from weakref import WeakSet, finalize

import msgspec

from parsers.events import FaultKind
from proxy.endpoints import EndpointState, Lease
from proxy.errors import RequestFailed, upstream_fault
from proxy.origin import Origin, parse_origin
from proxy.outcome import Clock, timeout_fault
from proxy.providers.base import UpstreamRequest
from proxy.transport import Connection, Pool, Receiver, ResponseHead, TransportError, client_tls

SWEEP_SECONDS = 1.0
_MAX_FETCHED_BYTES = 64 * 1024


class Attempt(Receiver, Protocol):
    """A receiver that is told on which connection its answer comes."""

    def attach(self, connection: Connection) -> None:
        """The request is about to be sent on this connection."""


class Upstream:
    """Sends requests; keeps an endpoint's connections for as long as its state is alive."""

    def __init__(self) -> None:
        self._pools: WeakSet[Pool] = WeakSet()
        self._tls: SSLContext | None = None  # reading the system's certificates takes 20 ms

    async def send(
        self,
        request: UpstreamRequest,
        lease: Lease,
        attempt: Attempt,
        *,
        connect_seconds: float,
        fresh: bool = False,
    ) -> bool:
        """Write the request on a kept connection, or a new one; the answer goes to the attempt.

        `fresh` asks for a new one. Gives whether the connection had served before. Raises
        RequestFailed when none can be made in time.
        """
        pool = self._pool_of(lease.state)
        connection = None if fresh else pool.kept()
        if connection is None:
            connection = await _connected(pool, connect_seconds)
        attempt.attach(connection)
        connection.send(request.head, request.body, attempt)
        return connection.reused

    async def fetch(
        self,
        head: bytes,
        state: EndpointState,
        *,
        seconds: float,
        limit_bytes: int = _MAX_FETCHED_BYTES,
    ) -> Fetched:
        """The answer to a request without a body, its first bytes only.

        Raises TransportError where there is none in time.
        """
        fetching = _Fetching(limit_bytes)
        try:
            async with asyncio.timeout(seconds):
                connection = await self._pool_of(state).acquire(fresh=True)
                try:
                    connection.send(head, b"", fetching)
                    return await fetching.done
                finally:
                    if not fetching.done.done():  # else it is the pool's, or somebody's already
                        connection.abort()
        except TimeoutError:
            raise TransportError("timeout", "no answer in time") from None

    async def run(self) -> None:
        """Close idle connections in time, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = monotonic()
            for pool in list(self._pools):
                pool.sweep(now)

    def close(self) -> None:
        """Close what is idle."""
        for pool in list(self._pools):
            pool.close()

    def _pool_of(self, state: EndpointState) -> Pool:
        pool = state.pool
        if pool is None:
            pool = state.pool = Pool(_origin_of(state), tls=self._tls_context())
            self._pools.add(pool)
            finalize(state, _close_soon, pool, asyncio.get_running_loop())
        return pool

    def _tls_context(self) -> SSLContext:
        if self._tls is None:
            self._tls = client_tls()
        return self._tls


class Fetched(msgspec.Struct, frozen=True):
    """A small answer."""

    status: int
    body: bytes


class _Fetching:
    """Receives a small answer; what is too large is cut."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.done: asyncio.Future[Fetched] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._body = bytearray()

    def on_head(self, head: ResponseHead) -> None:
        """The status."""
        self._status = head.status

    def on_data(self, data: bytes) -> None:
        """More of the body."""
        self._body += data[: self._limit_bytes - len(self._body)]

    def on_end(self, error: TransportError | None) -> None:
        """All of it, or the error."""
        if self.done.done():
            return
        if error is None:
            self.done.set_result(Fetched(self._status, bytes(self._body)))
        else:
            self.done.set_exception(error)


def _origin_of(state: EndpointState) -> Origin:
    return msgspec.structs.replace(parse_origin(state.url), address=state.address)


def _close_soon(pool: Pool, loop: asyncio.AbstractEventLoop) -> None:
    """Close a pool in its loop's thread: the last to let go of its endpoint may be a scrape."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(pool.close)


async def _connected(pool: Pool, seconds: float) -> Connection:
    try:
        async with asyncio.timeout(seconds):
            return await pool.acquire(fresh=True)
    except TimeoutError:
        raise RequestFailed(timeout_fault(Clock.CONNECT, seconds)) from None
    except TransportError as error:
        fault = upstream_fault(FaultKind.UNREACHABLE, "the model server cannot be reached")
        raise RequestFailed(fault) from error
