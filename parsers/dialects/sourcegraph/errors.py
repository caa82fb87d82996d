"""How a Cody client is told of a failure: one line of text, in a body or in an event."""

from __future__ import annotations

import msgspec

from parsers.events import Fault, FaultKind

DONE = b"event: done\ndata: {}\n\n"


class _Error(msgspec.Struct, frozen=True):
    error: str


def text_of(fault: Fault) -> str:
    """The text that clients show; for a key or a deadline, the one that they know."""
    if fault.kind is FaultKind.UNAUTHENTICATED and fault.origin == "client":
        return "Unauthorized"
    if fault.kind is FaultKind.TIMEOUT and fault.origin != "client":
        return f"context deadline exceeded: {fault.message}"
    return fault.message


def encode_error(fault: Fault) -> bytes:
    """The body of an error answer: plain text, and a line end."""
    return text_of(fault).encode() + b"\n"


def error_frame(fault: Fault) -> bytes:
    """The `error` event, and the `done` event without which clients wait for ever."""
    return b"event: error\ndata: %b\n\n" % msgspec.json.encode(_Error(text_of(fault))) + DONE


def error_status(fault: Fault, status: int, *, streaming: bool) -> int:
    """The status that clients expect (sourcegraph.md 3.5, 3.7).

    200 where an upstream fails before the first event of a stream: then it is an event.
    """
    if fault.origin == "client" or status == 429:  # they back off on 429
        return status
    if streaming:
        return 200
    return status if fault.origin == "proxy" or status == 504 else 503
