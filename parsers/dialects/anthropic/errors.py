"""Faults in Anthropic's words: the error object of a body and of an event."""

from __future__ import annotations

import msgspec

from parsers.events import Fault, FaultKind
from parsers.sse import encode_event

OVERLOADED_STATUS = 529  # Anthropic's own; its SDK has an exception for it

_TYPES = {
    FaultKind.INVALID_REQUEST: "invalid_request_error",
    FaultKind.UNAUTHENTICATED: "authentication_error",
    FaultKind.FORBIDDEN: "permission_error",
    FaultKind.UNKNOWN_MODEL: "not_found_error",
    FaultKind.TOO_LARGE: "request_too_large",
    FaultKind.CONTEXT_LENGTH: "invalid_request_error",
    FaultKind.CONTENT_FILTER: "invalid_request_error",
    FaultKind.RATE_LIMITED: "rate_limit_error",
    FaultKind.QUOTA_EXCEEDED: "rate_limit_error",
    FaultKind.OVERLOADED: "overloaded_error",
    FaultKind.UNREACHABLE: "api_error",
    FaultKind.TIMEOUT: "timeout_error",
    FaultKind.TRUNCATED: "api_error",
    FaultKind.PROTOCOL: "api_error",
    FaultKind.UPSTREAM: "api_error",
    FaultKind.INTERNAL: "api_error",
}
_BILLING = "billing_error"  # the one word of Anthropic's that no kind of ours says as exactly
# Not about the client's key, which is what these say to it, unless it was its own.
_KEYS = (FaultKind.UNAUTHENTICATED, FaultKind.FORBIDDEN)


class _Error(msgspec.Struct, frozen=True):
    type: str
    message: str


class _Envelope(msgspec.Struct, frozen=True, tag="error"):
    error: _Error


def encode_error(fault: Fault) -> bytes:
    """The body of an error answer."""
    return msgspec.json.encode(_Envelope(_Error(_type_of(fault), fault.message)))


def error_frame(fault: Fault) -> bytes:
    """The event that tells of a failure after the first byte; no `message_stop` comes after it.

    The official SDK raises on it, and on nothing else: it takes a broken stream for a whole one.
    """
    return encode_event(encode_error(fault), "error")


def error_status(fault: Fault, status: int) -> int:
    """The status of an error answer."""
    return OVERLOADED_STATUS if fault.kind is FaultKind.OVERLOADED else status


def _type_of(fault: Fault) -> str:
    if fault.kind in _KEYS and fault.origin != "client":
        return _TYPES[FaultKind.UPSTREAM]
    return _BILLING if fault.type == _BILLING else _TYPES[fault.kind]
