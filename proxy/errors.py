"""How a failure leaves: the one exception of the request path, and the status of each fault."""

from __future__ import annotations

from parsers.events import Fault, FaultKind

# The status a client sees, by kind, for a fault of the proxy or of an upstream.
_STATUS = {
    FaultKind.INVALID_REQUEST: 400,
    FaultKind.CONTEXT_LENGTH: 400,
    FaultKind.CONTENT_FILTER: 400,
    FaultKind.UNAUTHENTICATED: 502,  # it was our key that failed, not the client's
    FaultKind.FORBIDDEN: 502,
    FaultKind.UNKNOWN_MODEL: 404,
    FaultKind.TOO_LARGE: 413,
    FaultKind.RATE_LIMITED: 429,
    FaultKind.QUOTA_EXCEEDED: 429,
    FaultKind.OVERLOADED: 503,
    FaultKind.UNREACHABLE: 502,
    FaultKind.TIMEOUT: 504,
    FaultKind.TRUNCATED: 502,
    FaultKind.PROTOCOL: 502,
    FaultKind.UPSTREAM: 502,
    FaultKind.INTERNAL: 500,
}

# Where a fault of the client's own reads differently.
_CLIENT_STATUS = {
    FaultKind.UNAUTHENTICATED: 401,
    FaultKind.FORBIDDEN: 403,
    FaultKind.TIMEOUT: 408,
}


class RequestFailed(Exception):
    """A request ends here, before its first byte, with this fault."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def status_of(fault: Fault) -> int:
    """The HTTP status a client sees for this fault.

    Overload stays a 429 where the upstream called it one (TGI does), since clients back off on
    that; everything else says "unavailable".
    """
    if fault.origin == "client":
        return _CLIENT_STATUS.get(fault.kind, fault.status or _STATUS[fault.kind])
    if fault.kind is FaultKind.OVERLOADED and fault.status == 429:
        return 429
    return _STATUS[fault.kind]


def client_fault(kind: FaultKind, message: str, *, status: int | None = None) -> Fault:
    """A fault the client can mend; `status` where the kind's own is too coarse (405, 415)."""
    return Fault(kind=kind, origin="client", message=message, status=status)


def proxy_fault(
    kind: FaultKind, message: str, *, retry_after: float | None = None, status: int | None = None
) -> Fault:
    """A fault of penstock's own, or of how it is configured or loaded."""
    return Fault(kind, "proxy", message, retry_after=retry_after, status=status)


def upstream_fault(kind: FaultKind, message: str, *, code: str | None = None) -> Fault:
    """A fault of the model server, or of the way to it, in our words."""
    return Fault(kind=kind, origin="upstream", message=message, code=code)
