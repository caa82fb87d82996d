"""Replicas that die, flap and come back, and what their clients notice of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from random import Random
from time import monotonic
from typing import Any

from proxy.endpoints import EndpointState, Health
from tests.e2e.frames import DONE, FINISH, TOKEN, WHOLE, same
from tests.e2e.rawclient import raw_client
from tests.e2e.replicas import CHAT, Replica, at_rate, is_open, state_of, until
from tests.e2e.soak import short_or
from tests.e2e.test_traffic import IN_TURN, hang_up, two_models
from tests.harness import chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

PERIOD = 1.0  # seconds that a flapping server is up, and down
RATE = 50  # requests a second
REST = FINISH + DONE
CHECKED: dict[str, object] = {"health": {}}  # as where the file says nothing


# One of two


class Flapping(Replica):
    """Notes how many requests it has whenever one comes on trial."""

    def __init__(self) -> None:
        super().__init__()
        self.state: EndpointState | None = None
        self.on_trial: list[int] = []

    def note(self) -> None:
        assert self.state is not None
        if is_open(self.state):
            self.on_trial.append(self.state.inflight)


async def test_a_flapping_replica_fails_no_request_and_is_tried_with_one_at_a_time() -> None:
    flapping, steady = Flapping(), Replica()
    opened: list[float] = []

    async def flap(state: EndpointState) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            flapping.strike_down()
            opened.append(await seconds_until_open(state))
            await asyncio.sleep(PERIOD - min(PERIOD, opened[-1]))
            flapping.raise_again()

    async with (
        Upstream(flapping) as one,
        Upstream(steady) as other,
        penstock(config_for([one.url, other.url])) as proxy,
        asyncio.TaskGroup() as group,
    ):
        state = flapping.state = state_of(proxy, one.url)
        background = group.create_task(flap(state))
        answers = await at_rate(proxy, RATE, short_or(6.0, long=60.0))
        background.cancel()
        lines = await proxy.ended(len(answers))

    assert {status for status, _ in answers} == {200}
    assert {line.outcome for line in lines} == {"complete"}
    assert max(opened) < 2.0
    assert set(flapping.on_trial) == {1}
    assert flapping.answered > 0


async def seconds_until_open(state: EndpointState) -> float:
    since = monotonic()
    await until(lambda: is_open(state))
    return monotonic() - since


class Streaming(Replica):
    """Sends a token at once and the rest when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()
        self.begun = 0  # streams whose first token was taken

    async def answer(self, up: Conversation) -> None:
        up.send(STREAM_HEAD + chunk(TOKEN))
        await up.pause()
        self.begun += 1
        await self.go_on.wait()
        up.send(chunk(REST) + LAST_CHUNK)

    async def has_begun(self, count: int) -> None:
        await until(lambda: self.begun >= count)


