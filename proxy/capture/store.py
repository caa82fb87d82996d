"""The files of captures: redacted and written by a thread of their own, in a ring.

The loop only appends to a bounded queue. A disk that blocks, fails or is full costs captures, which
are counted, and never a request.
"""

from __future__ import annotations

import os
import queue
import re
import stat
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from tempfile import gettempdir
from time import monotonic

import msgspec

from proxy.capture.format import FORMAT, Event, Header, written
from proxy.capture.redaction import redacted
from proxy.config.schema import Capture

SUFFIX = ".capture"
DEBUG, FAILED, SLOW = "debug", "failed", "slow"

_MAX_PENDING = 100
_MAX_REST_SECONDS = 1.0
_NAME_CHARS = 60  # of a request's id in the name of a file
_UNFIT = re.compile(r"[^A-Za-z0-9._-]")


class Finished(msgspec.Struct, frozen=True):
    """A request that has ended, with its secrets still in it."""

    reason: str
    ended: datetime
    fields: dict[str, object]
    events: list[Event]
    hidden: frozenset[str]
    incomplete: dict[str, int]
    rules: Capture
    release: Callable[[], None]


class Store:
    """Writes captures; `tell` hears of each file, or why there is none, in the thread."""

    def __init__(self, tell: Callable[..., None]) -> None:
        self.written = 0
        self.dropped = 0
        self.failed = 0
        self._tell = tell
        self._pending: queue.Queue[Finished | None] = queue.Queue(_MAX_PENDING)
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None  # None: there was nothing to write yet
        self._rings: dict[Path, Ring] = {}
        self._ails = False  # one failure is told, the next ones are only counted

    def put(self, finished: Finished) -> None:
        """Write it soon; counted and dropped where too many wait."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="captures", daemon=True)
            self._thread.start()
        try:
            self._pending.put_nowait(finished)
        except queue.Full:
            self.dropped += 1
            finished.release()

    def close(self, wait_seconds: float = 2.0) -> None:
        """Write what waits, for no longer than this."""
        if self._thread is None:
            return
        self._closing.set()
        try:
            self._pending.put(None, timeout=wait_seconds)
        except queue.Full:
            return
        self._thread.join(wait_seconds)

    def _run(self) -> None:
        while (finished := self._pending.get()) is not None:
            since = monotonic()
            try:
                self._write(finished)
            except Exception as error:  # noqa: BLE001 - the thread's outermost edge
                self._fail(error)
            finally:
                finished.release()
            del finished
            # Looking for secrets takes the interpreter from the loop: half of the time at most.
            self._closing.wait(min(monotonic() - since, _MAX_REST_SECONDS))

    def _write(self, finished: Finished) -> None:
        rules = finished.rules
        path = directory_of(rules)
        ring = self._rings.get(path)
        if ring is None:
            ring = self._rings[path] = Ring(path, is_shared=rules.directory is None)
        file = ring.add(_name(finished), _content(finished), rules)
        self.written += 1
        self._ails = False
        self._tell(request_id=finished.fields["request_id"], file=str(file))

    def _fail(self, error: Exception) -> None:
        self.failed += 1
        if not self._ails:
            self._ails = True
            reason = error.strerror if isinstance(error, OSError) else None
            self._tell(problem=(reason or type(error).__name__).lower())


def directory_of(rules: Capture) -> Path:
    """Where captures are written."""
    if rules.directory is not None:
        return Path(rules.directory)
    return Path(gettempdir()) / f"penstock-captures-{os.getuid()}"


def _content(finished: Finished) -> bytes:
    header = Header(
        format=FORMAT,
        time=finished.ended.isoformat(),
        reason=finished.reason,
        request=finished.fields,
        incomplete=finished.incomplete,
    )
    return written(header, redacted(finished.events, finished.hidden))


def _name(finished: Finished) -> str:
    time = finished.ended.strftime("%Y%m%dT%H%M%S.%fZ")
    request_id = _UNFIT.sub("_", str(finished.fields["request_id"]))[:_NAME_CHARS]
    return f"{time}-{finished.reason}-{request_id}{SUFFIX}"


class Ring:
    """The captures in one directory; the oldest make room for the newest.

    Names begin with the time, so their order is that of the captures. Files of other names are left
    alone. Several processes may write to one directory, and each forgets what others delete.
    """

    def __init__(self, path: Path, *, is_shared: bool) -> None:
        self._path = path
        self._is_shared = is_shared  # everybody may make directories beside it
        self._make()
        self._sizes = {each.name: each.stat().st_size for each in sorted(path.glob(f"*{SUFFIX}"))}

    def add(self, name: str, content: bytes, rules: Capture) -> Path:
        """Write a file, in one step for whoever looks; then forget what is too much."""
        self._make()  # somebody may have tidied up
        path, part = self._path / name, self._path / f".{name}.part"
        try:
            with os.fdopen(_opened(part), "wb") as file:
                file.write(content)
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        self._sizes[name] = len(content)
        self._forget(rules)
        return path

    def _forget(self, rules: Capture) -> None:
        unasked = [name for name in self._sizes if name.split("-", 2)[1] != DEBUG]
        for name in unasked[: max(len(unasked) - rules.keep_last, 0)]:
            self._delete(name)
        total = sum(self._sizes.values())
        for name in tuple(self._sizes):
            if total <= rules.max_file_bytes:
                return
            total -= self._sizes[name]
            self._delete(name)

    def _delete(self, name: str) -> None:
        (self._path / name).unlink(missing_ok=True)
        del self._sizes[name]

    def _make(self) -> None:
        """Make the directory. Raises PermissionError for one that others made, to read along."""
        self._path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._is_shared:
            return
        found = self._path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(0, "the directory of captures is not our own")
        self._path.chmod(0o700)


def _opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
