"""What Google says of a call that failed (google.rpc.Status), beyond what every server says.

The object may stand in an array. Its `details` tell two things that the status does not: that the
key is wrong, which is a plain 400 otherwise, and how long to wait.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from parsers.dialects import faults, repair
from parsers.errors import BadPayload
from parsers.events import Fault, FaultKind

_WRONG_KEY = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED"})
# google.protobuf.Duration as JSON; nobody waits for more digits than these.
_DURATION = re.compile(r"(\d{1,8}(?:\.\d{1,9})?)s")


class _Detail(msgspec.Struct, frozen=True, rename="camel"):
    """One of `details`: google.rpc.ErrorInfo, RetryInfo, or another kind, of no use here."""

    reason: object = None
    retry_delay: object = None


class _Error(msgspec.Struct, frozen=True):
    details: tuple[_Detail, ...] = ()


class _Answer(msgspec.Struct, frozen=True):
    error: _Error


_ANSWER: msgspec.json.Decoder[_Answer | tuple[_Answer, ...]] = msgspec.json.Decoder(
    _Answer | tuple[_Answer, ...]
)


def from_response(status: int, body: bytes) -> Fault:
    """The fault of an answer with a bad status."""
    fault = faults.from_response(status, body)
    for detail in _details(body):
        if detail.reason in _WRONG_KEY:
            fault = replace(fault, kind=FaultKind.UNAUTHENTICATED)
        if isinstance(detail.retry_delay, str) and (
            found := _DURATION.fullmatch(detail.retry_delay)
        ):
            fault = replace(fault, retry_after=float(found[1]))
    return fault


def _details(body: bytes) -> tuple[_Detail, ...]:
    try:
        answer = repair.decode(_ANSWER, body)
    except BadPayload:
        return ()
    first = answer if isinstance(answer, _Answer) else next(iter(answer), None)
    return first.error.details if first is not None else ()
