"""An answer in lines of JSON: bytes to payloads, and the verdict at the end.

The same rules as over server-sent events (`framing`): an error may be any line, a line cut off by
the end of the body is none, and a body that ends without an end mark is a failure.
"""

from __future__ import annotations

from parsers.dialects import faults
from parsers.dialects.framing import PayloadReader
from parsers.errors import BadPayload, FrameTooLarge
from parsers.events import Ended, Failed, Fault, FaultKind, StreamEvent

_TRUNCATED = Failed(Fault(FaultKind.TRUNCATED, "upstream", "upstream's answer broke off"))
_ODD = Failed(Fault(FaultKind.PROTOCOL, "upstream", "upstream sent a line that is not its format"))


class LineDecoder:
    """A StreamDecoder over lines that end in LF or CRLF; empty ones are keep-alives."""

    def __init__(self, reader: PayloadReader, max_line_bytes: int) -> None:
        self._reader = reader
        self._max_bytes = max_line_bytes
        self._held: list[bytes] = []  # of the line that is not complete
        self._held_bytes = 0
        self._over = False
        self.frames = 0

    odd = False  # no client speaks it

    @property
    def pending_bytes(self) -> int:
        """How many of the bytes fed last belong to a line that is not complete."""
        return 0 if self._over else self._held_bytes

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that these bytes complete.

        Raises FrameTooLarge, with the events before it, for a line beyond the limit.
        """
        # per token
        if self._over:
            return []
        *lines, rest = data.split(b"\n")
        events: list[StreamEvent] = []
        for line in lines:
            self._hold(line, events)
            whole = b"".join(self._held)
            self._held.clear()
            self._held_bytes = 0
            if self._take(whole, events):
                return events
        self._hold(rest, events)
        return events

    def close(self) -> list[StreamEvent]:
        """The last events: of a line without its end if it is whole, and the verdict."""
        if self._over:
            return []
        events: list[StreamEvent] = []
        over = self._take(b"".join(self._held), events)
        self._over = True
        if events == [_ODD]:  # cut in its middle
            return [_TRUNCATED]
        if not over:
            events.append(Ended(marked=False) if self._reader.complete else _TRUNCATED)
        return events

    def _hold(self, piece: bytes, events: list[StreamEvent]) -> None:
        # per token
        self._held_bytes += len(piece)
        if self._held_bytes > self._max_bytes:
            raise FrameTooLarge("line over the size limit", kind="line_too_long", events=events)
        if piece:
            self._held.append(piece)

    def _take(self, line: bytes, events: list[StreamEvent]) -> bool:
        """Append what a line says; whether that ends the answer."""
        # per token
        line = line.strip()
        if not line:
            return False
        self.frames += 1
        try:
            self._over = self._reader.read(line, "", events)
        except BadPayload:
            fault = faults.recognise(line)
            events.append(Failed(fault) if fault else _ODD)
            self._over = True
        return self._over
