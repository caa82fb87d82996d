"""Faults in OpenAI's words: the error object of a body and of a frame."""

from __future__ import annotations

import msgspec

from parsers.events import Fault, FaultKind
from parsers.sse import encode_event

# Type and code. The SDKs choose their exception by the status and show these.
_WORDS = {
    FaultKind.INVALID_REQUEST: ("invalid_request_error", None),
    FaultKind.UNAUTHENTICATED: ("authentication_error", "invalid_api_key"),
    FaultKind.FORBIDDEN: ("permission_error", None),
    FaultKind.UNKNOWN_MODEL: ("invalid_request_error", "model_not_found"),
    FaultKind.TOO_LARGE: ("invalid_request_error", "request_too_large"),
    FaultKind.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded"),
    FaultKind.CONTENT_FILTER: ("invalid_request_error", "content_filter"),
    FaultKind.RATE_LIMITED: ("rate_limit_error", "rate_limit_exceeded"),
    FaultKind.QUOTA_EXCEEDED: ("insufficient_quota", "insufficient_quota"),
    FaultKind.OVERLOADED: ("server_error", "overloaded"),
    FaultKind.UNREACHABLE: ("server_error", "upstream_unreachable"),
    FaultKind.TIMEOUT: ("server_error", "timeout"),
    FaultKind.TRUNCATED: ("server_error", "truncated"),
    FaultKind.PROTOCOL: ("server_error", "upstream_protocol_error"),
    FaultKind.UPSTREAM: ("server_error", "upstream_error"),
    FaultKind.INTERNAL: ("server_error", "internal_error"),
}


# About our key, where it was not the client's own that was refused: these words would blame that.
_KEYS = (FaultKind.UNAUTHENTICATED, FaultKind.FORBIDDEN)
_OUR_KEY = ("server_error", "upstream_authentication_error")


class _Error(msgspec.Struct, frozen=True):
    message: str
    type: str
    param: str | None
    code: str | int | None


class _Envelope(msgspec.Struct, frozen=True):
    error: _Error


def encode_error(fault: Fault) -> bytes:
    """The body of an error answer. The upstream's own type, code and param stay if it had any.

    But for a key that was refused: the client has not seen it, and need not doubt its own.
    """
    if fault.origin != "client" and fault.kind in _KEYS:
        return msgspec.json.encode(_Envelope(_Error(fault.message, _OUR_KEY[0], None, _OUR_KEY[1])))
    type_, code = _WORDS[fault.kind]
    if fault.type is not None or fault.code is not None:
        code = None  # ours beside theirs would say two things
    error = _Error(
        message=fault.message,
        type=fault.type or type_,
        param=fault.param,
        code=code if fault.code is None else fault.code,
    )
    return msgspec.json.encode(_Envelope(error))


def error_frame(fault: Fault) -> bytes:
    """The frame that tells of a failure after the first byte; no `[DONE]` comes after it.

    The official SDKs raise on it, and so on nothing else but a broken connection.
    """
    return encode_event(encode_error(fault))
