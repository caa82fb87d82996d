"""One request being recorded: taps on its client's transport and on its calls to model servers.

Nothing here runs for a request that is not recorded: the taps take the place of its reply's
transport, of the sender of its calls and of the reader of their answers.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from aiohttp import web

from proxy.capture.format import CLIENT, Act, Event
from proxy.endpoints import Lease
from proxy.errors import RequestFailed
from proxy.outcome import Account
from proxy.providers.base import UpstreamRequest
from proxy.relay import Relay
from proxy.transport import Connection, ResponseHead, TransportError
from proxy.upstream import Upstream

MAX_EVENTS = 20_000  # of one kind in one capture: a long answer has a read per token
_EVENT_BYTES = 200  # what an event takes in memory beside its bytes


class Sender(Protocol):
    """Who sends calls to model servers: `proxy.upstream`, or a tap on it."""

    async def send(
        self,
        request: UpstreamRequest,
        lease: Lease,
        attempt: Relay,
        *,
        connect_seconds: float,
        fresh: bool = False,
    ) -> bool:
        """As `Upstream.send`."""


class Budget:
    """How many bytes all captures may hold in memory; they are given back in another thread."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.held = 0
        self._lock = threading.Lock()

    def take(self, count: int) -> bool:
        """Whether so many may be held; if so, they are."""
        with self._lock:
            if self.held + count > self._limit:
                return False
            self.held += count
            return True

    def give(self, count: int) -> None:
        """So many are held no more."""
        with self._lock:
            self.held -= count


class Recording:
    """What passed for one request so far, at most `limit_bytes` of each kind.

    It holds secrets until it is written. Whoever began it calls `release` when it is done with it.
    """

    def __init__(self, account: Account, budget: Budget, limit_bytes: int) -> None:
        self.account = account
        self.events: list[Event] = []
        self.hidden: set[str] = set()  # what the model servers were sent and nobody may see
        self.parties = 0
        self.limit_bytes = limit_bytes
        self._budget = budget
        self._held = 0
        self._seen: dict[tuple[str, Act], int] = {}
        self._kept: dict[tuple[str, Act], int] = {}
        self._counts: dict[tuple[str, Act], int] = {}

    @property
    def incomplete(self) -> dict[str, int]:
        """The kinds of which not all was kept, and how many bytes there were."""
        return {
            " ".join(kind): seen for kind, seen in self._seen.items() if seen > self._kept[kind]
        }

    def note(self, party: str, act: Act, *pieces: bytes) -> None:
        """Something passed just now; the pieces passed together."""
        kind = (party, act)
        seen, kept = self._seen.get(kind, 0), self._kept.setdefault(kind, 0)
        self._seen[kind] = seen + sum(map(len, pieces))
        if kept < seen:  # what came after a gap would pass for exact
            return
        data = _beginning(pieces, self.limit_bytes - kept)
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if not data or count > MAX_EVENTS or not self._budget.take(len(data) + _EVENT_BYTES):
            return
        self._held += len(data) + _EVENT_BYTES
        self._kept[kind] = kept + len(data)
        self.events.append(Event(monotonic() - self.account.started, party, act, data))

    def close(self) -> None:
        """The request has ended, and with it the calls that were not over."""
        for number in range(1, self.parties + 1):
            party = f"upstream-{number}"
            if (party, "ended") not in self._seen:
                self.note(party, "ended", b"aborted")
        self.limit_bytes = 0

    def release(self) -> None:
        """Forget what passed, and take note of nothing any more."""
        self.limit_bytes = 0
        self._budget.give(self._held)
        self._held = 0
        self.events = []


def _beginning(pieces: tuple[bytes, ...], room: int) -> bytes:
    """The first bytes of the pieces together; a piece that fits is not copied."""
    if len(pieces) == 1:
        return pieces[0][: max(room, 0)]
    parts = []
    for piece in pieces:
        parts.append(piece[: max(room, 0)])
        room -= len(parts[-1])
    return b"".join(parts)


def request_head(request: web.BaseRequest) -> bytes:
    """The head of a client's request, its headers as they were sent."""
    version = request.version
    first = f"{request.method} {request.raw_path} HTTP/{version.major}.{version.minor}\r\n"
    lines = [b"%b: %b\r\n" % (name, value) for name, value in request.raw_headers]
    return b"".join([first.encode("utf-8", "surrogateescape"), *lines, b"\r\n"])


class TappedTransport(asyncio.Transport):
    """A client's transport as its reply sees it; what is written is noted."""

    def __init__(self, inner: asyncio.Transport, recording: Recording) -> None:
        super().__init__()
        self.inner = inner
        self._recording = recording

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note it and write it."""
        self._recording.note(CLIENT, "sent", bytes(data))
        self.inner.write(data)

    def is_closing(self) -> bool:
        """As the transport."""
        return self.inner.is_closing()

    def get_write_buffer_size(self) -> int:
        """As the transport."""
        return self.inner.get_write_buffer_size()

    def abort(self) -> None:
        """Note that the client was cut off."""
        self._recording.note(CLIENT, "ended", b"aborted")
        self.inner.abort()


def untapped(transport: asyncio.Transport) -> asyncio.Transport:
    """The transport itself."""
    return transport.inner if isinstance(transport, TappedTransport) else transport


class TappedSender:
    """Sends the calls of one request, and notes each of them and its answer."""

    def __init__(self, upstream: Upstream, recording: Recording) -> None:
        self._upstream = upstream
        self._recording = recording

    async def send(
        self,
        request: UpstreamRequest,
        lease: Lease,
        attempt: Relay,
        *,
        connect_seconds: float,
        fresh: bool = False,
    ) -> bool:
        """As `Upstream.send`."""
        tap = TappedAttempt(self._recording, attempt, request)
        try:
            reused = await self._upstream.send(
                request, lease, tap, connect_seconds=connect_seconds, fresh=fresh
            )
        except RequestFailed:
            tap.say("unreachable")
            raise
        tap.listen()  # nothing was awaited since it was sent, so nothing has come
        return reused


class TappedAttempt:
    """A relay as its connection sees it; it hears the reads before the relay does."""

    def __init__(self, recording: Recording, relay: Relay, request: UpstreamRequest) -> None:
        recording.parties += 1
        recording.hidden.update(relay.plan.hidden())
        self._recording = recording
        self._party = f"upstream-{recording.parties}"
        self._relay = relay
        self._request: UpstreamRequest | None = request  # None: it went out
        self._connection: Connection | None = None
        self.on_head: Callable[[ResponseHead], None] = relay.on_head
        self.on_data: Callable[[bytes], None] = relay.on_data

    def attach(self, connection: Connection) -> None:
        """The request is about to be sent."""
        self._connection, request, self._request = connection, self._request, None
        if request is not None:
            self._recording.note(self._party, "sent", request.head, request.body)
        self._relay.attach(connection)

    def listen(self) -> None:
        """Hear each read of the answer."""
        if self._connection is not None:
            self._connection.tap(self._read)

    def on_end(self, error: TransportError | None) -> None:
        """The answer has ended."""
        self.say("whole" if error is None else error.kind)
        self._relay.on_end(error)

    def say(self, ending: str) -> None:
        """Note how it ended."""
        self._recording.note(self._party, "ended", ending.encode())

    def _read(self, data: bytes) -> None:
        self._recording.note(self._party, "received", data)
