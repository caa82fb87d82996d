"""One JSON line per event, written by a thread of its own; on a terminal, for people.

The loop only appends to a bounded queue; a log target that blocks or fails costs lines, which are
counted, and never a request. The thread writes what has gathered a few times a second,
since a wake-up per line would cost more than the line.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import BinaryIO, TypeAlias, cast

import msgspec
from aiohttp.http_exceptions import HttpProcessingError

from proxy.log_text import as_text

MAX_PENDING = 10_000  # lines; about 5 MB
FLUSH_SECONDS = 0.1
MAX_FIELD_CHARS = 2000

_ENCODER = msgspec.json.Encoder()
_Fields: TypeAlias = Mapping[str, object] | msgspec.Struct
_Line: TypeAlias = tuple[datetime, str, Callable[[], _Fields]]


class Log:
    """Writes events to a binary stream. Start it before use, close it after."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._is_read = target.isatty()  # by somebody, now
        self._pending: deque[_Line] = deque()
        self._closing = threading.Event()
        self._waiting = threading.Event()  # set while there is something to write
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self.dropped = 0

    def start(self) -> None:
        """Begin writing."""
        self._thread.start()

    def write(self, event: str, **fields: object) -> None:
        """Queue one line; counted and dropped when the queue is full."""
        self.write_later(event, lambda: fields)

    def write_later(self, event: str, render: Callable[[], _Fields]) -> None:
        """As `write`; the thread asks for the fields, which must not change any more.

        A mapping's are left out where they are None, and cut where they are long. A struct, which
        costs a tenth, looks after itself.
        """
        if len(self._pending) >= MAX_PENDING:
            self.dropped += 1
            return
        self._pending.append((datetime.now(UTC), event, render))
        if not self._waiting.is_set():
            self._waiting.set()

    def close(self, wait_seconds: float = 2.0) -> None:
        """Write what is queued, waiting for a target that blocks no longer than this."""
        self._closing.set()
        self._waiting.set()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._waiting.wait()
            self._closing.wait(FLUSH_SECONDS)  # more lines gather meanwhile
            self._waiting.clear()
            self.flush()
        self.flush()

    def _write_all(self, data: bytes) -> None:
        """Write all of it: what has no buffer may take a part. Raises OSError."""
        rest = memoryview(data)
        while rest:
            count = self._target.write(rest)
            if not count:
                raise BlockingIOError("the log takes no more")
            rest = rest[count:]

    def flush(self) -> None:
        """Write what is queued; the thread does it, or the caller where it was not started."""
        lines = [_encoded(*self._pending.popleft()) for _ in range(len(self._pending))]
        if not lines:
            return
        if self._is_read:
            lines = [as_text(line) for line in lines]
        try:
            self._write_all(b"".join(lines))
            self._target.flush()
        except (OSError, ValueError):  # full, broken or closed: serving goes on
            self.dropped += len(lines)


def standard_output() -> BinaryIO:
    """Standard output without a buffer.

    At its end Python takes the buffer's lock, which the thread may hold for ever: whoever reads
    slowly must not stop the leaving.
    """
    return cast(BinaryIO, open(sys.stdout.fileno(), "wb", buffering=0, closefd=False))


def _encoded(time: datetime, event: str, render: Callable[[], _Fields]) -> bytes:
    fields = render()
    if not isinstance(fields, msgspec.Struct):
        fields = {
            name: cut(value) if type(value) is str else value
            for name, value in fields.items()
            if value is not None
        }
    try:
        # The event's name is a word of ours; and the struct's first brace gives way to both.
        head = b'{"time":%b,"event":"%b"' % (_ENCODER.encode(time), event.encode())
        rest = _ENCODER.encode(fields)
    except (TypeError, ValueError, OverflowError):  # half a character, in a path or a traceback
        line = {"time": time, "event": event, "unencodable": ascii(fields)}
        return _ENCODER.encode(line) + b"\n"
    return head + (b"}\n" if rest == b"{}" else b",%b\n" % rest[1:])


def cut(text: str) -> str:
    """The beginning of a text that is too long for a line, else all of it."""
    return text if len(text) <= MAX_FIELD_CHARS else f"{text[:MAX_FIELD_CHARS]}…"


def _quotes_no_request(record: logging.LogRecord) -> bool:
    """False for what aiohttp says of a request it cannot parse: it quotes the line, key and all."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class LogHandler(logging.Handler):
    """Passes what libraries and our own modules log on to a `Log`."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log
        self.addFilter(_quotes_no_request)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue one record, with its traceback."""
        trace = None
        if record.exc_info is not None and record.exc_info[0] is not None:
            trace = "".join(traceback.format_exception(*record.exc_info))[-MAX_FIELD_CHARS:]
        self._log.write(
            "log",
            level=record.levelname.lower(),
            logger=record.name,
            message=record.getMessage(),
            traceback=trace,
        )
