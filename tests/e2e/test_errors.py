"""Model servers that fail: before their first event, after it, and in every form they know."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import msgspec
import pytest

from tests.e2e.frames import DONE, ROLE, same, stream, turns, whole_saying
from tests.e2e.rawclient import raw_client
from tests.harness import chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Script, Upstream, chunk, response

CHAT = "/v1/chat/completions"
NATIVE: dict[str, Any] = {"kind": "huggingface-tgi", "settings": {"dialect": "tgi"}}
SSE = b"Content-Type: text/event-stream\r\n"
# The 422 is a constant of TGI 3.
TGI_OVERLOADED = b'data: {"error":{"message":"Model is overloaded","http_status_code":422}}\n\n'


async def told(script: Script, *, streamed: bool = True) -> tuple[int, Any, str]:
    """Status, error object and outcome for an OpenAI client."""
    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        status, body = await proxy.ask(CHAT, chat(stream=streamed))
        (line,) = await proxy.ended()
    assert line.status == status
    return status, msgspec.json.decode(body)["error"], line.outcome


# A failed status


@pytest.mark.parametrize(
    ("given", "body", "status", "message"),
    [
        (400, b'{"error":{"message":"no","type":"x"}}', 400, "no"),
        (422, b'{"error":"no","error_type":"validation"}', 400, "no"),
        (400, b'{"object":"error","message":"no"}', 400, "no"),
        (401, b'{"error":"Unauthorized"}', 502, "Unauthorized"),
        (401, b"", 502, "upstream answered with status 401"),
        (402, b"{}", 429, "upstream answered with status 402"),
        (403, b'{"detail":"no"}', 502, "no"),
        (404, b'{"error":{"message":"no","code":"model_not_found"}}', 404, "no"),
        (408, b"", 504, "upstream answered with status 408"),
        (413, b"too large", 413, "too large"),
        (424, b'{"error":"no","error_type":"generation"}', 502, "no"),
        (429, b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', 429, "no"),
        (429, b'{"error":{"message":"no","code":"insufficient_quota"}}', 429, "no"),
        (429, b'{"error":"Busy","error_type":"overloaded"}', 429, "Busy"),
        (500, b'{"fault":{"faultstring":"no"}}', 502, "no"),
        (500, b"<html>nginx</html>", 502, "upstream answered with status 500"),
        (503, b'{"error":{"code":503,"message":"Loading model"}}', 503, "Loading model"),
        (504, b"", 504, "upstream answered with status 504"),
        (529, b'{"error":{"type":"overloaded_error","message":"no"}}', 503, "no"),
        (301, b"", 502, "the model server answered with a redirect"),
        (307, b"", 502, "the model server answered with a redirect"),
        (304, b"", 502, "the model server answered with a redirect"),
    ],
)  # fmt: skip
async def test_a_failed_status_is_told_as_what_it_means(
    given: int, body: bytes, status: int, message: str
) -> None:
    headers = b"Location: /v1/chat/completions\r\n" if given < 400 else b""
    raw = response(body, status=given, headers=headers)
    if given == 304:
        raw = b"HTTP/1.1 304 Not Modified\r\n\r\n"

    outcome = "rejected" if status in (400, 404, 413) else "upstream_error"

    async with Upstream(same(raw)) as upstream, penstock(config_for(upstream.url)) as proxy:
        for streamed in (True, False):
            got, body = await proxy.ask(CHAT, chat(stream=streamed))

            assert (got, msgspec.json.decode(body)["error"]["message"]) == (status, message)
        lines = await proxy.ended(2)

    assert {(line.status, line.outcome) for line in lines} == {(status, outcome)}


async def test_a_redirect_is_not_followed() -> None:
    async with Upstream(same(response(whole_saying(b"inside")))) as inside:
        raw = response(status=307, headers=b"Location: %b/\r\n" % inside.url.encode())

        status, _, _ = await told(same(raw), streamed=False)

        assert (status, inside.connections) == (502, 0)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (b"7", "7"),
        (b"x", None),
        (b"-1", None),
        (b"1 Jan 2026 00:00:00 +9999999999999999", None),  # no clock goes so far
    ],
)
async def test_retry_after_is_passed_on_if_it_is_a_number(given: bytes, wanted: str | None) -> None:
    raw = response(b"{}", status=429, headers=b"Retry-After: %b\r\n" % given)
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(CHAT, chat()) as got,
    ):
        assert (got.status, got.headers.get("retry-after")) == (429, wanted)


@pytest.mark.parametrize(
    ("headers", "status", "wanted"),
    [
        ("retry-after-ms: 1500", 429, "2"),  # Azure
        ("retry-after-ms: 1500", 503, "2"),
        ("retry-after: 7\r\nretry-after-ms: 1500", 429, "7"),
        ("x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 6m0s", 429, "360"),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 1m30.5s", 429, "91"),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 20ms", 429, "1"),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 12", 429, "12"),
        ("x-ratelimit-remaining-tokens: 9\r\nx-ratelimit-reset-tokens: 12s", 429, None),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 12s", 500, None),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: soon", 429, None),
        ("x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens:", 429, None),
        (
            "x-ratelimit-remaining-tokens: 0\r\nx-ratelimit-reset-tokens: 2h0m1s\r\n"
            "x-ratelimit-remaining-requests: 0\r\nx-ratelimit-reset-requests: 5s",
            429,
            "7201",
        ),
    ],
)
async def test_the_time_to_wait_is_found_where_the_server_says_it(
    headers: str, status: int, wanted: str | None
) -> None:
    raw = response(b"{}", status=status, headers=f"{headers}\r\n".encode())
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(CHAT, chat()) as got,
    ):
        assert got.headers.get("retry-after") == wanted


@pytest.mark.parametrize("before", [*range(940, 1001), 3_980, 3_990, 3_999, 7_990])
@pytest.mark.parametrize("fill", ["x ", "http://a.b/c "])
async def test_half_of_a_secret_is_not_left_where_a_long_message_is_cut(
    before: int, fill: str
) -> None:
    key = "an-access-token-of-some-length"
    message = (fill * before)[:before] + key + "!" * 8000
    settings = {"endpoints": [{"url": "http://127.0.0.1:9", "accessToken": key}]}
    raw = response(message.encode(), status=400)
    async with Upstream(same(raw)) as upstream:
        settings["endpoints"][0]["url"] = upstream.url
        async with penstock(config_for(upstream.url, settings=settings)) as proxy:
            _, body = await proxy.ask(CHAT, chat())

    assert not any(key[:length].encode() in body for length in range(4, len(key)))


async def test_of_a_failed_answers_headers_none_passes() -> None:
    headers = b"Set-Cookie: a=b\r\nServer: vllm\r\nWWW-Authenticate: Basic\r\nX-Compute-Type: a\r\n"
    async with (
        Upstream(same(response(b"{}", status=401, headers=headers))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat(), "X-Request-Id: r")
        got = await client.answer()

    assert got.status == 502
    assert not {"set-cookie", "server", "www-authenticate", "x-compute-type"} & set(got.headers)


async def test_a_compressed_error_is_read() -> None:
    body = gzip.compress(b'{"error":{"message":"Loading model"}}')
    raw = response(body, status=503, headers=b"Content-Encoding: gzip\r\n")

    status, error, _ = await told(same(raw))

    assert (status, error["message"]) == (503, "Loading model")


async def test_an_error_that_never_ends_is_cut() -> None:
    raw = b"HTTP/1.1 500 No\r\nContent-Length: 90000000\r\n\r\n" + b"x" * 200_000

    async def script(up: Conversation) -> None:
        await up.request()
        up.send(raw)
        await up.gone()

    async with asyncio.timeout(5):
        status, error, _ = await told(script)

    assert status == 502
    assert len(error["message"]) <= 1000


# A 200 that is a failure: the first event decides


@pytest.mark.parametrize(
    ("frames", "statuses", "message"),
    [
        (b'data: {"error":"no","error_type":"overloaded"}\n\n', {429, 503}, "no"),
        (TGI_OVERLOADED + DONE, {429, 503}, "Model is overloaded"),
        (b'data: {"error":{"message":"no","code":429}}\n\n', {429}, "no"),
        (b'data: {"error":{"object":"error","message":"no","code":400}}\n\n', {400}, "no"),
        (b'event: error\ndata: {"message":"no"}\n\n', {502}, "no"),
        (b'event: error\ndata: no\n\n', {502}, "no"),
        (b'error: {"code":500,"message":"no","type":"server_error"}\n\n', {502}, "no"),
        (b'{"error":{"message":"no","status":"UNAVAILABLE"}}\n', {503}, "no"),
        (b": hello\n\n" + ROLE + b'data: {"error":"no"}\n\n', {502}, "no"),
        (b'data: {"detail":"no"}\n\n', {502}, "no"),
        (b"data: no\n\n", {502}, "upstream sent an event that is not its format"),
        (DONE, {502}, "the model server ended its answer without saying anything"),
        (ROLE + DONE, {502}, "the model server ended its answer without saying anything"),
        (b"", {502}, "upstream's answer broke off"),
        (b": hello\n\n", {502}, "upstream's answer broke off"),
        (ROLE, {502}, "upstream's answer broke off"),
        (b"<html>nginx</html>", {502}, "upstream sent something that is not an answer"),
    ],
)  # fmt: skip
async def test_a_failure_before_the_first_token_has_a_real_status(
    frames: bytes, statuses: set[int], message: str
) -> None:
    at_once, error, _ = await told(same(response(frames, headers=SSE)))
    bytewise, _, _ = await told(turns([frames[i : i + 1] for i in range(len(frames))]))

    assert error["message"] == message
    assert {at_once, bytewise} <= statuses
    assert at_once == bytewise


@pytest.mark.parametrize("kind", [b"text/html", b"Text/HTML; charset=UTF-8"])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_web_page_is_no_answer(kind: bytes, streamed: bool) -> None:
    raw = response(b"<html>Sign in</html>", headers=b"Content-Type: %b\r\n" % kind)

    status, error, outcome = await told(same(raw), streamed=streamed)

    assert (status, error["code"], outcome) == (502, "upstream_protocol_error", "upstream_error")


@pytest.mark.parametrize("streamed", [True, False])
async def test_an_error_in_json_with_a_200_is_an_error(streamed: bool) -> None:
    body = b'{"error":{"message":"Rate limit","code":"rate_limit_exceeded"}}'
    raw = response(body, headers=b"Content-Type: application/json; charset=utf-8\r\n")

    status, error, _ = await told(same(raw), streamed=streamed)

    assert (status, error["code"]) == (429, "rate_limit_exceeded")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"no", b'{"choices":[]}', b'{"choices":[{"mess']
)
async def test_a_whole_answer_that_is_none_is_refused(body: bytes) -> None:
    status, _, outcome = await told(same(response(body)), streamed=False)

    assert (status, outcome) == (502, "upstream_error")


# In the client's dialect


async def test_a_tgi_client_is_told_in_tgis_words() -> None:
    answers = iter(
        [
            response(b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', status=429),
            STREAM_HEAD + chunk(b'data: {"error":{"message":"no"}}\n\n') + LAST_CHUNK,
            stream(
                b'data: {"choices":[{"index":0,"text":"a","finish_reason":null}]}\n\n',
                b'data: {"error":{"message":"no"}}\n\n',
                DONE,
            ),
        ]
    )

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(next(answers))

    async with Upstream(script) as upstream, penstock(config_for(upstream.url)) as proxy:
        limited = await proxy.ask("/generate_stream", {"inputs": "a"})
        first = await proxy.ask("/generate_stream", {"inputs": "a"})
        status, later = await proxy.ask("/generate_stream", {"inputs": "a"})

    assert limited == (429, b'{"error":"no","error_type":"overloaded"}')
    assert first == (502, b'{"error":"no","error_type":"generation"}')
    assert status == 200
    assert later.endswith(b'data: {"error":"no","error_type":"generation"}\n\n')
    assert later.count(b"data: ") == 2


async def test_an_openai_client_of_native_tgi_is_told_in_openais_words() -> None:
    token = b'data: {"token":{"text":"a","special":false},"generated_text":null}\n\n'
    failure = (
        b'data: {"error":"Request failed during generation: CUDA","error_type":"generation"}\n\n'
    )
    async with (
        Upstream(turns([failure], [token, failure])) as upstream,
        penstock(config_for(upstream.url, **NATIVE)) as proxy,
    ):
        status, before = await proxy.ask(CHAT, chat())
        later_status, later = await proxy.ask(CHAT, chat())

    wanted = {
        "message": "Request failed during generation: CUDA",
        "type": "generation",
        "param": None,
        "code": None,
    }
    assert (status, later_status) == (502, 200)
    assert msgspec.json.decode(before)["error"] == wanted
    *_, last, nothing = later.split(b"\n\n")
    assert msgspec.json.decode(last.removeprefix(b"data: "))["error"] == wanted
    assert nothing == b""
    assert b"[DONE]" not in later
