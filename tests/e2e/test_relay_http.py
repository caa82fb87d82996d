"""What stands around an answer: headers, connections, HTTP/1.0, compression, sizes."""

from __future__ import annotations

import gzip
import re

import pytest

from tests.e2e.frames import ANSWER, DONE, FINISH, TOKEN, WHOLE, same, stream, turns
from tests.e2e.rawclient import raw_client
from tests.harness import chat, config_for, penstock
from tests.scripted import LAST_CHUNK, Upstream, chunk, response

CHAT = "/v1/chat/completions"


# Headers


async def test_of_an_upstreams_headers_only_the_allowed_ones_pass() -> None:
    headers = (
        b"Content-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
        b"Set-Cookie: a=b\r\nServer: vllm\r\nLocation: http://inside/\r\nX-Request-Id: theirs\r\n"
        b"Via: 1.1 inside\r\nX-Compute-Type: gpu+optimized\r\nOpenAI-Processing-MS: 12\r\n"
    )
    raw = b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + chunk(ANSWER) + LAST_CHUNK
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat(), "X-Request-Id: mine:1")
        got = await client.answer()

    assert not {"set-cookie", "server", "location", "via"} & set(got.headers)
    passed = {
        "x-request-id": "mine:1",
        "x-compute-type": "gpu+optimized",
        "openai-processing-ms": "12",
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-accel-buffering": "no",
        "transfer-encoding": "chunked",
    }
    assert passed.items() <= got.headers.items()


@pytest.mark.parametrize("given", [None, "a b", 'quo"te', "x" * 129, ""])
async def test_a_request_gets_an_id_which_is_told_to_both_sides(given: str | None) -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat(stream=False), *([] if given is None else [f"X-Request-Id: {given}"]))
        got = await client.answer()
        (line,) = await proxy.ended()

    made = got.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{16}-[0-9a-f]{8}", made)
    assert upstream.requests[0].headers["x-request-id"] == line.request_id == made


# Connections


async def test_connections_of_both_sides_serve_again() -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        for _ in range(3):
            client.ask(CHAT, chat())
            assert (await client.answer()).body == ANSWER
            await proxy.ended()

        assert (len(upstream.requests), upstream.connections) == (3, 1)


async def test_a_kept_connection_ends_with_its_next_answer_once_the_proxy_drains() -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        before = await client.answer()
        await proxy.penstock.drain(1)
        client.ask(CHAT, chat())
        after = await client.answer()

        assert await client.rest() == b""
    assert "connection" not in before.headers
    assert (after.body, after.headers["connection"]) == (before.body, "close")


async def test_a_client_of_http_1_0_gets_a_body_that_ends_with_the_connection() -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat(), version="1.0")
        got = await client.answer()

    assert got.headers["connection"] == "close"
    assert "transfer-encoding" not in got.headers
    assert got.body == ANSWER


async def test_a_client_of_http_1_0_may_keep_its_connection_for_whole_answers() -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        for _ in range(2):
            client.ask(CHAT, chat(stream=False), "Connection: keep-alive", version="1.0")
            got = await client.answer()

            assert (got.headers["connection"], got.body) == ("keep-alive", WHOLE)


# Compression that nobody asked for


def compressed(body: bytes, *, stream: bool, encoding: bytes = b"gzip") -> bytes:
    kind = b"text/event-stream" if stream else b"application/json"
    headers = b"Content-Type: %b\r\nContent-Encoding: %b\r\n" % (kind, encoding)
    return response(body, headers=headers)


@pytest.mark.parametrize(("stream", "plain"), [(True, ANSWER), (False, WHOLE)])
async def test_a_compressed_answer_is_given_uncompressed(stream: bool, plain: bytes) -> None:
    async with (
        Upstream(same(compressed(gzip.compress(plain), stream=stream))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(CHAT, chat(stream=stream)) as got,
    ):
        assert (got.status, await got.read()) == (200, plain)
        assert "content-encoding" not in got.headers


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b'data: {"choices":[]' + b" " * 50_000_000, 9), b"gzip"),  # a bomb
        (gzip.compress(ANSWER)[:40], b"gzip"),
        (ANSWER, b"gzip"),
        (ANSWER, b"br"),
    ],
    ids=["bomb", "cut", "plain", "unknown"],
)
async def test_a_compressed_answer_that_cannot_be_read_is_refused(
    stream: bool, body: bytes, encoding: bytes
) -> None:
    limits = {"limits": {"maxEventBytes": 1_000_000}}
    raw = compressed(body, stream=stream, encoding=encoding)
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
    ):
        status, told = await proxy.ask(CHAT, chat(stream=stream))

        assert status == 502
        assert told.startswith(b'{"error":{"message":')
        (line,) = await proxy.ended()
        assert line.outcome in ("upstream_error", "truncated")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_whole_answer_over_the_limit_is_refused(streamed: bool) -> None:
    limits = {"limits": {"maxEventBytes": 1024}}
    raw = response(WHOLE.ljust(1025), headers=b"Content-Type: application/json\r\n")
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
    ):
        status, told = await proxy.ask(CHAT, chat(stream=streamed))

    assert (status, b'"upstream_protocol_error"' in told) == (502, True)


async def test_an_event_over_the_limit_ends_a_stream_that_had_begun() -> None:
    limits = {"limits": {"maxEventBytes": 1024}}
    async with (
        Upstream(turns([TOKEN, b"data: " + b"x" * 2000])) as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
    ):
        status, body = await proxy.ask(CHAT, chat())

    assert status == 200
    assert body.startswith(TOKEN + b'data: {"error":')
    assert body.count(b"data: ") == 2


async def test_what_came_in_the_same_read_as_an_event_over_the_limit_is_passed_on_first() -> None:
    limits = {"limits": {"maxEventBytes": 1024}}
    half = len(TOKEN) // 2
    reads = [TOKEN[:half], TOKEN[half:] + TOKEN + b"data: " + b"x" * 2000]
    async with (
        Upstream(turns(reads)) as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
    ):
        status, body = await proxy.ask(CHAT, chat())
        (line,) = await proxy.ended()

    assert status == 200
    assert body.startswith(TOKEN * 2 + b'data: {"error":')
    assert body.count(b"data: ") == 3
    assert line.outcome == "upstream_error"


async def test_so_it_is_where_it_is_translated() -> None:
    limits = {"limits": {"maxEventBytes": 1024}}
    async with (
        Upstream(turns([TOKEN + TOKEN + b"data: " + b"x" * 2000 + b"\n\n" + TOKEN])) as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
    ):
        status, body = await proxy.ask("/generate_stream", {"inputs": "hi"})

    assert status == 200
    assert body.count(b'"text":"Hi"') == 2
    assert body.count(b'"error"') == 1
