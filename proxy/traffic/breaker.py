"""Leaves an endpoint out when its requests fail, and lets one request find out whether it is back.

Blame is fair: only a `fault` counts (a reset, a truncation, a timeout, a 5xx). An endpoint that
is busy, or that refuses a request for what is in it, is alive.
"""

from __future__ import annotations

from collections import deque
from enum import StrEnum
from random import Random

from proxy.config.rules import HealthRules
from proxy.outcome import Verdict

_WINDOW = 20  # requests that a rate of faults is taken of
_FORGIVEN_AFTER = 10  # times the longest ejection without a new one, and the next is short again


class Circuit(StrEnum):
    """Whether an endpoint gets requests, in the usual words for it."""

    CLOSED = "closed"  # it does
    OPEN = "open"  # it does not
    HALF_OPEN = "half_open"  # one, to see


class Breaker:
    """The circuit of one endpoint. Times are monotonic seconds, given by the caller."""

    def __init__(self, random: Random | None = None) -> None:
        self._random = random or Random()  # noqa: S311 - spreads probes, guards nothing
        self._recent: deque[bool] = deque(maxlen=_WINDOW)  # True for a fault
        self._in_row = 0
        self._ejections = 0  # one after the other
        self._open_until: float | None = None
        self._opened_at = 0.0
        self._probes = 0  # under way

    def circuit(self, now: float) -> Circuit:
        """As of now."""
        if self._open_until is None:
            return Circuit.CLOSED
        return Circuit.OPEN if now < self._open_until else Circuit.HALF_OPEN

    def admits(self, now: float) -> bool:
        """Whether a request may be sent: none while open, one at a time while half open."""
        if self._open_until is None:
            return True
        return now >= self._open_until and not self._probes

    @property
    def open_until(self) -> float:
        """When the first probe may be sent; 0 where the circuit is closed."""
        return self._open_until or 0.0

    def hurry(self, now: float) -> None:
        """It is known to be back: the probe may be sent now."""
        if self._open_until is not None:
            self._open_until = min(self._open_until, now)

    def begin(self) -> bool:
        """A request is about to be sent; whether it is a probe, since the circuit is not closed.

        Each is recorded or withdrawn in the end. Where no endpoint works there may be several.
        """
        if self._open_until is None:
            return False
        self._probes += 1
        return True

    def withdraw(self) -> None:
        """A probe ended without a word about the endpoint."""
        self._probes -= 1

    def record(self, verdict: Verdict, rules: HealthRules, now: float, *, probe: bool) -> None:
        """A request has ended; `probe` as `begin` said of it."""
        if probe:
            self._probes -= 1
        elif self._open_until is not None:
            return  # it was sent before, and says nothing new
        if verdict is Verdict.FAULT:
            self._count_fault(rules, now, probe=probe)
        elif verdict is not Verdict.CANCELLED:
            self._in_row = 0
            self._recent.append(False)
            self._open_until = None

    def _count_fault(self, rules: HealthRules, now: float, *, probe: bool) -> None:
        if now < self.open_until:
            return  # it was asked for want of a better one: an outage of all is not its own
        self._in_row += 1
        self._recent.append(True)
        many = len(self._recent) == _WINDOW and sum(self._recent) >= rules.fault_rate * _WINDOW
        tried = probe and self._open_until is not None
        if tried or many or self._in_row >= rules.failures:
            self._open(rules, now)

    def _open(self, rules: HealthRules, now: float) -> None:
        if now > self._opened_at + _FORGIVEN_AFTER * rules.max_eject_seconds:
            self._ejections = 0
        seconds = min(rules.eject_seconds * 2**self._ejections, rules.max_eject_seconds)
        self._ejections += 1
        self._opened_at = now
        self._open_until = now + seconds * self._random.uniform(0.8, 1.2)
        self._recent.clear()
        self._in_row = 0
