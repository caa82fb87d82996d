"""Requests through a running penstock, in front of an upstream whose every byte is scripted."""

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
from tests.e2e.rawclient import raw_client
from tests.harness import chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

CHAT = "/v1/chat/completions"
ASKS_USAGE = {"stream_options": {"include_usage": True}}


async def test_a_stream_in_the_same_dialect_arrives_byte_for_byte() -> None:
    async def answer(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(STREAM_HEAD + chunk(TOKEN) + chunk(FINISH) + chunk(DONE) + LAST_CHUNK)

    async with Upstream(answer) as upstream, penstock(config_for(upstream.url)) as proxy:
        status, body = await proxy.ask(CHAT, chat())

        assert (status, body) == (200, TOKEN + FINISH + DONE)
        (line,) = await proxy.ended()
        assert (line.outcome, line.exact, line.status) == ("complete", True, 200)


async def test_a_whole_answer_in_the_same_dialect_arrives_byte_for_byte() -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        assert await proxy.ask(CHAT, chat(stream=False)) == (200, WHOLE)

        (line,) = await proxy.ended()
        assert (line.outcome, line.exact, line.usage) == ("complete", True, "reported")
        assert (line.input_tokens, line.output_tokens) == (3, 1)


# The request


async def forwarded(body: bytes, *, usage: str = "on") -> bytes:
    """What the upstream is asked when a client asks this."""
    async with (
        Upstream(same(stream(ANSWER))) as upstream,
        penstock(config_for(upstream.url, settings={"usage": usage})) as proxy,
    ):
        await proxy.ask(CHAT, body)
    return upstream.requests[0].body


INNER = (
    b'"messages":[{"role":"user","content":"\\u00e9\\/ \xc3\xa9 \\ud83d\\ude00"}],'
    b'"temperature":1.0e0,"seed":123456789012345678901234567890,"top_p":0.10,'
    b'"unknown":{ "a" :\t1.50,\n "b":[ ] }'
)


async def test_only_the_model_and_the_usage_option_of_a_request_change() -> None:
    given = b'{"model":"lab::v1::model",%b,"stream":true}' % INNER

    assert await forwarded(given) == (
        b'{"model":"model",%b,"stream":true,"stream_options":{"include_usage":true}}' % INNER
    )


async def test_a_request_that_is_not_streamed_is_not_asked_for_usage() -> None:
    given = b'{%b,"model":"lab::v1::model"}' % INNER

    assert await forwarded(given) == b'{%b,"model":"model"}' % INNER


async def test_other_stream_options_stay() -> None:
    given = (
        b'{"model":"lab/model","stream_options":{"include_usage":false,"chunk": 1e1},%b,'
        b'"stream":true}' % INNER
    )

    assert await forwarded(given) == (
        b'{"model":"model","stream_options":{"include_usage":true,"chunk":1e1},%b,"stream":true}'
        % INNER
    )


async def test_with_usage_off_only_the_model_changes() -> None:
    given = b'{"model":"lab::v1::model",%b,"stream":true}' % INNER

    assert await forwarded(given, usage="off") == b'{"model":"model",%b,"stream":true}' % INNER


async def test_an_upstream_is_asked_in_one_http_request_of_our_own_headers() -> None:
    async with (
        Upstream(same(stream(ANSWER))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        headers = {"Cookie": "a=b", "X-Forwarded-For": "1.2.3.4", "Authorization": "Bearer x"}
        await proxy.ask(CHAT, chat(), headers={**headers, "Accept-Encoding": "gzip"})

    (request,) = upstream.requests
    assert (request.method, request.target) == ("POST", "/v1/chat/completions")
    assert request.headers.pop("x-request-id")
    assert request.headers.pop("user-agent").startswith("penstock/")
    assert request.headers == {
        "host": f"127.0.0.1:{upstream.port}",
        "content-type": "application/json",
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-length": str(len(request.body)),
    }


# The usage frame


@pytest.mark.parametrize(
    ("asked", "usage", "wanted"),
    [
        ({}, "on", TOKEN + FINISH + DONE),
        ({"stream_options": {"include_usage": False}}, "on", TOKEN + FINISH + DONE),
        (ASKS_USAGE, "on", TOKEN + FINISH + USAGE + DONE),
        ({}, "off", TOKEN + FINISH + USAGE + DONE),
    ],
)
async def test_the_usage_frame_goes_to_those_who_asked_however_it_is_cut(
    asked: dict[str, Any], usage: str, wanted: bytes
) -> None:
    cuts = range(1, len(USAGE))
    answers = [[TOKEN, FINISH, USAGE + DONE], [TOKEN, FINISH + USAGE, DONE]]
    answers += [[TOKEN, FINISH + USAGE[:cut], USAGE[cut:] + DONE] for cut in cuts]

    async with (
        Upstream(turns(*answers)) as upstream,
        penstock(config_for(upstream.url, settings={"usage": usage})) as proxy,
    ):
        async with asyncio.TaskGroup() as clients:
            got = [clients.create_task(proxy.ask(CHAT, chat(**asked))) for _ in answers]
        lines = await proxy.ended(len(answers))

    assert {each.result() for each in got} == {(200, wanted)}
    assert {(line.usage, line.input_tokens, line.output_tokens) for line in lines} == {
        ("reported", 3, 1)
    }


async def test_usage_beside_a_choice_stays_with_it() -> None:
    last = FINISH.replace(b"}]}", b'}],"usage":{"prompt_tokens":3,"completion_tokens":1}}')
    async with (
        Upstream(same(stream(TOKEN, last, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        assert await proxy.ask(CHAT, chat()) == (200, TOKEN + last + DONE)


# How it is cut


async def test_a_stream_cut_at_every_byte_arrives_byte_for_byte() -> None:
    every = ROLE + TOKEN + FINISH + DONE
    answers = [[every[:cut], every[cut:]] for cut in range(1, len(every))]
    answers.append([every[i : i + 1] for i in range(len(every))])

    async with (
        Upstream(turns(*answers)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        asyncio.TaskGroup() as clients,
    ):
        got = [clients.create_task(proxy.ask(CHAT, chat())) for _ in answers]
        await proxy.ended(len(answers))

    assert {each.result() for each in got} == {(200, every)}


async def test_a_token_arrives_while_the_next_one_is_still_to_come() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()

        up.send(STREAM_HEAD + chunk(TOKEN))  # head and first token in one read
        assert (await client.read_until(TOKEN)).startswith(b"HTTP/1.1 200 OK\r\n")
        up.send(chunk(FINISH))
        await client.read_until(FINISH)
        up.send(chunk(DONE) + LAST_CHUNK)
        await client.read_until(DONE + b"\r\n0\r\n\r\n")


async def test_the_head_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.relay.stream.HOLD_SECONDS", 0.0)
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()

        await in_reads(up, [ROLE])
        await client.read_until(ROLE)
        up.send(chunk(TOKEN + FINISH + DONE) + LAST_CHUNK)
        await client.read_until(DONE)


async def test_what_is_held_before_the_first_token_is_bounded() -> None:
    comment = b": still loading\n\n"
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()

        await in_reads(up, [comment * 5000] * 20)
        async with asyncio.timeout(5):
            await client.read_until(comment)


async def test_an_answer_in_one_piece_of_json_becomes_the_stream_that_was_asked_for() -> None:
    headers = b"Content-Type: application/json\r\n"
    async with (
        Upstream(same(response(WHOLE, headers=headers))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(CHAT, chat()) as got,
    ):
        body = await got.read()

    assert got.headers["content-type"] == "text/event-stream"
    assert '"content":"Hi é"'.encode() in body
    assert b'"model":"lab::v1::model"' in body
    assert body.endswith(DONE)
