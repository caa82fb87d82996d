"""What the metrics page says of streams, of those that wait, and of limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.frames import (
    ANSWER,
    DONE,
    FINISH,
    ROLE,
    TOKEN,
    USAGE,
    WHOLE,
    in_reads,
    same,
    stream,
    turns,
)
from tests.e2e.watched import families, value_of
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"
NO_CHECKS = {"health": {"intervalSeconds": 0}}
ASKS_USAGE: dict[str, Any] = {"stream_options": {"include_usage": True}}
MANY = 20  # so many that most are told by a glance


def frames(body: bytes) -> int:
    """How many events a client got."""
    return body.count(b"\n\n")


async def counted(body: bytes, path: str = CHAT, **members: Any) -> tuple[float, float, int]:
    """Events in and out by the page, and those that the client got."""
    ask = chat(**members) if path == CHAT else {**chat(), "max_tokens": 9}
    async with (
        Upstream(same(stream(body))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        _, got = await proxy.ask(path, ask)
        await proxy.ended()
        page = await proxy.metrics()
    into = value_of(page, "penstock_sse_events_total", direction="in")
    out = value_of(page, "penstock_sse_events_total", direction="out")
    return into, out, frames(got)


@pytest.mark.parametrize(
    "body",
    [
        ANSWER,
        ROLE + TOKEN * MANY + FINISH + DONE,
        ROLE + TOKEN * MANY + FINISH + USAGE + DONE,
        TOKEN + b'data: {"error":{"message":"CUDA"}}\n\n' + TOKEN,
        ROLE + TOKEN,
        b"data: no json\n\n",
    ],
)
@pytest.mark.parametrize("path", [CHAT, MESSAGES])
async def test_the_events_of_a_stream_are_counted_as_read_and_as_written(
    body: bytes, path: str
) -> None:
    into, out, got = await counted(body, path)

    assert out == got
    if out:  # else it was no stream for its client
        assert into == frames(body)


async def test_events_that_a_glance_tells_are_counted_too() -> None:
    script = turns([ROLE, *[TOKEN] * MANY, FINISH + DONE])
    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        _, got = await proxy.ask(CHAT, chat())
        await proxy.ended()
        page = await proxy.metrics()

    assert frames(got) == MANY + 3
    assert value_of(page, "penstock_sse_events_total", direction="in") == MANY + 3
    assert value_of(page, "penstock_sse_events_total", direction="out") == MANY + 3


async def test_a_long_stream_is_counted_while_it_runs_and_once() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(proxy.ask(CHAT, chat()))
            up = await upstream.accept()
            await up.request()
            await in_reads(up, [ROLE, *[TOKEN] * MANY])
            meanwhile = await holding(proxy, f'_events_total{{direction="in"}} {MANY + 1}.0')
            up.send(chunk(FINISH + DONE) + LAST_CHUNK)
        await proxy.ended()
        page = await proxy.metrics()

    assert value_of(meanwhile, "penstock_sse_events_total", direction="out") == MANY + 1
    assert frames(asked.result()[1]) == MANY + 3
    assert value_of(page, "penstock_sse_events_total", direction="in") == MANY + 3
    assert value_of(page, "penstock_sse_events_total", direction="out") == MANY + 3


async def test_what_was_read_for_nothing_was_not_written() -> None:
    async def break_off(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(STREAM_HEAD + chunk(ROLE))
            return

    config = {**NO_CHECKS, "balance": "roundRobin"}
    async with (
        Upstream(break_off) as one,
        Upstream(same(stream(ANSWER))) as other,
        penstock(config_for([one.url, other.url], penstock=config)) as proxy,
    ):
        for _ in range(2):
            await proxy.ask(CHAT, chat())
        lines = await proxy.ended(2)
        page = await proxy.metrics()

    assert sorted(line.attempts for line in lines) == [1, 2]
    assert value_of(page, "penstock_sse_events_total", direction="in") == 2 * frames(ANSWER) + 1
    assert value_of(page, "penstock_sse_events_total", direction="out") == 2 * frames(ANSWER)


async def test_a_whole_answer_to_one_who_wants_a_stream_is_events_for_him() -> None:
    whole = response(WHOLE, headers=b"Content-Type: application/json\r\n")
    async with Upstream(same(whole)) as upstream, penstock(config_for(upstream.url)) as proxy:
        _, got = await proxy.ask(CHAT, chat())
        await proxy.ended()
        page = await proxy.metrics()

    assert value_of(page, "penstock_sse_events_total", direction="in") == 0
    assert value_of(page, "penstock_sse_events_total", direction="out") == frames(got) > 1


async def test_usage_that_is_taken_out_was_read_and_not_written() -> None:
    body = ROLE + TOKEN + FINISH + USAGE + DONE

    assert await counted(body) == (5, 4, 4)
    assert await counted(body, **ASKS_USAGE) == (5, 5, 5)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (TOKEN + b"data: {\n\n", "format"),
        (ROLE + TOKEN, "truncated"),
        (TOKEN + b"data: " + b"x" * 3000 + b"\n\n", "too_large"),
        (ROLE + TOKEN + b"id: 7\n\n" + FINISH + DONE, "mended"),
    ],
)
async def test_an_answer_that_is_not_as_it_should_be_is_held_against_its_endpoint(
    body: bytes, kind: str
) -> None:
    config = {"limits": {"maxEventBytes": 2000}, **NO_CHECKS}
    async with (
        Upstream(same(stream(body))) as upstream,
        penstock(config_for(upstream.url, penstock=config)) as proxy,
    ):
        await proxy.ask(CHAT, chat())
        await proxy.ended()
        page = await proxy.metrics()

    endpoint = upstream.url.removeprefix("http://")
    assert value_of(page, "penstock_sse_malformed_total", endpoint=endpoint, kind=kind) == 1
    assert value_of(page, "penstock_sse_oversize_total") == (kind == "too_large")


async def test_a_good_answer_is_held_against_nobody() -> None:
    async with (
        Upstream(same(stream(ANSWER))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        await proxy.ask(CHAT, chat())
        await proxy.ended()
        page = await proxy.metrics()

    (family,) = (each for each in families(page) if each.name == "penstock_sse_malformed")
    assert family.samples == []
    assert value_of(page, "penstock_overhead_seconds_count") == 1


async def test_streams_are_active_from_their_beginning_to_their_end() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        endpoint = upstream.url.removeprefix("http://")
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(proxy.ask(CHAT, chat()))
            up = await upstream.accept()
            await up.request()
            assert "penstock_streams_active{" not in await proxy.metrics()
            up.send(STREAM_HEAD + chunk(TOKEN))
            page = await holding(proxy, "penstock_streams_active{")
            up.send(chunk(FINISH + DONE) + LAST_CHUNK)
        assert asked.result() == (200, TOKEN + FINISH + DONE)
        await proxy.ended()
        after = await proxy.metrics()

    assert value_of(page, "penstock_streams_active", model=MODEL, endpoint=endpoint) == 1
    assert "penstock_streams_active{" not in after


async def holding(proxy: Proxy, name: str) -> str:
    """The page, once it has this."""
    for _ in range(5000):
        if name in (page := await proxy.metrics()):
            return page
    pytest.fail(f"{name} is not shown")


async def test_who_waits_is_shown_by_model_and_class_and_who_waits_in_vain_is_counted() -> None:
    rules = {"admission": {"maxConcurrent": 1, "maxQueue": 1, "maxWaitSeconds": 60}}
    key = "sk-urgent-0123456789"
    clients = [{"name": "urgent", "key": key, "priority": 3}]
    headers = {"authorization": f"Bearer {key}"}
    config = {**NO_CHECKS, **rules, "clients": clients}
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=config)) as proxy,
    ):
        async with asyncio.TaskGroup() as group:
            group.create_task(proxy.ask(CHAT, chat(stream=False), headers=headers))
            up = await upstream.accept()
            await up.request()
            group.create_task(proxy.ask(CHAT, chat(stream=False), headers=headers))
            page = await holding(proxy, "penstock_queue_depth{")
            status, _ = await proxy.ask(CHAT, chat(stream=False), headers=headers)
            await serve(up)
        later = await proxy.metrics()

    labels = {"model": MODEL, "class": "3"}
    assert value_of(page, "penstock_queue_depth", **labels) == 1
    assert value_of(page, "penstock_queue_length", provider="lab") == 1
    assert status == 429
    refused = {"limit": "queue", "client": "urgent"}
    assert value_of(later, "penstock_limit_rejections_total", **refused) == 1
    assert "penstock_queue_depth{" not in later


async def serve(up: Conversation) -> None:
    """Answer the request that is there, and the next."""
    whole = b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}'
    up.send(response(whole, headers=b"Content-Type: application/json\r\n"))
    await up.request()
    up.send(response(whole, headers=b"Content-Type: application/json\r\n"))


async def test_a_request_beyond_all_that_may_run_is_counted() -> None:
    config = {**NO_CHECKS, "limits": {"maxConcurrentRequests": 1}}
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=config)) as proxy,
    ):
        async with asyncio.TaskGroup() as group:
            group.create_task(proxy.ask(CHAT, chat(stream=False)))
            up = await upstream.accept()
            await up.request()
            status, _ = await proxy.ask(CHAT, chat(stream=False))
            up.send(response(b"{}"))
        page = await proxy.metrics()

    assert status == 503
    refused = {"limit": "concurrent", "client": "anonymous"}
    assert value_of(page, "penstock_limit_rejections_total", **refused) == 1
