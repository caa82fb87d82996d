"""Requests of a day, counted by a clock that the test holds."""

from __future__ import annotations

import pytest

from parsers.chat import Operation
from parsers.events import FaultKind
from proxy.errors import status_of
from proxy.quota import DAY_SECONDS, Quotas, user_of
from proxy.registry import Client

CHAT, CODE = Operation.CHAT, Operation.COMPLETION


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_request_more_than_the_limit_is_one_too_many() -> None:
    quotas = Quotas(clock=Clock())

    assert [quotas.take("a", CHAT, 2) for _ in range(2)] == [None, None]
    excess = quotas.take("a", CHAT, 2)

    assert excess is not None
    assert (excess.limit, excess.used, excess.retry_after) == (2, 2, DAY_SECONDS)


def test_users_and_kinds_of_work_are_counted_apart() -> None:
    quotas = Quotas(clock=Clock())

    assert quotas.take("a", CHAT, 1) is None
    assert quotas.take("b", CHAT, 1) is None
    assert quotas.take("a", CODE, 1) is None
    assert quotas.take("a", CHAT, 1) is not None


def test_a_day_begins_with_its_first_request() -> None:
    clock = Clock()
    quotas = Quotas(clock=clock)
    quotas.take("a", CHAT, 1)

    clock.now += DAY_SECONDS - 1
    late = quotas.take("a", CHAT, 1)
    clock.now += 1
    next_day = quotas.take("a", CHAT, 1)

    assert late is not None
    assert late.retry_after == 1
    assert next_day is None


def test_what_was_refused_is_not_counted() -> None:
    quotas = Quotas(clock=Clock())
    for _ in range(5):
        quotas.take("a", CHAT, 1)

    raised = quotas.take("a", CHAT, 2)

    assert raised is None


def test_a_limit_of_none_is_not_counted() -> None:
    quotas = Quotas(clock=Clock())

    assert all(quotas.take("a", CHAT, 0) is None for _ in range(5))
    assert len(quotas) == 0


def test_a_lowered_limit_counts_what_was_before_it() -> None:
    quotas = Quotas(clock=Clock())
    for _ in range(5):
        quotas.take("a", CHAT, 10)

    excess = quotas.take("a", CHAT, 3)

    assert excess is not None
    assert excess.headers == b"x-ratelimit-limit: 3\r\nx-ratelimit-remaining: 0\r\n"


def test_days_that_are_over_are_forgotten() -> None:
    clock = Clock()
    quotas = Quotas(clock=clock)
    for user in "abc":
        quotas.take(user, CHAT, 1)
        clock.now += DAY_SECONDS / 2

    assert len(quotas) == 2  # the last to come put the first out
    clock.now += DAY_SECONDS
    quotas.take("d", CHAT, 1)
    assert len(quotas) == 1


def test_of_too_many_days_the_oldest_is_forgotten() -> None:
    quotas = Quotas(clock=Clock(), max_days=2)
    for user in "abc":
        quotas.take(user, CHAT, 1)

    assert len(quotas) == 2
    assert quotas.take("c", CHAT, 1) is not None
    assert quotas.take("a", CHAT, 1) is None


def test_what_a_user_is_told_is_what_the_original_says() -> None:
    clock = Clock()
    quotas = Quotas(clock=clock)
    quotas.take("a", CODE, 1)
    clock.now += 0.5

    excess = quotas.take("a", CODE, 1)

    assert excess is not None
    fault = excess.fault
    assert (fault.kind, status_of(fault)) == (FaultKind.RATE_LIMITED, 429)
    assert fault.retry_after == DAY_SECONDS - 0.5
    assert fault.message == (
        "you exceeded the rate limit for code_completions, only 1 requests are allowed per day at"
        " the moment to ensure the service stays functional. Current usage: 1. Retry after 86400 s"
    )


@pytest.mark.parametrize(
    ("client", "address", "user"),
    [
        (Client("ide", b""), "192.0.2.1", "client ide"),
        (None, "192.0.2.1", "address 192.0.2.1"),
        (None, "2001:db8::1", "address 2001:db8::/64"),
        (None, "2001:db8::ffff:2", "address 2001:db8::/64"),
        (None, "2001:db8:0:1::1", "address 2001:db8:0:1::/64"),
        (None, "::ffff:192.0.2.1", "address ::ffff:192.0.2.1"),
        (None, "fe80::1%eth0", "address fe80::/64"),
        (None, None, "address "),
    ],
)
def test_a_user_is_a_client_else_where_it_calls_from(
    client: Client | None, address: str | None, user: str
) -> None:
    assert user_of(client, address) == user
