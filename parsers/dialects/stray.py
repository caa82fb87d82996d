"""Lines of a stream that belong to no event, kept because errors hide there.

Gemini breaks off with bare JSON lines, llama.cpp has reported errors in a field named `error`, and
a proxy in between may answer with a page or a whole JSON body where a stream was promised.
"""

from __future__ import annotations

from parsers.dialects import faults
from parsers.events import Fault

# A whole answer fits; a stream of garbage does not.
_MAX_BYTES = 1024 * 1024


class StrayLines:
    """The lines with a field name unknown to SSE, up to a limit; what is beyond it is dropped."""

    def __init__(self) -> None:
        self.fault: Fault | None = None  # told by a line `error: …`, to be acted upon at once
        self._lines: list[bytes] = []
        self._room = _MAX_BYTES

    def add(self, name: bytes, value: bytes) -> None:
        """Keep a line; the `on_unknown` of SSEParser."""
        if name == b"error":
            self.fault = faults.recognise(value, "error")
        # A line without a colon is all name.
        line = name + b":" + value if value else name
        self._room -= len(line)
        if self._room >= 0:
            self._lines.append(line)

    @property
    def body(self) -> bytes:
        """The lines as one text."""
        return b"\n".join(self._lines)
