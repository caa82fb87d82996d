"""So many a second: for what anybody can cause at will, and nobody wants to read all of."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic


class Ration:
    """Lets so many through in each second, and counts the rest."""

    def __init__(self, each_second: int, *, clock: Callable[[], float] = monotonic) -> None:
        self._each_second = each_second
        self._clock = clock
        self._second = clock()
        self._through = 0
        self._kept_back = 0

    def take(self) -> bool:
        """Whether one more is let through."""
        now = self._clock()
        if now >= self._second + 1:
            self._second, self._through = now, 0
        if self._through >= self._each_second:
            self._kept_back += 1
            return False
        self._through += 1
        return True

    def kept_back(self) -> int:
        """How many were not let through since this was last asked."""
        count, self._kept_back = self._kept_back, 0
        return count
