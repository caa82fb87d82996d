"""Several endpoints and several models: retries, fallbacks, waiting, through a running penstock."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.frames import ANSWER, DONE, ROLE, TOKEN, WHOLE, same, stream, whole_saying
from tests.e2e.rawclient import raw_client
from tests.harness import MODEL, Proxy, chat, config_for, penstock, provider
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Script, Upstream, chunk, response

CHAT = "/v1/chat/completions"
IN_TURN = {"balance": "roundRobin", "health": {"intervalSeconds": 0}}
OVERLOADED = b'{"error":{"message":"full","type":"overloaded_error"}}'


async def hang_up(up: Conversation) -> None:
    await up.request()
    up.close()


async def break_off_unseen(up: Conversation) -> None:
    """The stream begins, and ends before its first token."""
    await up.request()
    up.send(STREAM_HEAD + chunk(ROLE) + LAST_CHUNK)


async def break_off_seen(up: Conversation) -> None:
    await up.request()
    up.send(STREAM_HEAD + chunk(TOKEN) + LAST_CHUNK)


FAILING: dict[str, Script] = {
    "a closed connection": hang_up,
    "a stream without tokens": break_off_unseen,
    "a server error": same(response(b'{"error":{"message":"oops"}}', status=500)),
    "overload": same(response(OVERLOADED, status=503)),
    "overload told in a stream": same(stream(b"data: " + OVERLOADED + b"\n\n")),
    "a web page": same(response(b"<html>", headers=b"content-type: text/html\r\n")),
}


def two_models(first: str, second: str, **traffic: object) -> dict[str, Any]:
    """`lab::v1::model`, and `spare::v1::other` to fall back on."""
    rules = {"fallbacks": ["spare::v1::other"], **traffic}
    config = config_for(first, penstock={"models": {MODEL: rules}})
    block = config["modelConfiguration"]
    block["providerOverrides"].append(provider(second, name="spare"))
    block["modelOverrides"].append({"modelRef": "spare::v1::other", "capabilities": ["chat"]})
    return config


async def somebody_waits(proxy: Proxy) -> None:
    while not (await proxy.status())["endpoints"][0]["waiting"]:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0)


async def in_metrics(proxy: Proxy, *series: str) -> None:
    page = await proxy.metrics()
    for line in series:
        assert f"\n{line}\n" in page


# Retries


@pytest.mark.parametrize("failing", FAILING)
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_fails_before_its_first_token_is_tried_elsewhere(
    failing: str, streamed: bool
) -> None:
    good = same(stream(ANSWER) if streamed else response(WHOLE))
    async with (
        Upstream(FAILING[failing]) as one,
        Upstream(good) as other,
        penstock(config_for([one.url, other.url], penstock=IN_TURN)) as proxy,
    ):
        answer = await proxy.ask(CHAT, chat(stream=streamed))
        (line,) = await proxy.ended()
        await in_metrics(proxy, f'penstock_retries_total{{model="{MODEL}"}} 1.0')

    assert answer == (200, ANSWER if streamed else WHOLE)
    assert (line.outcome, line.attempts) == ("complete", 2)


async def test_a_refused_connection_is_tried_elsewhere() -> None:
    async with Upstream() as gone, Upstream(same(stream(ANSWER))) as other:
        await gone.stop()
        async with penstock(config_for([gone.url, other.url], penstock=IN_TURN)) as proxy:
            assert await proxy.ask(CHAT, chat()) == (200, ANSWER)


async def test_after_the_first_token_nothing_is_tried_again() -> None:
    async with (
        Upstream(break_off_seen) as one,
        Upstream(same(stream(ANSWER))) as other,
        penstock(config_for([one.url, other.url], penstock=IN_TURN)) as proxy,
    ):
        status, body = await proxy.ask(CHAT, chat())
        (line,) = await proxy.ended()

    assert (status, body.startswith(TOKEN), DONE in body) == (200, True, False)
    assert (line.outcome, line.attempts, other.connections) == ("truncated", 1, 0)


@pytest.mark.parametrize(("status", "outcome"), [(400, "rejected"), (401, "upstream_error")])
async def test_what_is_no_servers_trouble_is_not_tried_again(status: int, outcome: str) -> None:
    refusing = same(response(b'{"error":{"message":"no"}}', status=status))
    async with (
        Upstream(refusing) as one,
        Upstream(same(stream(ANSWER))) as other,
        penstock(config_for([one.url, other.url], penstock=IN_TURN)) as proxy,
    ):
        await proxy.ask(CHAT, chat())
        (line,) = await proxy.ended()

    assert (line.outcome, line.attempts, other.connections) == (outcome, 1, 0)


async def test_attempts_are_counted_and_the_last_failure_is_told() -> None:
    async with Upstream(hang_up) as one, Upstream(hang_up) as other:
        settings = {**IN_TURN, "retries": {"attempts": 3, "budget": 1, "floorPerSecond": 100}}
        async with penstock(config_for([one.url, other.url], penstock=settings)) as proxy:
            status, _ = await proxy.ask(CHAT, chat())
            (line,) = await proxy.ended()

    assert (status, line.attempts) == (502, 3)
    assert one.connections + other.connections == 3


async def test_without_a_budget_nothing_is_tried_again() -> None:
    async with Upstream(hang_up) as one, Upstream(same(stream(ANSWER))) as other:
        settings = {**IN_TURN, "retries": {"budget": 0, "floorPerSecond": 0}}
        async with penstock(config_for([one.url, other.url], penstock=settings)) as proxy:
            status, _ = await proxy.ask(CHAT, chat())

    assert (status, other.connections) == (502, 0)


async def test_a_client_that_leaves_between_two_attempts_ends_the_request() -> None:
    """At whatever moment it leaves; the second endpoint never answers."""
    async with (
        Upstream(hang_up) as one,
        Upstream() as other,
        penstock(config_for([one.url, other.url], penstock=IN_TURN)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await other.accept()
        await up.request()
        client.hang_up()
        await up.gone()
        (line,) = await proxy.ended()
        assert all(state.inflight == 0 for state in proxy.service.live.states())

    assert (line.outcome, line.attempts) == ("client_gone", 2)


async def test_an_endpoint_that_keeps_failing_is_left_out_and_found_again() -> None:
    broken = True

    async def moody(up: Conversation) -> None:
        async for _ in up.requests():
            if broken:
                up.reset()
                return
            up.send(stream(ANSWER))

    health = {"intervalSeconds": 0, "ejectSeconds": 0.05, "maxEjectSeconds": 0.05}
    settings = {"balance": "roundRobin", "health": health, "retries": {"budget": 1}}
    async with (
        Upstream(moody) as one,
        Upstream(same(stream(ANSWER))) as other,
        penstock(config_for([one.url, other.url], penstock=settings)) as proxy,
    ):
        for _ in range(20):
            assert await proxy.ask(CHAT, chat()) == (200, ANSWER)
        while_broken = one.connections
        broken = False
        before = len(one.requests)
        while len(one.requests) < before + 5:
            assert await proxy.ask(CHAT, chat()) == (200, ANSWER)
        status = await proxy.status()

    assert while_broken < 10
    assert [each["circuit"] for each in status["endpoints"]] == ["closed", "closed"]


# Fallbacks


async def test_another_model_takes_the_place_of_one_that_is_down_and_says_so() -> None:
    async with (
        Upstream(hang_up) as one,
        Upstream(same(stream(ANSWER))) as spare,
        penstock(two_models(one.url, spare.url)) as proxy,
    ):
        async with proxy.post(CHAT, chat()) as response_:
            body = await response_.read()
        (line,) = await proxy.ended()
        await in_metrics(
            proxy,
            'penstock_fallbacks_total{asked="spare::v1::other",cause="unreachable",'
            f'model="{MODEL}"}} 1.0',
        )

    assert (response_.status, body) == (200, ANSWER)
    assert response_.headers["x-penstock-model"] == "spare::v1::other"
    assert (line.outcome, line.model, line.attempts) == ("complete", "spare::v1::other", 2)


async def test_who_gets_the_model_that_was_asked_for_is_told_nothing() -> None:
    async with (
        Upstream(same(stream(ANSWER))) as one,
        Upstream() as spare,
        penstock(two_models(one.url, spare.url)) as proxy,
        proxy.post(CHAT, chat()) as response_,
    ):
        assert "x-penstock-model" not in response_.headers


@pytest.mark.parametrize(
    ("failure", "classes", "falls"),
    [
        (response(OVERLOADED, status=503), ["busy"], True),
        (response(OVERLOADED, status=503), ["unreachable"], False),
        (response(b'{"error":{"message":"oops"}}', status=500), ["unreachable"], True),
        (response(b'{"error":{"message":"no"}}', status=400), ["busy", "unreachable"], False),
        (
            response(b'{"error":{"message":"prompt is too long"}}', status=400),
            ["context_length"],
            True,
        ),
        (
            response(b'{"error":{"message":"x","code":"content_filter"}}', status=400),
            ["content_filter"],
            True,
        ),
    ],
)
async def test_it_falls_back_for_the_failures_it_is_told_to(
    failure: bytes, classes: list[str], falls: bool
) -> None:
    async with (
        Upstream(same(failure)) as one,
        Upstream(same(stream(ANSWER))) as spare,
        penstock(two_models(one.url, spare.url, fallbackOn=classes)) as proxy,
    ):
        await proxy.ask(CHAT, chat())

    assert spare.connections == falls


async def test_a_fallback_may_speak_another_dialect() -> None:
    token = (
        b'data:{"index":1,"token":{"id":1,"text":"Hi","logprob":0,"special":false},'
        b'"generated_text":"Hi","details":{"finish_reason":"stop","generated_tokens":1}}\n\n'
    )
    async with Upstream(hang_up) as one, Upstream(same(stream(token))) as spare:
        config = two_models(one.url, spare.url)
        config["modelConfiguration"]["providerOverrides"][1] = provider(
            spare.url, name="spare", kind="huggingface-tgi", settings={"dialect": "tgi"}
        )
        async with penstock(config) as proxy:
            status, body = await proxy.ask(CHAT, chat())

    assert status == 200
    assert b'"content":"Hi"' in body
    assert body.endswith(DONE)


async def test_a_client_does_not_fall_back_to_what_it_may_not_use() -> None:
    async with Upstream(hang_up) as one, Upstream(same(stream(ANSWER))) as spare:
        config = two_models(one.url, spare.url)
        config["penstock"]["clients"] = [{"name": "c", "key": "secret", "models": [MODEL]}]
        async with penstock(config) as proxy:
            key = {"authorization": "Bearer secret"}
            status, _ = await proxy.ask(CHAT, chat(), headers=key)

    assert (status, spare.connections) == (502, 0)


# Waiting


def capped(url: str, **admission: object) -> dict[str, Any]:
    settings: Mapping[str, object] = {"endpoints": [{"url": url, "maxConcurrent": 1}]}
    return config_for(url, settings=settings, penstock={"admission": admission})


async def test_a_request_waits_for_room_and_gets_it() -> None:
    async with (
        Upstream() as upstream,
        penstock(capped(upstream.url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(proxy.ask(CHAT, chat("1", stream=False)))
        up = await upstream.accept()
        await up.request()
        second = group.create_task(proxy.ask(CHAT, chat("2", stream=False)))
        await somebody_waits(proxy)
        assert len(upstream.requests) == 1
        up.send(response(whole_saying(b"one")))
        await up.request()
        up.send(response(whole_saying(b"two")))
        assert (await first)[1] == whole_saying(b"one")
        assert (await second)[1] == whole_saying(b"two")


async def test_a_full_queue_is_a_429_with_a_time_to_come_back() -> None:
    async with (
        Upstream() as upstream,
        penstock(capped(upstream.url, maxQueue=0)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(proxy.ask(CHAT, chat(stream=False)))
        up = await upstream.accept()
        await up.request()
        async with proxy.post(CHAT, chat()) as refused:
            assert refused.status == 429
            assert refused.headers["retry-after"] == "1"
        up.send(response(WHOLE))
        await first
        lines = await proxy.ended(2)
        assert [line.outcome for line in lines] == ["shed", "complete"]


async def test_a_wait_has_an_end() -> None:
    async with (
        Upstream() as upstream,
        penstock(capped(upstream.url, maxWaitSeconds=0.01)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(proxy.ask(CHAT, chat(stream=False)))
        up = await upstream.accept()
        await up.request()
        assert (await proxy.ask(CHAT, chat()))[0] == 429
        up.send(response(WHOLE))
        await first


async def test_who_leaves_the_queue_makes_room_in_it() -> None:
    async with (
        Upstream() as upstream,
        penstock(capped(upstream.url, maxQueue=1)) as proxy,
        raw_client(proxy.url) as leaver,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(proxy.ask(CHAT, chat(stream=False)))
        up = await upstream.accept()
        await up.request()
        leaver.ask(CHAT, chat())
        await somebody_waits(proxy)
        leaver.hang_up()
        assert (await proxy.ended())[0].outcome == "client_gone"
        second = group.create_task(proxy.ask(CHAT, chat(stream=False)))
        up.send(response(WHOLE))
        await up.request()
        up.send(response(WHOLE))
        assert (await first, await second) == ((200, WHOLE), (200, WHOLE))


async def test_a_models_own_limit_holds_back_that_model_alone() -> None:
    async with Upstream() as upstream:
        config = config_for(
            upstream.url, penstock={"models": {MODEL: {"admission": {"maxConcurrent": 1}}}}
        )
        config["modelConfiguration"]["modelOverrides"].append(
            {"modelRef": "lab::v1::free", "capabilities": ["chat"]}
        )
        async with penstock(config) as proxy, asyncio.TaskGroup() as group:
            first = group.create_task(proxy.ask(CHAT, chat(stream=False)))
            up = await upstream.accept()
            await up.request()
            held = group.create_task(proxy.ask(CHAT, chat(stream=False)))
            await somebody_waits(proxy)
            free = group.create_task(
                proxy.ask(CHAT, {**chat(stream=False), "model": "lab::v1::free"})
            )
            other = await upstream.accept()
            await other.request()
            other.send(response(WHOLE))
            assert await free == (200, WHOLE)
            assert not held.done()
            up.send(response(WHOLE))
            await up.request()
            up.send(response(WHOLE))
            await first
            await held
