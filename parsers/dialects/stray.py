"""Lines of a stream that belong to no event, kept because errors hide there.

Gemini breaks off with bare JSON lines, llama.cpp has reported errors in a field named `error`, and
a proxy in between may answer with a page or a whole JSON body where a stream was promised.
"""

from __future__ import annotations

# A whole answer fits; a stream of garbage does not.
_MAX_BYTES = 1024 * 1024


class StrayLines:
    """The lines with a field name unknown to SSE, up to a limit; what is beyond it is dropped."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._room = _MAX_BYTES

    def add(self, name: bytes, value: bytes) -> None:
        """Keep a line."""
        # A line without a colon is all name.
        line = name + b":" + value if value else name
        self._room -= len(line)
        if self._room >= 0:
            self._lines.append(line)

    @property
    def body(self) -> bytes:
        """The lines as one text."""
        return b"\n".join(self._lines)
