"""One upstream connection, which pushes what it reads to whoever sent the request on it.

Strategy. `data_received` parses and calls the receiver in the same call: no task switch, no
timer, no queue between the socket and the client. Every exchange ends in exactly one of two
ways: `on_end`, once, or our own `abort`, after which nothing is called any more. All endings
(exact, broken, EOF, reset, a stale connection) meet in `_finish`; there it is decided, before the
receiver hears of it, whether the connection goes back to its keeper or is closed at once.

A connection is kept only if nothing about it is in doubt. Bytes that come when no response is
awaited were meant for nobody: they are never parsed, the connection is closed, and the keeper is
told, for such an upstream may next time be late enough for its bytes to look like an answer.

Aborting is the only way of closing: nothing that we would still have to send matters then, and a
peer that does not read cannot keep the socket open.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from typing import Protocol, cast

from proxy.transport.errors import TransportError
from proxy.transport.framing import ResponseHead, ResponseReader, TappedReader

# Up to this, head and body are joined; above it, copying costs more than a second buffer in the one
# system call. (Written one after the other they would be two, for uvloop writes at once.)
_JOIN_BYTES = 8 * 1024


class Receiver(Protocol):
    """Who is told of a response: synchronously, in this order. It must not raise.

    It may call `abort`, `pause_reading` and `resume_reading` of the connection from within.
    """

    def on_head(self, head: ResponseHead) -> None:
        """The final status and headers; interim responses are not shown."""

    def on_data(self, data: bytes) -> None:
        """All that one read brought of the body; never empty."""

    def on_end(self, error: TransportError | None) -> None:
        """The end, once per `send`; None: the body ended exactly as framed.

        A body without framing ends with the connection, and is None too: whether it is whole,
        only its dialect can tell.
        """


class Keeper(Protocol):
    """Who owns connections between requests."""

    def keep(self, connection: Connection) -> None:
        """Take it for the next request, or abort it."""

    def forget(self, connection: Connection) -> None:
        """It is closed, kept or not."""

    def distrust(self) -> None:
        """This upstream sent bytes that nobody asked for."""


class Connection(asyncio.Protocol):
    """One connection to one origin: one request at a time, made and owned by a `Pool`."""

    __slots__ = (
        *("_head_given", "_keeper", "_loop", "_poll", "_reader", "_receiver", "_transport"),
        *("closed", "request_sent", "response_started", "served"),
    )

    def __init__(self, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self._keeper = keeper
        self._loop = loop
        self._poll: select.poll | None = None  # None: it never had to be quiet
        self._transport: asyncio.Transport
        self._receiver: Receiver | None = None  # None exactly when no response is awaited
        self._reader: ResponseReader | None = None  # comes and goes with the receiver
        self._head_given = False
        self.served = 0  # responses that ended well
        self.closed = False
        self.request_sent = False  # every byte of it went to the kernel
        self.response_started = False  # at least one byte of it came

    @property
    def reused(self) -> bool:
        """Whether it served before; if so, and no byte came, the request may be sent again."""
        return self.served > 0

    @property
    def quiet(self) -> bool:
        """Whether the connection is open and nothing has come that was not yet read.

        The loop learns of a FIN or of stray bytes one round late; the kernel knows at once.
        """
        if self.closed or self._transport.is_closing():
            return False
        if self._poll is None:
            self._poll = select.poll()
            sock: socket.socket = self._transport.get_extra_info("socket")
            self._poll.register(sock.fileno(), select.POLLIN)
        return not self._poll.poll(0)

    # What the sender calls

    def send(
        self, head: bytes, body: bytes, receiver: Receiver, *, expects_body: bool = True
    ) -> None:
        """Write one request; `head` ends with its blank line.

        Pass `expects_body=False` for HEAD. On a connection that closed meanwhile `on_end` comes
        soon, never from within this call. The request is not limited in size and is held in
        memory until written.
        """
        if self._receiver is not None:
            raise RuntimeError("the last response is still being read")
        self._receiver = receiver
        self._reader = ResponseReader(expects_body=expects_body)
        self._head_given = self.response_started = False
        self.request_sent = not self.closed  # until pause_writing says otherwise
        if self.closed:
            self._loop.call_soon(self._lost, None)
        elif len(body) <= _JOIN_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.writelines((head, body))

    def tap(self, show: Callable[[bytes], None]) -> None:
        """Show each read of the response that is awaited to this, too; only before it comes."""
        if self._reader is not None:
            self._reader.close()
            self._reader = TappedReader(show)

    def abort(self) -> None:
        """Close at once, from any state; nothing more is told to the receiver."""
        if self._reader is not None:
            self._reader.close()
        self._receiver = self._reader = None
        self._close()

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`; TCP then stops the upstream."""
        if self._receiver is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again. Both do nothing once the response has ended."""
        if self._receiver is not None:
            self._transport.resume_reading()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set the socket up."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in behaviour only
        # pause_writing then means: not all is sent. TLS pauses at the limit, plain TCP above it.
        encrypted = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=1 if encrypted else 0)
        sock = transport.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            # Both loops do this too, today; forgetting it costs 40 ms per request.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:  # per token
        """Parse one read and push what it brought."""
        receiver, reader = self._receiver, self._reader
        if receiver is None or reader is None:
            self._unasked()
            return
        self.response_started = True
        error = reader.feed(data)
        if not self._head_given and reader.head is not None:
            self._head_given = True
            receiver.on_head(reader.head)
            if self._reader is not reader:  # aborted from within
                return
        pieces = reader.pieces
        if pieces:
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            pieces.clear()
            receiver.on_data(body)
            if self._reader is not reader:
                return
        if reader.complete or error is not None:
            self._finish(receiver, reader, error)

    def eof_received(self) -> None:
        """The upstream will send no more; then we have nothing to say to it either."""
        self._lost(None)
        self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: EOF, an error, or our own abort."""
        self._lost(exc)

    def pause_writing(self) -> None:
        """Some of the request waits in our memory."""
        self.request_sent = False

    def resume_writing(self) -> None:
        """All of it went to the kernel."""
        self.request_sent = True

    # How an exchange ends

    def _finish(
        self, receiver: Receiver, reader: ResponseReader, error: TransportError | None
    ) -> None:
        reader.close()
        self._receiver = self._reader = None
        if reader.surplus:
            self._keeper.distrust()
        if self._reusable(reader, error):
            self.served += 1
            self._transport.resume_reading()  # the receiver may have paused: FIN must be seen
            self._keeper.keep(self)
        else:
            self._close()
        receiver.on_end(error)

    def _reusable(self, reader: ResponseReader, error: TransportError | None) -> bool:
        # A response that overtook its request ends the connection: the upstream may not read on.
        clean = error is None and reader.complete and not reader.surplus
        return clean and reader.keep_alive and self.request_sent and not self.closed

    def _lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._keeper.forget(self)
        receiver, reader = self._receiver, self._reader
        if receiver is not None and reader is not None:
            self._finish(receiver, reader, _cut_off(reader, exc))

    def _unasked(self) -> None:
        if not self.closed:
            self._keeper.distrust()
            self._close()

    def _close(self) -> None:
        self.closed = True
        self._keeper.forget(self)
        self._transport.abort()


def _cut_off(reader: ResponseReader, exc: Exception | None) -> TransportError | None:
    """What the end of the connection means for a response that had not ended."""
    if exc is not None:
        error = TransportError("reset", "the connection broke before the response ended")
        error.__cause__ = exc
        return error
    if reader.until_close:
        return None
    where = "before" if reader.head is None else "within"
    return TransportError("truncated", f"the upstream closed the connection {where} its response")
