"""Comments in silent streams, and where a request's time went."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from parsers.chat import Operation
from parsers.dialects.sourcegraph import dialect_for
from tests.e2e.frames import ANSWER, DONE, FINISH, ROLE, TOKEN, stream
from tests.e2e.rawclient import raw_client
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk

CHAT = "/v1/chat/completions"
COMMENT = b": keep-alive\n\n"


def quiet_after(mode: str, seconds: float = 0.2) -> dict[str, Any]:
    return {"keepAlive": {"mode": mode, "intervalSeconds": seconds}}


@pytest.mark.parametrize("mode", ["strict", "early"])
async def test_a_silence_between_tokens_is_filled_with_comments(mode: str) -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=quiet_after(mode))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN[:-1]))  # in the middle of the frame's end
        await up.pause()
        up.send(chunk(TOKEN[-1:]))
        seen = await client.read_until(COMMENT + b"\r\n")
        up.send(chunk(FINISH + DONE) + LAST_CHUNK)
        answer = seen + await client.read_until(b"0\r\n\r\n")
        assert chunk(TOKEN) + chunk(COMMENT) in answer
        assert answer.endswith(chunk(FINISH + DONE) + LAST_CHUNK)


async def test_no_comment_cuts_a_frame_that_has_not_come_whole() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=quiet_after("strict"))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN + TOKEN[:20]))
        await client.read_until(chunk(TOKEN) + chunk(COMMENT))
        up.send(chunk(TOKEN[20:] + FINISH + DONE) + LAST_CHUNK)
        assert (await client.read_until(b"0\r\n\r\n")).endswith(
            chunk(TOKEN + FINISH + DONE) + LAST_CHUNK
        )


async def test_strict_says_nothing_before_the_first_event_so_a_failure_keeps_its_status() -> None:
    async def late(up: Conversation) -> None:
        await up.request()
        await asyncio.sleep(0.5)  # more than twice the silence
        up.send(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n")

    async with (
        Upstream(late) as upstream,
        penstock(config_for(upstream.url, penstock=quiet_after("strict", 0.15))) as proxy,
    ):
        status, _ = await proxy.ask(CHAT, chat())
        assert status == 503


async def test_early_answers_while_the_model_server_is_silent() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=quiet_after("early"))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()
        head = await client.read_until(COMMENT + b"\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        up.send(stream(ROLE, ANSWER))
        rest = await client.read_until(b"0\r\n\r\n")
        assert ANSWER in rest


async def test_a_failure_after_an_early_answer_is_told_in_band() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=quiet_after("early"))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()
        await client.read_until(COMMENT + b"\r\n")
        up.reset()
        rest = await client.read_until(b"0\r\n\r\n")
        assert b'data: {"error"' in rest
        assert DONE not in rest
        (line,) = await proxy.ended()
        assert line.outcome == "upstream_error"


@pytest.mark.parametrize("mode", ["strict", "early"])
async def test_clients_that_cannot_bear_comments_get_none(mode: str) -> None:
    assert not dialect_for(Operation.CHAT, 1).keepalive
    body = {"model": MODEL, "messages": [{"speaker": "human", "text": "hi"}]}
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=quiet_after(mode, 0.1))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask("/.api/completions/stream?api-version=1", body)
        up = await upstream.accept()
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN))
        seen = await client.read_until(b"Hi")
        await asyncio.sleep(0.3)
        up.send(chunk(FINISH + DONE) + LAST_CHUNK)
        seen += await client.read_until(b"0\r\n\r\n")
        assert b"\n:" not in seen


async def test_off_is_off() -> None:
    async def slow(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN))
        await asyncio.sleep(0.5)
        up.send(chunk(FINISH + DONE) + LAST_CHUNK)

    async with (
        Upstream(slow) as upstream,
        penstock(config_for(upstream.url, penstock=quiet_after("off", 0.1))) as proxy,
    ):
        assert await proxy.ask(CHAT, chat()) == (200, TOKEN + FINISH + DONE)


# The account


async def time_of(proxy: Proxy) -> dict[str, float]:
    await proxy.ended()
    (line,) = [line for line in proxy.written().splitlines() if b'"request"' in line]
    split: dict[str, float] = msgspec.json.decode(line)["spent"]
    return split


async def test_the_log_line_says_where_the_time_went() -> None:
    async def paced(up: Conversation) -> None:
        await up.request()
        await asyncio.sleep(0.2)
        up.send(STREAM_HEAD + chunk(TOKEN))
        await asyncio.sleep(0.3)
        up.send(chunk(TOKEN) + chunk(FINISH + DONE) + LAST_CHUNK)

    async with Upstream(paced) as upstream, penstock(config_for(upstream.url)) as proxy:
        await proxy.ask(CHAT, chat())
        split = await time_of(proxy)

    assert set(split) <= {"connect", "prefill", "decode", "loop_lag"}
    assert 0.2 <= split["prefill"] < 0.29
    assert 0.3 <= split["decode"] < 0.45


async def test_time_in_the_queue_is_told_apart() -> None:
    settings = {"endpoints": [{"url": "", "maxConcurrent": 1}]}
    async with Upstream() as upstream:
        settings["endpoints"][0]["url"] = upstream.url
        async with (
            penstock(config_for(upstream.url, settings=settings)) as proxy,
            asyncio.TaskGroup() as group,
        ):
            first = group.create_task(proxy.ask(CHAT, chat()))
            up = await upstream.accept()
            await up.request()
            second = group.create_task(proxy.ask(CHAT, chat()))
            await asyncio.sleep(0.3)
            up.send(stream(ANSWER))
            await first
            await up.request()
            up.send(stream(ANSWER))
            await second
            await proxy.ended(2)
            lines = [each for each in proxy.written().splitlines() if b'"request"' in each]
            queued = [msgspec.json.decode(line)["spent"].get("queue", 0.0) for line in lines]

    assert queued[0] == 0.0
    assert 0.2 <= queued[1] < 0.5
