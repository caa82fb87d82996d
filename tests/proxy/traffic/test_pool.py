"""What a pool makes of its endpoints' states, told how requests ended."""

from __future__ import annotations

from collections import Counter
from time import monotonic

import msgspec

from proxy.config.rules import AffinityRules, HealthRules
from proxy.endpoints import Endpoint, EndpointState, Lease, LiveState, Member, ModelState
from proxy.outcome import Verdict
from proxy.traffic.balance import Key, PrefixAffinity
from proxy.traffic.breaker import Circuit

RULES = HealthRules(
    interval_seconds=0,
    timeout_seconds=1,
    failures=1,
    fault_rate=0.5,
    eject_seconds=1e-9,
    max_eject_seconds=60,
)
LONG = msgspec.structs.replace(RULES, eject_seconds=1.0)


def member(url: str = "http://one", address: str | None = None) -> Member:
    endpoint = Endpoint("one", url, address=address)
    return Member(endpoint, LiveState().state_of("lab", endpoint))


def key(number: int) -> Key:
    return lambda _: b"%d" % number


def settled(member: Member, verdict: Verdict, rules: HealthRules = RULES) -> EndpointState:
    with Lease(member, ModelState()) as lease:
        lease.settle(verdict, rules, monotonic())
    return member.state


def test_a_probe_that_was_never_sent_leaves_the_question_to_the_next() -> None:
    """Its request could not be translated, or its client left the queue in that very moment."""
    one = member()
    state = settled(one, Verdict.FAULT)
    assert state.breaker.circuit(monotonic()) is Circuit.HALF_OPEN

    Lease(one, ModelState()).release()

    assert state.breaker.admits(monotonic())


def test_a_probe_is_one_until_all_that_were_sent_for_want_of_others_have_ended() -> None:
    one = member()
    state = settled(one, Verdict.FAULT)
    first, second = Lease(one, ModelState()), Lease(one, ModelState())

    first.release()
    assert not state.breaker.admits(monotonic())
    second.release()
    assert state.breaker.admits(monotonic())


def test_faults_of_requests_sent_for_want_of_others_do_not_lengthen_an_ejection() -> None:
    one = member()
    until = settled(one, Verdict.FAULT, LONG).breaker.open_until

    for _ in range(10):
        settled(one, Verdict.FAULT, LONG)

    assert one.state.breaker.open_until == until


def test_one_good_answer_to_such_a_request_ends_the_ejection() -> None:
    one = member()
    settled(one, Verdict.FAULT, LONG)

    assert settled(one, Verdict.SUCCESS, LONG).breaker.circuit(monotonic()) is Circuit.CLOSED


def test_a_fault_of_a_probe_that_another_one_overtook_counts_as_one_fault() -> None:
    three = msgspec.structs.replace(RULES, failures=3)
    one = member()
    for _ in range(3):
        settled(one, Verdict.FAULT, three)
    slow = Lease(one, ModelState())
    settled(one, Verdict.SUCCESS, three)

    slow.settle(Verdict.FAULT, three, monotonic())

    assert one.state.breaker.circuit(monotonic()) is Circuit.CLOSED


def test_a_busy_server_cannot_ask_for_more_peace_than_a_broken_one_gets() -> None:
    one, now = member(), monotonic()
    with Lease(one, ModelState()) as lease:
        lease.settle(Verdict.BUSY, RULES, now, retry_after=99_999_999.0)

    assert one.state.busy_until == now + RULES.max_eject_seconds


def test_affinity_tells_apart_what_differs_late_or_in_its_name_alone() -> None:
    long = "https://a-very-long-name-of-a-namespace.and-of-a-cluster.example.com/deployments/"
    pools = (
        [member(f"{long}one"), member(f"{long}two")],
        [member("http://one:1", "10.0.0.1"), member("http://two:2", "10.0.0.1")],
    )
    balancer = PrefixAffinity(AffinityRules(characters=512, load_factor=1.25))
    for pool in pools:
        drawn = Counter(balancer.choose(pool, key(i)).endpoint.url for i in range(1000))
        assert sorted(drawn) == [each.endpoint.url for each in pool]
        assert min(drawn.values()) > 400
