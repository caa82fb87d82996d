"""The breaker, told the time."""

from __future__ import annotations

from random import Random

import pytest

from proxy.config.rules import HealthRules
from proxy.outcome import Verdict
from proxy.traffic.breaker import Breaker, Circuit

RULES = HealthRules(
    interval_seconds=10,
    timeout_seconds=30,
    failures=3,
    fault_rate=0.5,
    eject_seconds=2,
    max_eject_seconds=8,
)
LONGER_THAN_JITTER = 1.25


def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(Random(1))
    for _ in range(RULES.failures):
        breaker.record(Verdict.FAULT, RULES, at, probe=False)
    return breaker


def test_faults_in_a_row_open_it() -> None:
    breaker = Breaker()
    breaker.record(Verdict.FAULT, RULES, 0.0, probe=breaker.begin())
    breaker.record(Verdict.FAULT, RULES, 0.0, probe=breaker.begin())
    assert breaker.circuit(0.0) is Circuit.CLOSED
    breaker.record(Verdict.FAULT, RULES, 0.0, probe=breaker.begin())
    assert breaker.circuit(0.0) is Circuit.OPEN
    assert not breaker.admits(0.0)


@pytest.mark.parametrize("alive", [Verdict.SUCCESS, Verdict.BUSY, Verdict.REFUSED])
def test_an_answer_of_any_kind_ends_the_row(alive: Verdict) -> None:
    breaker = Breaker()
    for verdict in (Verdict.FAULT, Verdict.FAULT, alive, Verdict.FAULT, Verdict.FAULT):
        breaker.record(verdict, RULES, 0.0, probe=False)
    assert breaker.circuit(0.0) is Circuit.CLOSED


def test_what_we_broke_off_says_nothing() -> None:
    breaker = Breaker()
    for verdict in (Verdict.FAULT, Verdict.FAULT, Verdict.CANCELLED, Verdict.FAULT):
        breaker.record(verdict, RULES, 0.0, probe=False)
    assert breaker.circuit(0.0) is Circuit.OPEN


def test_a_rate_of_faults_opens_it_too() -> None:
    breaker = Breaker()
    for _ in range(9):
        breaker.record(Verdict.SUCCESS, RULES, 0.0, probe=False)
        breaker.record(Verdict.FAULT, RULES, 0.0, probe=False)
    breaker.record(Verdict.SUCCESS, RULES, 0.0, probe=False)
    assert breaker.circuit(0.0) is Circuit.CLOSED
    breaker.record(Verdict.FAULT, RULES, 0.0, probe=False)
    assert breaker.circuit(0.0) is Circuit.OPEN


def test_half_open_it_lets_one_request_find_out() -> None:
    breaker = opened()
    now = RULES.eject_seconds * LONGER_THAN_JITTER
    assert breaker.circuit(now) is Circuit.HALF_OPEN
    assert breaker.admits(now)
    assert breaker.begin()
    assert not breaker.admits(now)


def test_a_good_probe_closes_it() -> None:
    breaker = opened()
    now = RULES.eject_seconds * LONGER_THAN_JITTER
    breaker.record(Verdict.SUCCESS, RULES, now, probe=breaker.begin())
    assert breaker.circuit(now) is Circuit.CLOSED
    assert breaker.admits(now)


def test_a_probe_that_is_broken_off_leaves_the_question_open() -> None:
    breaker = opened()
    now = RULES.eject_seconds * LONGER_THAN_JITTER
    breaker.record(Verdict.CANCELLED, RULES, now, probe=breaker.begin())
    assert breaker.circuit(now) is Circuit.HALF_OPEN
    assert breaker.admits(now)


def test_each_bad_probe_doubles_the_time_up_to_the_longest() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(4):
        waits.append(breaker.open_until - now)
        now = breaker.open_until
        breaker.record(Verdict.FAULT, RULES, now, probe=breaker.begin())
    for wait, nominal in zip(waits, (2, 4, 8, 8), strict=True):
        assert 0.8 * nominal <= wait <= 1.2 * nominal


def test_after_a_long_good_time_the_first_ejection_is_short_again() -> None:
    breaker, now = opened(), 0.0
    for _ in range(3):
        now = breaker.open_until
        breaker.record(Verdict.FAULT, RULES, now, probe=breaker.begin())
    now = breaker.open_until
    breaker.record(Verdict.SUCCESS, RULES, now, probe=breaker.begin())
    now += 11 * RULES.max_eject_seconds
    for _ in range(RULES.failures):
        breaker.record(Verdict.FAULT, RULES, now, probe=False)
    assert breaker.open_until - now <= RULES.eject_seconds * 1.2


@pytest.mark.parametrize("late", [Verdict.SUCCESS, Verdict.FAULT])
def test_requests_from_before_it_opened_change_nothing(late: Verdict) -> None:
    breaker = opened()
    until = breaker.open_until
    breaker.record(late, RULES, 0.5, probe=False)
    assert breaker.open_until == until
