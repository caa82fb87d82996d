"""How many retries there may be: a share of the requests, and a few in any case.

Without it an outage would be answered with several times the traffic that caused it.
"""

from __future__ import annotations

from math import inf

from proxy.config.rules import RetryRules

_SAVED_SHARE = 20.0  # retries that a quiet time may save up
_SAVED_SECONDS = 2.0  # of the floor


class RetryBudget:
    """The retries of one provider. Times are monotonic seconds, given by the caller."""

    def __init__(self, now: float) -> None:
        self._share = 0.0
        self._floor = inf  # as much as may be saved up
        self._filled_at = now

    def earn(self, rules: RetryRules) -> None:
        """A request came in."""
        self._share = min(self._share + rules.budget, _SAVED_SHARE)

    def spend(self, rules: RetryRules, now: float) -> bool:
        """Whether one more retry is allowed; then it is counted."""
        floor = rules.floor_per_second
        most = max(1.0, floor * _SAVED_SECONDS) if floor else 0.0
        filled = self._floor + floor * (now - self._filled_at)
        self._floor = min(filled, most)
        self._filled_at = now
        if self._floor >= 1.0:
            self._floor -= 1.0
            return True
        if self._share >= 1.0:
            self._share -= 1.0
            return True
        return False
