"""The sweep: whose time has come, and nobody else's."""

from __future__ import annotations

from math import inf

import pytest

from proxy.clocks import Sweep


class Waiting:
    """Something that counts how often it was looked at."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.looks = 0

    def tick(self, now: float) -> None:
        """Looked at."""
        del now
        self.looks += 1


def test_only_what_is_due_is_looked_at() -> None:
    sweep, early, late = Sweep(), Waiting(0.0), Waiting(inf)
    sweep.add(early)
    sweep.add(late)

    sweep.tick()
    sweep.tick()

    assert (early.looks, late.looks) == (2, 0)


def test_one_that_fails_stops_nobody_elses_clock(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Waiting):
        def tick(self, now: float) -> None:
            raise ZeroDivisionError

    sweep, good = Sweep(), Waiting(0.0)
    sweep.add(Broken(0.0))
    sweep.add(good)

    sweep.tick()
    sweep.tick()

    assert (good.looks, len(sweep)) == (2, 1)
    assert len(caplog.records) == 1
