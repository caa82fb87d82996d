"""Where requests wait for room at a provider's endpoints: bounded, by priority, fair.

Higher priorities go first. Within one, clients take turns, so that a batch job of a thousand
requests does not stand before somebody's one question; a client's requests for one model stay in
their order. Who finds nobody waiting and room does not come here at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from proxy.config.rules import AdmissionRules


class Releasable(Protocol):
    """Something taken that must be given back."""

    def release(self) -> None:
        """Give it back."""


L = TypeVar("L", bound=Releasable)

_MAX_RETRY_AFTER = 60.0
_LOOK_SECONDS = 1.0  # time alone may make room: an ejection that has passed tells nobody
_SMOOTHING = 0.2  # of the mean time between two that leave the line


class Ticket(msgspec.Struct, frozen=True):
    """Who waits, and for what."""

    client: str
    model: str
    priority: int = 0  # higher goes first


class LineFull(Exception):
    """Nobody else may wait; `retry_after` says in how many seconds there may be room."""

    def __init__(self, retry_after: float) -> None:
        super().__init__("the line is full")
        self.retry_after = retry_after


class _Waiter(Generic[L]):
    __slots__ = ("granted", "take")

    def __init__(self, take: Callable[[], L | None], granted: asyncio.Future[L]) -> None:
        self.take = take
        self.granted = granted


class Line(Generic[L]):
    """The waiting requests of one provider. `clock` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By priority, then by client and model: whose turn it is stands first.
        self._queues: dict[int, dict[tuple[str, str], deque[_Waiter[L]]]] = {}
        self._length = 0
        self._pace = 0.0  # seconds between two that leave, smoothed
        self._left_at: float | None = None
        self._looked_at = 0.0

    def __len__(self) -> int:
        return self._length

    async def wait(self, ticket: Ticket, take: Callable[[], L | None], rules: AdmissionRules) -> L:
        """What `take` gives once there is room; it is called in turn, and gives None for no room.

        Raises LineFull at once where too many wait already, TimeoutError after the longest wait.
        What is granted in the very moment in which the wait ends otherwise is given back.
        """
        if self._length >= rules.max_queue:
            raise LineFull(self.retry_after())
        granted: asyncio.Future[L] = asyncio.get_running_loop().create_future()
        waiter = _Waiter(take, granted)
        group = (ticket.client, ticket.model)
        self._queues.setdefault(ticket.priority, {}).setdefault(group, deque()).append(waiter)
        self._length += 1
        self.wake()  # what the others wait for may not be what is wanted here
        try:
            async with asyncio.timeout(rules.max_wait_seconds):
                while not granted.done():
                    await asyncio.wait((granted,), timeout=_LOOK_SECONDS)
                    self._look()
        except BaseException:
            if waiter.granted.done():
                waiter.granted.result().release()
            else:
                self._remove(ticket.priority, group, waiter)
            raise
        return granted.result()

    def wake(self) -> None:
        """There may be room: let in who is next, as long as there is some."""
        if self._length:
            self._looked_at = self._clock()
            while any(self._serve(priority) for priority in sorted(self._queues, reverse=True)):
                pass

    def waiting(self) -> list[tuple[int, str]]:
        """Priority and model of each that waits; may be asked in any thread."""
        groups = [
            (priority, model, len(waiters))
            for priority, groups in list(self._queues.items())
            for (_, model), waiters in list(groups.items())
        ]
        return [(priority, model) for priority, model, count in groups for _ in range(count)]

    def retry_after(self) -> float:
        """In how many seconds the line will have moved up, should it go on as it went."""
        return min(max(1.0, self._pace * self._length), _MAX_RETRY_AFTER)

    def _look(self) -> None:
        """Wake, unless one of the others who wait did not long ago."""
        if self._clock() - self._looked_at >= _LOOK_SECONDS / 2:
            self.wake()

    def _serve(self, priority: int) -> bool:
        """Let in the first client in turn for whom there is room."""
        groups = self._queues[priority]
        for group, waiters in groups.items():
            lease = waiters[0].take()
            if lease is not None:
                waiter = waiters[0]
                self._remove(priority, group, waiter)
                if waiters:  # to the end of the round
                    groups[group] = groups.pop(group)
                waiter.granted.set_result(lease)
                self._note_pace()
                return True
        return False

    def _remove(self, priority: int, group: tuple[str, str], waiter: _Waiter[L]) -> None:
        groups = self._queues[priority]
        waiters = groups[group]
        waiters.remove(waiter)
        self._length -= 1
        if not waiters:
            del groups[group]
            if not groups:
                del self._queues[priority]

    def _note_pace(self) -> None:
        now = self._clock()
        if self._left_at is not None:
            self._pace += _SMOOTHING * (now - self._left_at - self._pace)
        self._left_at = now
