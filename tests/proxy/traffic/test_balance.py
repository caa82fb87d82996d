"""How the balancers spread requests."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec

from proxy.config.rules import AffinityRules
from proxy.traffic.balance import Key, LeastInflight, PrefixAffinity, RoundRobin, Weighted


class Server(msgspec.Struct):
    key: str
    inflight: int = 0
    weight: float = 1.0


AFFINITY = AffinityRules(characters=512, load_factor=1.25)


def no_key(_: AffinityRules) -> bytes:
    raise AssertionError("the key is not needed")


def of(key: bytes) -> Key:
    return lambda _: key


def servers(count: int) -> list[Server]:
    return [Server(f"http://s{index}") for index in range(count)]


def test_least_inflight_keeps_a_pool_nearly_even() -> None:
    pool, balancer = servers(10), LeastInflight(Random(1))
    for _ in range(1000):
        balancer.choose(pool, no_key).inflight += 1
    assert max(s.inflight for s in pool) - min(s.inflight for s in pool) <= 6


def test_least_inflight_counts_by_weight() -> None:
    pool, balancer = [Server("small"), Server("large", weight=3.0)], LeastInflight(Random(1))
    for _ in range(400):
        balancer.choose(pool, no_key).inflight += 1
    assert [s.inflight for s in pool] == [100, 300]


def test_round_robin_takes_turns() -> None:
    pool, balancer = servers(3), RoundRobin()
    assert [balancer.choose(pool, no_key).key[-1] for _ in range(6)] == list("012012")


def test_weighted_keeps_the_proportion_however_busy_they_are() -> None:
    pool, balancer = [Server("a", 1000), Server("b", 0, weight=3.0)], Weighted(Random(1))
    drawn = Counter(balancer.choose(pool, no_key).key for _ in range(4000))
    assert 900 < drawn["a"] < 1100


def test_a_prefix_stays_at_its_server() -> None:
    pool, balancer = servers(5), PrefixAffinity(AFFINITY)
    for prompt in (b"one", b"two", b"three"):
        assert len({balancer.choose(pool, of(prompt)).key for _ in range(10)}) == 1


def test_prefixes_spread_evenly() -> None:
    pool, balancer = servers(4), PrefixAffinity(AFFINITY)
    drawn = Counter(balancer.choose(pool, of(b"%d" % i)).key for i in range(4000))
    assert min(drawn.values()) > 850


def test_prefixes_spread_by_weight() -> None:
    pool, balancer = [Server("a"), Server("b", weight=3.0)], PrefixAffinity(AFFINITY)
    drawn = Counter(balancer.choose(pool, of(b"%d" % i)).key for i in range(4000))
    assert 850 < drawn["a"] < 1150


def test_a_server_that_goes_moves_only_its_own_prefixes() -> None:
    pool, balancer = servers(5), PrefixAffinity(AFFINITY)
    keys = [b"%d" % i for i in range(500)]
    before = {key: balancer.choose(pool, of(key)).key for key in keys}
    after = {key: balancer.choose(pool[:-1], of(key)).key for key in keys}
    assert all(after[key] == at for key, at in before.items() if at != pool[-1].key)


def test_a_popular_prefix_overflows_to_the_next_server_and_no_further_than_it_must() -> None:
    pool, balancer = servers(4), PrefixAffinity(AFFINITY)
    for _ in range(100):
        balancer.choose(pool, of(b"popular")).inflight += 1
    loads = sorted(server.inflight for server in pool)
    assert loads[-1] <= 1.25 * 101 / 4 + 1
    assert sum(loads) == 100


def test_no_prefix_has_a_favourite_server() -> None:
    """An empty prompt must not send everybody's requests to one place under load."""
    pool, balancer = servers(2), PrefixAffinity(AFFINITY)
    for _ in range(10):
        balancer.choose(pool, of(b"")).inflight += 1
    assert min(server.inflight for server in pool) >= 3
