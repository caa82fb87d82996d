"""An upstream that says more than it was asked, or hangs up when it likes, harms no client.

The first is response-queue poisoning: a kept connection that holds an answer nobody asked for must
not give it to the next request. The second is the race of a kept connection: a request that went
out on one just as the upstream closed it may be sent again, since nothing of it was answered.
"""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from tests.e2e.frames import whole_saying
from tests.harness import Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Request, Script, Upstream, chunk
from tests.scripted import response as http

CHAT = "/v1/chat/completions"
TRIES = 200
FINISH = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'


def said(text: bytes, *, stream: bool) -> bytes:
    """A whole response that says this."""
    if not stream:
        return http(whole_saying(text))
    token = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % text
    return STREAM_HEAD + chunk(token + FINISH + b"data: [DONE]\n\n") + LAST_CHUNK


def echo(request: Request) -> bytes:
    """The answer to this request: its own words."""
    asked = msgspec.json.decode(request.body)
    text: str = asked["messages"][0]["content"]
    return said(text.encode(), stream=asked["stream"])


SURPLUS = said(b"poison", stream=False)


async def same_segment(up: Conversation) -> None:
    async for request in up.requests():
        up.send(echo(request) + SURPLUS)


async def two_writes(up: Conversation) -> None:
    async for request in up.requests():
        up.send(echo(request))
        up.send(SURPLUS)


async def once_the_answer_was_read(up: Conversation) -> None:
    async for request in up.requests():
        up.send(echo(request))
        await up.pause()
        up.send(SURPLUS)


async def ask(proxy: Proxy, number: int, *, stream: bool) -> None:
    """One request, and its own answer."""
    text = f"words-of-{number:06}"
    status, body = await proxy.ask(CHAT, chat(text, stream=stream))
    assert status == 200, body
    assert text.encode() in body
    assert b"poison" not in body


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("script", [same_segment, two_writes, once_the_answer_was_read])
async def test_an_answer_nobody_asked_for_reaches_nobody(script: Script, stream: bool) -> None:
    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        for number in range(TRIES // 2):
            await ask(proxy, number, stream=stream)
        for batch in range(TRIES // 2, TRIES, 10):
            async with asyncio.TaskGroup() as clients:
                for number in range(batch, batch + 10):
                    clients.create_task(ask(proxy, number, stream=stream))
        lines = await proxy.ended(TRIES)

    assert {line.outcome for line in lines} == {"complete"}
    assert len(upstream.requests) == TRIES  # none was sent twice


# Kept connections that are closed

POSTS = 300


async def closes_after_each_answer(up: Conversation) -> None:
    request = await up.request()
    up.send(echo(request))  # and not a word of "Connection: close"


async def closes_once_the_answer_was_read(up: Conversation) -> None:
    request = await up.request()
    up.send(echo(request))
    await up.pause()


async def closes_on_the_second_request(up: Conversation) -> None:
    request = await up.request()
    up.send(echo(request))
    await up.request_head()


@pytest.mark.parametrize(
    "script",
    [closes_after_each_answer, closes_once_the_answer_was_read, closes_on_the_second_request],
)
async def test_a_kept_connection_that_was_closed_fails_no_request(script: Script) -> None:
    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        for number in range(POSTS):
            await ask(proxy, number, stream=number % 2 == 0)
        lines = await proxy.ended(POSTS)

    assert {line.outcome for line in lines} == {"complete"}
    assert max(line.attempts for line in lines) <= 2
    assert upstream.connections == POSTS


async def test_a_kept_connection_that_breaks_in_its_answer_is_not_asked_again() -> None:
    async def script(up: Conversation) -> None:
        up.send(echo(await up.request()))
        await up.request()
        up.send(b"HTTP/1.1 200 OK\r\nContent-Le")

    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        await ask(proxy, 1, stream=False)
        status, _ = await proxy.ask(CHAT, chat("second", stream=False))
        lines = await proxy.ended(2)

    assert (status, lines[1].attempts, len(upstream.requests)) == (502, 1, 2)


async def test_a_fresh_connection_without_an_answer_is_not_asked_again() -> None:
    async def script(up: Conversation) -> None:
        await up.request()

    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        status, _ = await proxy.ask(CHAT, chat())
        (line,) = await proxy.ended()

    assert (status, line.attempts, len(upstream.requests)) == (502, 1, 1)
