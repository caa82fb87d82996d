"""Read, build, swap: how a changed configuration goes live, and how a bad one does not.

The watcher, SIGHUP and POST /reload all call `Reloader.reload`. It reads the file in a thread and
does the rest (compare, build, assign, tell) without one `await`, so that no other task can see or
make a state in between. Building takes a few milliseconds of the loop and is worth that.

Requests take `current` once, at the door, and keep it to their last byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec
from msgspec.structs import replace

from proxy.config.problems import ConfigError
from proxy.config.watch import Content, Unreadable, digest_of, read, watch

# Between two looks at the files of secrets. They are few, and rotate once a day.
SECRETS_SECONDS = 10.0

_log = logging.getLogger(__name__)


class Secrets(Protocol):
    """The secrets that a registry was built with and that stand in files of their own."""

    digest: str
    """Of what they held then."""

    def now(self) -> str:
        """The digest of what they hold at this moment; reads them."""


class Built(Protocol):
    """What is swapped."""

    @property
    def secrets(self) -> Secrets:
        """What it was built with, besides the file."""


R = TypeVar("R", bound=Built)


class ReloadStatus(msgspec.Struct, frozen=True):
    """What serves, and how the last attempt to replace it went.

    `ok` says that the file, when last looked at, was what serves. Where it is false, `problems`
    says why, one text each, and `generation`, `digest` and `loaded_at` still are those of the
    registry that serves. Times are seconds since 1970. `digest` is the SHA-256 of the content.
    """

    generation: int
    digest: str
    loaded_at: float
    last_attempt_at: float
    reason: str
    ok: bool = True
    problems: tuple[str, ...] = ()


class Reloader(Generic[R]):
    """Holds the registry that serves and replaces it when the file changes.

    `current` was built by the caller from `content`, as generation 1. `build` makes the next one
    from the file's bytes and the number of its generation; it raises `ConfigError`, and whatever
    else it raises leaves `current` in place too. `on_result` hears of every attempt, after it
    took effect; it must not raise. Every `secrets_seconds` the secrets' files are looked at.
    """

    def __init__(
        self,
        path: Path,
        build: Callable[[bytes, int], R],
        current: R,
        content: bytes,
        on_result: Callable[[ReloadStatus], None],
        *,
        secrets_seconds: float = SECRETS_SECONDS,
    ) -> None:
        self._path = path
        self._build = build
        self._on_result = on_result
        self._secrets_seconds = secrets_seconds
        self._turn = asyncio.Lock()
        self._begun = 0
        self._completed = 0
        self._changed = asyncio.Event()
        self.current = current
        now = _now()
        self.status = ReloadStatus(1, digest_of(content), now, now, "start")

    async def run(self, *, poll: bool = False) -> None:
        """Reload at every change of the file or a secret, until cancelled.

        `poll` where nothing notifies.
        """
        changed = partial(self.reload, "file changed")
        async with asyncio.TaskGroup() as group:
            group.create_task(watch(self._path, changed, since=self.status.digest, poll=poll))
            group.create_task(self._watch_secrets())

    async def reload(self, reason: str) -> ReloadStatus:
        """Make the file as it is now what serves; the status after an attempt begun since the call.

        Attempts run one at a time. Calls that come during one share the next, under the reason of
        the first of them. The content that serves already, with the same secrets, makes no new
        generation and ends an earlier failure; a content that was refused is tried again, since
        what it refers to (a secret's file, say) may have been mended.
        """
        arrived = self._begun
        async with self._turn:
            if self._completed <= arrived:
                self._begun += 1
                await self._attempt(reason)
                self._completed = self._begun
        return self.status

    async def changed(self, seen: ReloadStatus) -> ReloadStatus:
        """The status, as soon as it is another than `seen`; a slow reader gets only the newest."""
        while self.status is seen:
            await self._changed.wait()
        return self.status

    async def _attempt(self, reason: str) -> None:
        found, secrets = await asyncio.to_thread(self._look)
        # From here to the end nothing awaits.
        if isinstance(found, Unreadable):
            self._refuse(reason, (found.reason,))
        elif found.digest == self.status.digest and secrets == self.current.secrets.digest:
            self._tell(self._keep(reason))
        else:
            self._replace(reason, found.data, found.digest)

    def _look(self) -> tuple[Content | Unreadable, str]:
        """The file as it is, and the digest of the secrets that what serves was built with."""
        return read(self._path), self.current.secrets.now()

    async def _watch_secrets(self) -> None:
        """Reload when a secret's file holds something new; a refused one is not tried twice."""
        seen = self.current.secrets.digest
        while True:
            await asyncio.sleep(self._secrets_seconds)
            now = await asyncio.to_thread(self.current.secrets.now)
            if now != seen:
                seen = now
                if now != self.current.secrets.digest or not self.status.ok:
                    await self.reload("secret changed")

    def _replace(self, reason: str, data: bytes, digest: str) -> None:
        generation = self.status.generation + 1
        try:
            registry = self._build(data, generation)
        except ConfigError as error:
            self._refuse(reason, tuple(str(problem) for problem in error.problems))
        except Exception as error:  # noqa: BLE001 - a bug in `build` must not end a proxy that serves
            _log.exception("generation %d could not be built", generation)
            self._refuse(reason, (f"internal error: {type(error).__name__}, see the log",))
        else:
            self.current = registry
            now = _now()
            self._tell(ReloadStatus(generation, digest, now, now, reason))

    def _keep(self, reason: str) -> ReloadStatus:
        """The status after an attempt that found what serves already."""
        return replace(self.status, last_attempt_at=_now(), reason=reason, ok=True, problems=())

    def _refuse(self, reason: str, problems: tuple[str, ...]) -> None:
        self._tell(replace(self._keep(reason), ok=False, problems=problems))

    def _tell(self, status: ReloadStatus) -> None:
        self.status = status
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        self._on_result(status)


def _now() -> float:
    return datetime.now(UTC).timestamp()
