"""The waits of every request, checked by one sweep instead of a timer each.

Each running answer keeps the monotonic time at which its current wait runs out; the sweep looks
at all of them ten times a second. So a token costs one assignment, a limit of one second is kept
to a tenth, and a stream that waits costs a comparison of two numbers.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Protocol

SWEEP_SECONDS = 0.1

_logger = logging.getLogger(__name__)


class Timed(Protocol):
    """Something with waits that can run out."""

    @property
    def due(self) -> float:
        """Before this monotonic time there is nothing to check; it may be too early a time."""

    def tick(self, now: float) -> None:
        """Check the waits against this monotonic time; must not raise."""


class Sweep:
    """Ticks everything that waits; add at the start of a wait, discard at its end."""

    def __init__(self) -> None:
        self._timed: set[Timed] = set()
        self._waits = asyncio.Event()  # set while there is anything to tick
        self.lag_seconds = 0.0  # by how much the loop was late, all in all

    def add(self, timed: Timed) -> None:
        """Tick this from now on."""
        if not self._timed:
            self._waits.set()
        self._timed.add(timed)

    def discard(self, timed: Timed) -> None:
        """Tick this no more."""
        self._timed.discard(timed)

    def __len__(self) -> int:
        return len(self._timed)

    def tick(self) -> None:
        """Tick everything once."""
        now = monotonic()
        for timed in tuple(self._timed):  # a tick may discard
            if timed.due > now:
                continue
            try:
                timed.tick(now)
            except Exception:  # a bug in one request must not stop the clocks of all others
                _logger.exception("a request's clocks failed")
                self.discard(timed)

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            await self._waits.wait()
            due = monotonic() + SWEEP_SECONDS
            await asyncio.sleep(SWEEP_SECONDS)
            self.lag_seconds += max(0.0, monotonic() - due)
            self.tick()
            if not self._timed:
                self._waits.clear()