async def test_a_replica_that_is_killed_takes_its_own_streams_with_it_and_no_others() -> None:
    doomed, steady = Streaming(), Streaming()
    async with (
        Upstream(doomed) as one,
        Upstream(steady) as other,
        penstock(config_for([one.url, other.url], penstock=IN_TURN)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        old = [group.create_task(proxy.ask(CHAT, chat())) for _ in range(100)]
        await doomed.has_begun(50)
        await steady.has_begun(50)
        await one.stop()
        doomed.strike_down()
        await proxy.ended(50)
        new = [group.create_task(proxy.ask(CHAT, chat())) for _ in range(50)]
        await steady.has_begun(100)
        steady.go_on.set()
        answers = [await each for each in old]
        later = [await each for each in new]
        lines = await proxy.ended(150)

    whole = (200, TOKEN + REST)
    cut = [body for status, body in answers if (status, body) != whole]
    assert len(cut) == 50
    assert all(body.startswith(TOKEN + b'data: {"error"') for body in cut)
    assert later == [whole] * 50
    assert Counter(line.outcome for line in lines) == {"truncated": 50, "complete": 100}
    assert all(line.attempts == 1 for line in lines if line.outcome == "truncated")


# All of them


async def test_in_a_total_outage_retries_keep_to_their_budget() -> None:
    seconds = short_or(2.0, long=20.0)
    one, other = Replica(), Replica()
    one.strike_down()
    other.strike_down()
    async with (
        Upstream(one) as first,
        Upstream(other) as second,
        penstock(config_for([first.url, second.url])) as proxy,
    ):
        started = monotonic()
        answers = await at_rate(proxy, RATE, seconds)
        lasted = monotonic() - started

    assert {status for status, _ in answers} == {502}
    retries = one.asked + other.asked - len(answers)
    saved_floor = 2
    assert 0 < retries <= 0.2 * len(answers) + 1.0 * lasted + saved_floor


def is_used(state: EndpointState) -> bool:
    return not is_open(state) and state.health in (Health.UP, Health.UNKNOWN)


async def test_a_pool_that_is_back_is_evenly_loaded_within_ten_seconds() -> None:
    one, other = Replica(), Replica()
    async with (
        Upstream(one) as first,
        Upstream(other) as second,
        penstock(config_for([first.url, second.url], penstock=CHECKED)) as proxy,
    ):
        one.strike_down()
        other.strike_down()
        await at_rate(proxy, RATE, short_or(2.0, long=30.0))
        one.raise_again()
        other.raise_again()
        healed = monotonic()
        while not all(is_used(state_of(proxy, each.url)) for each in (first, second)):
            await at_rate(proxy, RATE, 0.2)
        lasted = monotonic() - healed
        before = (one.answered, other.answered)
        answers = await at_rate(proxy, RATE, 1.0)

    assert lasted < 10.0
    assert {status for status, _ in answers} == {200}
    shares = (one.answered - before[0], other.answered - before[1])
    assert min(shares) >= 0.3 * sum(shares), shares


# Connections that were kept


async def test_requests_around_a_servers_idle_limit_never_fail() -> None:
    limit, workers, count = 0.02, 20, short_or(1000, long=5_000)
    random = Random(1)

    async def impatient(up: Conversation) -> None:
        while True:
            async with asyncio.timeout(limit):
                await up.request()
            up.send(response(WHOLE))

    async def closing(up: Conversation) -> None:
        with suppress(TimeoutError):
            await impatient(up)

    async with (
        Upstream(closing) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):

        async def ask() -> Counter[tuple[int, bytes]]:
            answers: Counter[tuple[int, bytes]] = Counter()
            for _ in range(count // workers):
                await asyncio.sleep(limit * random.uniform(0.7, 1.3))
                answers[await proxy.ask(CHAT, chat(stream=False))] += 1
            return answers

        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(ask()) for _ in range(workers)]
        answers = sum((task.result() for task in asked), Counter[tuple[int, bytes]]())
        lines = await proxy.ended(count)

    assert answers == {(200, WHOLE): count}
    assert Counter(line.outcome for line in lines) == {"complete": count}


async def test_a_server_is_not_blamed_for_kept_connections_that_died() -> None:
    """Each of its connections serves once, and breaks as soon as it is used again."""

    async def once(up: Conversation) -> None:
        await up.request()
        up.send(response(WHOLE))
        await up.request()
        up.reset()

    async with (
        Upstream(once) as one,
        penstock(config_for(one.url)) as proxy,
    ):
        circuits = []
        for _ in range(30):
            assert await proxy.ask(CHAT, chat(stream=False)) == (200, WHOLE)
            circuits.append(is_open(state_of(proxy, one.url)))
        lines = await proxy.ended(30)

    assert max(line.attempts for line in lines) == 2  # it did happen
    assert not any(circuits)


# Fallbacks that wait


def with_a_full_spare(first: str, spare: str) -> dict[str, Any]:
    config = two_models(first, spare)
    (server,) = (each for each in config["modelConfiguration"]["providerOverrides"][1:])
    server["serverSideConfig"]["endpoints"] = [{"url": spare, "maxConcurrent": 1}]
    return config


async def test_who_leaves_while_waiting_for_a_fallback_has_left() -> None:
    async with (
        Upstream(hang_up) as one,
        Upstream() as spare,
        penstock(with_a_full_spare(one.url, spare.url)) as proxy,
        raw_client(proxy.url) as holder,
        raw_client(proxy.url) as leaver,
    ):
        holder.ask(CHAT, {**chat(), "model": "spare::v1::other"})
        await (await spare.accept()).request()
        leaver.ask(CHAT, chat())
        await until(lambda: len(state_of(proxy, spare.url).line) > 0)
        leaver.hang_up()
        (line,) = await proxy.ended()

    assert (line.outcome, line.model) == ("client_gone", "spare::v1::other")


async def test_a_drain_does_not_wait_for_who_waits_for_a_fallback() -> None:
    async with (
        Upstream(same(response(b'{"error":{"message":"oops"}}', status=500))) as one,
        Upstream() as spare,
        penstock(with_a_full_spare(one.url, spare.url)) as proxy,
        raw_client(proxy.url) as holder,
        raw_client(proxy.url) as waiting,
    ):
        holder.ask(CHAT, {**chat(), "model": "spare::v1::other"})
        await (await spare.accept()).request()
        waiting.ask(CHAT, chat())
        await until(lambda: len(state_of(proxy, spare.url).line) > 0)
        await proxy.service.drain(0)
        answer = await waiting.answer()
        lines = await proxy.ended(2)

    assert answer.status == 503
    assert [line.outcome for line in lines] == ["drained", "drained"]


# Checks


async def test_what_checks_said_does_not_outlive_them() -> None:
    async def only_checks_fail(up: Conversation) -> None:
        async for request in up.requests():
            well = request.method == "POST"
            up.send(response(WHOLE) if well else response(b"{}", status=503))

    checked = {"balance": "roundRobin", "health": {"intervalSeconds": 0.05, "failures": 1}}
    async with Upstream(only_checks_fail) as one, Upstream(same(response(WHOLE))) as other:
        urls = [one.url, other.url]
        async with penstock(config_for(urls, penstock=checked)) as proxy:
            await until(lambda: state_of(proxy, one.url).health is Health.DOWN)
            assert await proxy.reload(config_for(urls, penstock=IN_TURN)) == 200
            await until(lambda: state_of(proxy, one.url).health is Health.UNKNOWN)
            for _ in range(4):
                await proxy.ask(CHAT, chat(stream=False))

    assert [r.method for r in one.requests].count("POST") == 2


async def test_an_endpoint_that_is_out_is_checked_sooner() -> None:
    """Every ten seconds would be long for a server that is back after one."""
    settings = {"health": {"intervalSeconds": 3600, "ejectSeconds": 0.1}}
    async with Upstream() as one:
        await one.stop()
        async with penstock(config_for(one.url, penstock=settings)) as proxy:
            await until(lambda: state_of(proxy, one.url).health is Health.STARTING)
            since = state_of(proxy, one.url).failed_checks
            await until(lambda: state_of(proxy, one.url).failed_checks >= since + 2)


# Waiting


async def test_who_waits_is_let_in_once_an_ejection_has_passed() -> None:
    """Nothing else comes or ends meanwhile."""
    is_first = True

    async def fails_once(up: Conversation) -> None:
        nonlocal is_first
        await up.request()
        if is_first:
            is_first = False
            up.reset()
        else:
            up.send(response(WHOLE))
            await up.gone()

    rules = {
        "balance": "roundRobin",
        "health": {"intervalSeconds": 0, "failures": 1, "ejectSeconds": 0.2},
    }
    async with Upstream(fails_once) as one, Upstream() as busy:
        endpoints = [{"url": each.url, "maxConcurrent": 1} for each in (one, busy)]
        config = config_for("", settings={"endpoints": endpoints}, penstock=rules)
        async with penstock(config) as proxy, asyncio.TaskGroup() as group:
            first = group.create_task(proxy.ask(CHAT, chat(stream=False)))
            up = await busy.accept()
            await up.request()
            async with asyncio.timeout(5):
                assert await proxy.ask(CHAT, chat(stream=False)) == (200, WHOLE)
            assert not first.done()
            up.send(response(WHOLE))
            assert await first == (200, WHOLE)
