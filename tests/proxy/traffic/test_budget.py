"""The budget of retries, told the time."""

from __future__ import annotations

from proxy.config.rules import RetryRules
from proxy.traffic.budget import RetryBudget

RULES = RetryRules(attempts=3, budget=0.2, floor_per_second=1.0)


def spent(budget: RetryBudget, rules: RetryRules, now: float, tries: int) -> int:
    return sum(budget.spend(rules, now) for _ in range(tries))


def test_a_total_outage_is_answered_with_no_more_than_the_share_and_the_floor() -> None:
    budget, retries = RetryBudget(0.0), 0
    for second in range(60):
        for _ in range(50):  # requests a second, each of which wants two retries
            budget.earn(RULES)
            retries += spent(budget, RULES, float(second), 2)
    assert retries <= 0.2 * 50 * 60 + 1.0 * 60 + 2
    assert retries >= 0.2 * 50 * 60


def test_a_quiet_service_may_retry_now_and_then() -> None:
    budget = RetryBudget(0.0)
    assert spent(budget, RULES, 1.0, 5) == 2
    assert spent(budget, RULES, 1.0, 5) == 0
    assert spent(budget, RULES, 2.5, 5) == 1


def test_what_is_saved_up_is_bounded() -> None:
    budget = RetryBudget(0.0)
    for _ in range(100_000):
        budget.earn(RULES)
    assert spent(budget, RULES, 100_000.0, 1000) == 22


def test_nothing_is_nothing() -> None:
    rules = RetryRules(attempts=3, budget=0.0, floor_per_second=0.0)
    budget = RetryBudget(0.0)
    budget.earn(rules)
    assert spent(budget, rules, 1000.0, 10) == 0
