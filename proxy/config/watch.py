"""A path -> "the content changed".

Notifications only ring a bell. Whoever rang it, the file is read until two reads agree, and its
SHA-256 decides: a Kubernetes ConfigMap that is rolled back has an older mtime than before, and an
event in the directory names `..data` or a temporary file, hardly ever the file that is meant.

Directories are watched, not the file: a watch on the file is bound to its inode and goes blind
after the first atomic rename or `..data` swap. For every link on the way to the file it is the
directory that holds the link and the directory that holds that one, so a directory replaced as a
whole is noticed too. What no notification tells (another file system mounted over the directory,
a far ancestor renamed, a network file system) is found by a slow look every few seconds, and where
nothing can be watched at all that look becomes a quick one.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from time import sleep

import msgspec
from watchfiles import awatch

# A registry of ten thousand models is 10 MB; this only keeps a wrong path from filling the memory.
LIMIT_BYTES = 64 * 1024 * 1024
# An editor that truncates and writes needs a few milliseconds; a copy over a network somewhat more.
SETTLE_SECONDS = 0.02
SETTLE_READS = 50
# Without notifications a change is live within about this.
POLL_SECONDS = 0.5
# With notifications this is for what they miss.
SAFETY_SECONDS = 10.0
# Notifications are gathered until there was none for one step, or for the debounce at most, so
# that a storm of writes is read five times a second. A shorter step only wakes the thread more.
_STEP_MS = 100
_DEBOUNCE_MS = 200
# Where Linux gives up following links as well.
_LINKS_LIMIT = 40


class Content(msgspec.Struct, frozen=True):
    """What the file holds, and the SHA-256 of it in hex."""

    data: bytes
    digest: str


class Unreadable(msgspec.Struct, frozen=True):
    """Why the file cannot be read; begins with its path, fit for a log line."""

    reason: str


def digest_of(data: bytes) -> str:
    """The SHA-256 of a content, in hex: its identity in the status, the log and the metrics."""
    return hashlib.sha256(data).hexdigest()


def read(path: Path) -> Content | Unreadable:
    """The content of the file once two reads agree; blocks, so call it in a thread.

    A file over `LIMIT_BYTES`, or one that keeps changing for a second, is unreadable, and so is
    anything that is not a regular file: a FIFO or a device could block for ever.
    """
    last = _read_once(path)
    for _ in range(SETTLE_READS):
        sleep(SETTLE_SECONDS)
        found = _read_once(path)
        if found == last:
            return found
        last = found
    return Unreadable(f"{path}: changes faster than it can be read")


async def watch(
    path: Path,
    changed: Callable[[], Awaitable[object]],
    *,
    since: str,
    poll: bool = False,
    safety_seconds: float = SAFETY_SECONDS,
) -> None:
    """Await `changed` each time the file no longer reads as it did, until cancelled.

    `since` is the digest of the content the caller knows, so a change between its own read and
    this call is not lost. A file that becomes unreadable is a change, told once; so is its return.
    Changes that come while `changed` runs are told together afterwards. With `poll` the file is
    read every `POLL_SECONDS` and nothing is watched.
    """
    seen = since
    bell = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_ring(bell) if poll else _listen(path, bell, safety_seconds))
        while True:
            await bell.wait()
            bell.clear()
            found = await asyncio.to_thread(read, path)
            mark = found.digest if isinstance(found, Content) else found.reason
            if mark != seen:
                seen = mark
                await changed()


def _read_once(path: Path) -> Content | Unreadable:
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return Unreadable(f"{path}: not a regular file")
            data = file.read(LIMIT_BYTES + 1)
    except OSError as error:
        return Unreadable(f"{path}: {(error.strerror or type(error).__name__).lower()}")
    if len(data) > LIMIT_BYTES:
        return Unreadable(f"{path}: larger than {LIMIT_BYTES} bytes")
    return Content(data, digest_of(data))


def _open_at_once(path: str, flags: int) -> int:
    """Open without waiting for the other end of a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK)


async def _ring(bell: asyncio.Event) -> None:
    while True:
        bell.set()
        await asyncio.sleep(POLL_SECONDS)


async def _listen(path: Path, bell: asyncio.Event, safety_seconds: float) -> None:
    """Ring at every notification, and whenever one may have been missed."""
    while True:
        try:
            directories = await asyncio.to_thread(_directories, path)
            await _listen_in(directories, path, bell, safety_seconds)
        except* (OSError, RuntimeError):
            # No directory, no permission, no inotify instance left (watchfiles says that with a
            # RuntimeError, and inside its loop with a group): poll, and try again each time.
            bell.set()
            await asyncio.sleep(POLL_SECONDS)


async def _listen_in(
    directories: Mapping[Path, tuple[int, int]],
    path: Path,
    bell: asyncio.Event,
    safety_seconds: float,
) -> None:
    """Ring at every notification until the path leads through other directories than these."""
    if not directories:
        raise FileNotFoundError(path)
    # awatch lays its watch before it first suspends. This runs right after, and so covers every
    # change that was made while nothing was watching.
    asyncio.get_running_loop().call_soon(bell.set)
    names = await asyncio.to_thread(_names, path)
    batches = awatch(
        *directories,
        watch_filter=lambda _, changed: Path(changed).name in names,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=int(safety_seconds * 1000),
        yield_on_timeout=True,
        force_polling=False,
        recursive=False,
    )
    async with aclosing(batches):
        async for _ in batches:
            bell.set()
            if await asyncio.to_thread(_directories, path) != directories:
                return


def _directories(path: Path) -> dict[Path, tuple[int, int]]:
    """The directories in which a change may be one of the file: device and inode of each."""
    found = {}
    for step in _chain(path.absolute()):
        for directory in (step.parent, step.parent.parent):
            with suppress(OSError):
                status = directory.stat()
                found[directory] = (status.st_dev, status.st_ino)
    return found


def _names(path: Path) -> frozenset[str]:
    """What an event must be about to ring: a log that grows beside the file is none of ours."""
    steps = list(_chain(path.absolute()))
    return frozenset(name for step in steps for name in (step.name, step.parent.name))


def _chain(path: Path) -> Iterator[Path]:
    """The path, then what each link on the way points at."""
    for _ in range(_LINKS_LIMIT):
        yield path
        try:
            path = path.parent / path.readlink()
        except OSError:  # not a link, or gone
            return
