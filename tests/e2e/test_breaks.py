"""Connections to model servers that break: nothing cut short is ever dressed as whole."""

from __future__ import annotations

import msgspec
import pytest

from tests.e2e.frames import ANSWER, FINISH, ROLE, TOKEN, in_reads, whole_saying
from tests.e2e.rawclient import raw_client
from tests.harness import chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Script, Upstream, chunk

CHAT = "/v1/chat/completions"
SSE = b"Content-Type: text/event-stream\r\n"


async def cut_stream(up: Conversation) -> None:
    up.finish()


async def cut_chunk(up: Conversation) -> None:
    up.send(b"400\r\ndata: {")
    up.finish()


async def bad_chunk(up: Conversation) -> None:
    up.send(b"no chunk\r\n")


async def unmarked_end(up: Conversation) -> None:
    up.send(LAST_CHUNK)


async def half_a_frame(up: Conversation) -> None:
    up.send(chunk(FINISH[:-20]) + LAST_CHUNK)


async def reset(up: Conversation) -> None:
    await up.pause()
    up.reset()


BREAKS = [cut_stream, cut_chunk, bad_chunk, unmarked_end, half_a_frame, reset]


@pytest.mark.parametrize("break_off", BREAKS)
@pytest.mark.parametrize("begun", [[TOKEN], [ROLE, TOKEN, TOKEN], []], ids=["one", "two", "none"])
async def test_a_stream_that_breaks_ends_in_one_error(
    break_off: Script, begun: list[bytes]
) -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        await in_reads(up, begun)
        await break_off(up)
        await up.gone()

    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        got = await client.answer()  # well framed to its end
        (line,) = await proxy.ended()

    sent = b"".join(begun)
    assert got.status == (200 if begun else 502)
    assert got.body.startswith(sent)
    error = msgspec.json.decode(got.body.removeprefix(sent).removeprefix(b"data: "))["error"]
    assert error["code"] in ("truncated", "upstream_protocol_error")
    assert b"[DONE]" not in got.body
    assert line.outcome == ("upstream_error" if break_off is bad_chunk else "truncated")
    assert (line.usage, line.attempts) == ("counted" if begun else "unknown", 1)


@pytest.mark.parametrize("head", [b"Content-Length: 5000\r\n", b""], ids=["short", "until close"])
async def test_a_body_without_chunks_that_breaks_ends_in_one_error(head: bytes) -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        up.send(b"HTTP/1.1 200 OK\r\n" + SSE + head + b"\r\n" + TOKEN)

    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        status, body = await proxy.ask(CHAT, chat())
        (line,) = await proxy.ended()

    assert (status, line.outcome) == (200, "truncated")
    assert body.startswith(TOKEN + b'data: {"error":{')
    assert body.count(b"data: ") == 2


async def test_a_body_without_framing_may_be_whole() -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        up.send(b"HTTP/1.0 200 OK\r\n" + SSE + b"\r\n" + ANSWER)

    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        assert await proxy.ask(CHAT, chat()) == (200, ANSWER)


async def test_a_break_after_the_end_mark_harms_nobody() -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD + chunk(ANSWER))
        await up.pause()
        up.reset()

    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        assert await proxy.ask(CHAT, chat()) == (200, ANSWER)
        (line,) = await proxy.ended()

    assert line.outcome == "complete"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + whole_saying(b"short"),
    ],
    ids=["nothing", "half a head", "not http", "two lengths", "huge header", "short body"],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_no_answer_at_all_is_a_bad_gateway(raw: bytes, streamed: bool) -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        up.send(raw)

    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        status, body = await proxy.ask(CHAT, chat(stream=streamed))
        (line,) = await proxy.ended()

    assert (status, line.outcome in ("upstream_error", "truncated")) == (502, True)
    assert msgspec.json.decode(body)["error"]["type"] == "server_error"


async def test_a_server_that_is_not_there_is_a_bad_gateway() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        await upstream.stop()
        status, body = await proxy.ask(CHAT, chat())
        (line,) = await proxy.ended()

    assert (status, msgspec.json.decode(body)["error"]["code"]) == (502, "upstream_unreachable")
    assert (line.outcome, line.phase) == ("upstream_error", "connect")
