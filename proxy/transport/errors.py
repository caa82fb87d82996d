"""How an upstream connection can fail: the closed list of kinds, and the error that has one."""

from __future__ import annotations

from typing import Literal, TypeAlias

Kind: TypeAlias = Literal[
    "unreachable",  # no connection: DNS, refused, no route, TLS handshake
    "timeout",  # no answer in time
    "reset",  # the connection broke: RST, broken pipe, TLS alert
    "truncated",  # it was closed cleanly, but before the response's framing ended
    "framing",  # what came is not an HTTP/1.1 response that can be read in one way only
    "too_large",  # a head, a header, or framing without content went over its limit
]


class TransportError(Exception):
    """An upstream exchange that failed below the dialect.

    Raised by `Pool.acquire`, given to `Receiver.on_end`. The message is for the log: it may name
    our endpoint, and never holds a byte that the upstream sent.
    """

    def __init__(self, kind: Kind, message: str) -> None:
        super().__init__(message)
        self.kind: Kind = kind
