"""The trace that a request belongs to: passed on as it came, and named beside what is counted.

https://www.w3.org/TR/trace-context/. penstock makes no spans, so it changes neither header.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

# Later versions may add fields behind; version ff and an id of zeros are invalid (2.2.2, 3.2.2.3).
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]([0-9a-f])(?:-.{1,200})?"
)
_SAMPLED = 1
_MAX_STATE_CHARS = 512  # what one must be able to pass on (3.3.1.5)


def kept_trace(headers: Mapping[str, str]) -> str:
    """The id of the trace, if somebody keeps it; else empty."""
    parent = headers.get("traceparent")
    if parent is None:
        return ""
    found = _TRACEPARENT.fullmatch(parent)
    return found[1] if found is not None and int(found[2], 16) & _SAMPLED else ""


def trace_lines(headers: Mapping[str, str]) -> bytes:
    """The header lines that tell a model server of the trace; none for a client that names none."""
    parent = headers.get("traceparent")
    if parent is None or not _TRACEPARENT.fullmatch(parent) or not _is_plain(parent):
        return b""
    state = headers.get("tracestate", "")
    lines = f"traceparent: {parent}\r\n"
    if state and len(state) <= _MAX_STATE_CHARS and _is_plain(state):
        lines += f"tracestate: {state}\r\n"
    return lines.encode()


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
