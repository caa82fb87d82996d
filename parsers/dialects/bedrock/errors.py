"""What AWS says of a call that failed: the words in the body, their kind in a header."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from parsers.dialects import faults
from parsers.events import Fault

_KIND = b"x-amzn-errortype"
# What AWS says after a bad signature: all that was signed, a session's token in it.
_QUOTED = "The Canonical String for this request"


def refusal(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Fault:
    """The fault of an answer with a bad status; header names are in lower case.

    The kind may be followed by a colon and a URI, and outranks the status (upstreams.md 8).
    """
    told = faults.from_response(status, body)
    told = replace(told, message=told.message.partition(_QUOTED)[0].strip())
    kind = headers.get(_KIND, b"").partition(b":")[0].strip().decode("latin-1")
    if not kind:
        return told
    fault = faults.from_words(told.message, type=kind, status=status)
    return replace(fault, code=told.code, param=told.param)
