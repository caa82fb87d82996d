"""How penstock talks HTTP/1.1 to model servers: one pool per endpoint, pushed, never pulled."""

from __future__ import annotations

from proxy.transport.connection import Connection, Keeper, Receiver
from proxy.transport.encoding import MAX_PIECE_BYTES, Inflater
from proxy.transport.errors import Kind, TransportError
from proxy.transport.framing import ResponseHead
from proxy.transport.pool import Pool, Reuse
from proxy.transport.tls import client_tls

__all__ = [
    "MAX_PIECE_BYTES",
    "Connection",
    "Inflater",
    "Keeper",
    "Kind",
    "Pool",
    "Receiver",
    "ResponseHead",
    "Reuse",
    "TransportError",
    "client_tls",
]
