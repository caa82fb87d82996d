"""Sourcegraph's API through a running penstock, read as Cody's own client reads it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
import pytest

from parsers.chat import ChatRequest, Message, Reasoning, TextPart
from proxy.api.sourcegraph import complete, with_effort
from proxy.endpoints import LiveState
from proxy.registry import build
from tests.e2e.demo_server import before_demo
from tests.e2e.frames import DONE, FINISH, ROLE, TOKEN, USAGE, in_reads, same, stream
from tests.e2e.rawclient import raw_client
from tests.harness import MODEL, Proxy, config_for, penstock, provider
from tests.scripted import Conversation, Script, Upstream, response

STREAM = "/.api/completions/stream"
CODE = "/.api/completions/code"
VERSIONS = (None, *range(1, 10))
LLM = "/.api/llm/chat/completions"


def at(path: str, version: int | str | None) -> str:
    """The path with this api-version."""
    if version is None:
        return path
    return f"{path}?api-version={version}&client-name=vscode&client-version=1.80.0"


def asking(text: str = "hi", **members: Any) -> dict[str, object]:
    """A body as Cody's chat client sends it."""
    messages = [{"speaker": "human", "text": text}]
    return {"messages": messages, "maxTokensToSample": 100, "topK": -1, "topP": -1, **members}


# Cody's own reader: lib/shared/src/sourcegraph-api/completions/parse.ts, chat/sse-iterator.ts


class Heard(msgspec.Struct):
    """What a client made of a stream."""

    text: str = ""
    thinking: str = ""
    stop_reason: str = ""
    calls: dict[str, list[str]] = {}
    usage: dict[str, Any] | None = None
    model: str | None = None
    error: str | None = None
    done: bool = False


class Data(msgspec.Struct, forbid_unknown_fields=True):
    """The data of a `completion` event; any other member would be a surprise."""

    completion: str | None = None
    deltaText: str | None = None
    stopReason: str | None = None
    delta_thinking: str | None = None
    delta_tool_calls: list[dict[str, Any]] | None = None
    usage: dict[str, Any] | None = None
    modelref: str | None = None
    model: str | None = None


def heard(body: bytes, version: int | None) -> Heard:
    """What Cody makes of these bytes; fails where it does, and at what would never end for it."""
    found = Heard(calls={})
    *events, rest = body.decode().split("\n\n")
    assert rest == ""
    for event in events:
        assert not found.done
        event_line, data_line = event.split("\n")
        assert event_line in ("event: completion", "event: error", "event: done")
        assert data_line.startswith("data: {")
        data = data_line.removeprefix("data: ")
        if event_line == "event: done":
            assert data == "{}"
            found.done = True
        elif event_line == "event: error":
            found.error = msgspec.json.decode(data, type=dict[str, str])["error"]
        else:
            assert found.error is None
            _hear(found, msgspec.json.decode(data, type=Data), version or 0)
    assert found.done
    return found


def _hear(found: Heard, data: Data, version: int) -> None:
    assert (data.completion is None) == (version >= 2)
    assert (data.deltaText is None) == (version < 2)
    assert version >= 5 or (data.usage, data.model) == (None, None)
    assert data.modelref == (MODEL if data.usage is not None else None)
    assert version >= 8 or (data.delta_thinking, data.delta_tool_calls) == (None, None)
    found.text = (
        found.text + data.deltaText if data.deltaText is not None else data.completion or ""
    )
    found.thinking += data.delta_thinking or ""
    found.stop_reason = data.stopReason or found.stop_reason
    found.usage = data.usage or found.usage
    found.model = data.model or found.model
    for call in data.delta_tool_calls or ():
        if call.get("id") and call["function"]["name"]:
            found.calls.setdefault(call["id"], []).append(call["function"]["arguments"])
        else:
            found.calls[[*found.calls][-1]].append(call["function"]["arguments"])


async def listened(proxy: Proxy, path: str, version: int | None, **members: Any) -> Heard:
    """A streamed answer, with everything that a client checks before it reads."""
    async with proxy.post(at(path, version), asking(stream=True, **members)) as got:
        body = await got.read()
        assert (got.status, got.headers.getall("content-type")) == (200, ["text/event-stream"])
        assert got.headers["cache-control"] == "no-cache"
        assert got.headers["x-accel-buffering"] == "no"
        assert "content-encoding" not in got.headers
    return heard(body, version)


# Streams that succeed


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_chat_of_each_version_is_read_by_its_clients(version: int | None) -> None:
    upstream_says = stream(ROLE, TOKEN, TOKEN, FINISH, USAGE + DONE)
    async with (
        Upstream(same(upstream_says)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        got = await listened(proxy, STREAM, version)
        (line,) = await proxy.ended()

    assert (got.text, got.stop_reason, got.error) == ("HiHi", "stop", None)
    counted = version is not None and version >= 5
    assert (got.usage is not None) == counted
    assert got.model == ("model" if counted else None)
    assert (line.outcome, line.exact, line.input_tokens) == ("complete", False, 3)


async def test_streams_are_these_bytes() -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, USAGE + DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        first = await proxy.ask(at(STREAM, None), asking())
        second = await proxy.ask(at(STREAM, 2), asking())
        fifth = await proxy.ask(at(STREAM, 5), asking())

    assert first == (
        200,
        b'event: completion\ndata: {"completion":"Hi","stopReason":""}\n\n'
        b'event: completion\ndata: {"completion":"Hi","stopReason":"stop"}\n\n'
        b"event: done\ndata: {}\n\n",
    )
    deltas = (
        b'event: completion\ndata: {"deltaText":"Hi"}\n\n'
        b'event: completion\ndata: {"deltaText":"","stopReason":"stop"}\n\n'
    )
    counts = b'{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}'
    assert second == (200, deltas + b"event: done\ndata: {}\n\n")
    assert fifth == (
        200,
        deltas
        + b'event: completion\ndata: {"deltaText":"","usage":%b,' % counts
        + b'"modelref":"lab::v1::model","model":"model"}\n\n'
        + b"event: done\ndata: {}\n\n",
    )


async def test_each_event_is_written_when_it_comes() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(at(STREAM, 2), asking(), "Accept-Encoding: gzip;q=0")
        up = await upstream.accept()
        await up.request()
        await in_reads(up, [TOKEN])
        assert (await client.read_until(b"\n\n\r\n")).endswith(b'{"deltaText":"Hi"}\n\n\r\n')


@pytest.mark.parametrize("dialect", ["openai", "tgi"])
@pytest.mark.parametrize("version", VERSIONS)
async def test_both_routes_reach_both_of_tgis_apis(dialect: str, version: int | None) -> None:
    async with before_demo(dialect) as (proxy, _):
        for path in (STREAM, CODE):
            got = await listened(proxy, path, version)
            assert got.text.startswith("This is the demo model of penstock.")
            assert (got.stop_reason, got.error) == ("stop", None)
            status, body = await proxy.ask(at(path, version), asking(stream=False))
            whole = msgspec.json.decode(body)
            assert (status, whole["completion"], whole["stopReason"]) == (200, got.text, "stop")


CALLS = (
    b'data: {"choices":[{"index":0,"delta":{"reasoning_content":"Hm"}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function",'
    b'"function":{"name":"grep","arguments":"{\\"q\\":"}}]}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":'
    b'{"arguments":"1}"}}]}}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n'
)
TOOLS = [{"type": "function", "function": {"name": "grep", "parameters": {"type": "object"}}}]


async def test_tools_and_thinking_go_both_ways() -> None:
    async with (
        Upstream(same(stream(CALLS + DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        got = await listened(proxy, STREAM, 8, tools=TOOLS)
        old = await listened(proxy, STREAM, 7, tools=TOOLS)

    assert (got.thinking, got.stop_reason) == ("Hm", "tool_calls")
    assert {call: "".join(pieces) for call, pieces in got.calls.items()} == {"a": '{"q":1}'}
    assert (old.thinking, old.calls, old.stop_reason) == ("", {}, "tool_calls")
    assert msgspec.json.decode(upstream.requests[0].body)["tools"] == TOOLS


async def test_a_whole_answer_is_json() -> None:
    body = b'{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"length"}]}'
    async with (
        Upstream(same(response(body))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(STREAM, asking(stream=False)) as got,
    ):
        assert got.headers["content-type"] == "application/json"
        assert await got.read() == b'{"completion":"Hi","stopReason":"length"}'


# Streams that fail

REFUSED = b'{"error":{"message":"message content cannot be empty","type":"invalid_request_error"}}'
IN_STREAM = b'data: {"error":{"message":"out of memory","type":"server_error"}}\n\n'


async def falls_silent(up: Conversation) -> None:
    """Says a word, then nothing."""
    await up.request()
    await in_reads(up, [TOKEN])
    await up.gone()


async def hangs_up(up: Conversation) -> None:
    """Says a word, then breaks the connection off."""
    await up.request()
    await in_reads(up, [TOKEN])
    up.reset()


async def says_nothing(up: Conversation) -> None:
    """Takes the request, and never answers."""
    await up.request()
    await up.gone()


FAILURES: dict[str, tuple[Script, str, str, str]] = {
    "refused": (
        same(response(REFUSED, status=400)),
        "",
        "message content cannot be empty",
        "rejected",
    ),
    "failed": (same(response(b"oops", status=500)), "", "oops", "upstream_error"),
    "wrong key": (same(response(b"{}", status=401)), "", "status 401", "upstream_error"),
    "early": (same(stream(IN_STREAM)), "", "out of memory", "upstream_error"),
    "late": (same(stream(TOKEN, IN_STREAM)), "Hi", "out of memory", "upstream_error"),
    "silent before": (says_nothing, "", "context deadline exceeded: ", "timeout_headers"),
    "silent after": (falls_silent, "Hi", "context deadline exceeded: ", "timeout_idle"),
    "empty": (same(stream(b"")), "", "", "truncated"),
    "truncated": (same(stream(TOKEN)), "Hi", "", "truncated"),
    "broken": (hangs_up, "Hi", "broke off", "truncated"),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failed_stream_ends_in_error_and_done_for_each_version(failure: str) -> None:
    script, text, error, outcome = FAILURES[failure]
    waits = {"timeouts": {"headersSeconds": 0.15, "idleSeconds": 0.15}}
    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, penstock=waits)) as proxy,
    ):
        asked = [listened(proxy, STREAM, version) for version in VERSIONS]
        answers = await asyncio.gather(*asked)
        lines = await proxy.ended(len(VERSIONS))

    for got in answers:
        assert (got.text, got.stop_reason) == (text, "")
        assert got.error is not None
        assert error in got.error
    assert {line.outcome for line in lines} == {outcome}
    assert {line.status for line in lines} == {200}


async def test_an_early_failure_is_these_bytes() -> None:
    async with (
        Upstream(same(response(REFUSED, status=400))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        assert await proxy.ask(at(STREAM, 1), asking()) == (
            200,
            b'event: error\ndata: {"error":"message content cannot be empty"}\n\n'
            b"event: done\ndata: {}\n\n",
        )


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("begun", [True, False])
async def test_a_drain_ends_streams_in_error_and_done(version: int | None, begun: bool) -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(listened(proxy, STREAM, version))
        up = await upstream.accept()
        await up.request()
        if begun:
            await in_reads(up, [TOKEN])
        await proxy.service.drain(0)
        got = await asked

    assert (got.text, got.error) == ("Hi" if begun else "", "the proxy is shutting down")


async def test_a_client_that_goes_frees_the_model_server() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        async with raw_client(proxy.url) as client:
            client.ask(at(STREAM, 2), asking())
            up = await upstream.accept()
            await up.request()
            await in_reads(up, [TOKEN])
            await client.read_until(b"Hi")
        await up.gone()
        (line,) = await proxy.ended()

    assert line.outcome == "client_gone"


@pytest.mark.parametrize("path", [STREAM, CODE])
@pytest.mark.parametrize("streamed", [True, False])
async def test_a_429_is_passed_on_as_one(path: str, streamed: bool) -> None:
    headers = (
        b"Retry-After: 7\r\nX-RateLimit-Limit: 100\r\nX-RateLimit-Remaining: 0\r\n"
        b"Set-Cookie: a=b\r\nServer: x\r\n"
    )
    refused = response(b'{"error":{"message":"slow down"}}', status=429, headers=headers)
    async with (
        Upstream(same(refused)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(at(path, 8), asking(stream=streamed), "X-Request-Id: r")
        got = await client.answer()

    assert (got.status, got.body) == (429, b"slow down\n")
    assert got.headers == {
        "x-request-id": "r",
        "retry-after": "7",
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": "0",
        "content-type": "text/plain; charset=utf-8",
        "x-content-type-options": "nosniff",
        "content-length": "10",
    }


async def test_a_429_inside_a_stream_that_said_nothing_yet_is_one_too() -> None:
    limited = b'data: {"error":{"message":"slow down","code":"rate_limit_exceeded"}}\n\n'
    async with (
        Upstream(same(stream(limited))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        assert await proxy.ask(at(STREAM, 8), asking()) == (429, b"slow down\n")


async def test_a_date_to_retry_after_becomes_seconds() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    refused = response(b"{}", status=429, headers=b"Retry-After: %b\r\n" % date.encode())
    async with (
        Upstream(same(refused)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(STREAM, asking()) as got,
    ):
        assert got.status == 429
        assert 80 < int(got.headers["retry-after"]) <= 90


@pytest.mark.parametrize(
    ("status", "wanted"), [(400, 503), (500, 503), (503, 503), (504, 504), (429, 429)]
)
async def test_a_whole_answers_failure_has_one_of_three_statuses(status: int, wanted: int) -> None:
    async with (
        Upstream(same(response(b"no luck", status=status))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        got, body = await proxy.ask(CODE, asking())

    assert got == wanted
    assert body.endswith(b"no luck\n")


LIMITS: list[tuple[dict[str, float], str, str]] = [
    ({}, "10", "1"),  # ten milliseconds is less than the least
    ({"clientMinSeconds": 0.05}, "120", "0.12"),
    ({"clientMinSeconds": 0.15}, "10", "0.15"),
    ({"clientMinSeconds": 0.15}, "-1", "0.15"),
    ({"totalSeconds": 0.15}, "10", "0.15"),  # of two limits that exclude each other, the hard one
    *(
        ({"totalSeconds": 0.15}, absurd, "0.15")
        for absurd in ("86400000", "999999999999", "", "1.5", "x", "-")
    ),
]


@pytest.mark.parametrize("path", [STREAM, CODE])
@pytest.mark.parametrize(("configured", "asked", "seconds"), LIMITS)
async def test_the_clients_own_limit_counts_within_the_configured_range(
    path: str, configured: dict[str, float], asked: str, seconds: str
) -> None:
    async with (
        Upstream(says_nothing) as upstream,
        penstock(config_for(upstream.url, penstock={"timeouts": configured})) as proxy,
        proxy.post(path, asking(stream=True), headers={"X-Timeout-Ms": asked}) as got,
    ):
        answer = heard(await got.read(), None)

    assert answer.error == (
        f"context deadline exceeded: timed out after {seconds} s waiting for the whole answer"
    )


# What is checked before anything is sent


async def refused(path: str, body: object, **kwargs: Any) -> tuple[int, str, str]:
    """Status, content type and body of an answer, in front of a server that must not be asked."""
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(path, body, **kwargs) as got,
    ):
        assert upstream.connections == 0
        return got.status, got.headers["content-type"], await got.text()


TEXT = "text/plain; charset=utf-8"


@pytest.mark.parametrize("path", [STREAM, CODE])
async def test_the_checks_come_in_this_order(path: str) -> None:
    feature = "chat" if path == STREAM else "code completion"
    unknown = f'unsupported {feature} model "nope" (default "{MODEL}")\n'

    version = "Unsupported API Version (Please update your client)\n"
    for odd in ("0", "10", "-1", "1.0", "x", "01"):
        assert await refused(at(path, odd), b"bogus") == (406, TEXT, version)
    body = "could not decode request body\n"
    for bogus in (b"bogus", b"", b'{"model":"nope"', b'{"model":5}'):
        assert await refused(path, bogus) == (400, TEXT, body)
    assert await refused(path, {"model": "nope", "messages": 5}) == (400, TEXT, unknown)
    assert await refused(path, {"messages": []}) == (400, TEXT, "found zero messages in prompt\n")


async def test_only_post_is_allowed() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.get(STREAM) as got,
    ):
        assert (got.status, await got.text()) == (405, "Method Not Allowed\n")
        assert (got.headers["allow"], got.headers["content-type"]) == ("POST", TEXT)


async def test_an_empty_version_is_none() -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        _, body = await proxy.ask(STREAM + "?api-version=", asking())

    assert heard(body, None).text == "Hi"


async def test_a_large_body_is_refused_in_text() -> None:
    limits = {"limits": {"maxBodyBytes": 1024}}
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
    ):
        status, body = await proxy.ask(STREAM, asking("x" * 2000))

    assert (status, body) == (413, b"the request's body is larger than 1024 bytes\n")


def two_models(url: str) -> dict[str, Any]:
    """A chat model, an autocomplete model with a slash in its name, a fast one."""
    config = config_for(url)
    block = config["modelConfiguration"]
    block["modelOverrides"] = [
        {"modelRef": "lab::v1::talks", "capabilities": ["chat"], "category": "accuracy"},
        {
            "modelRef": "lab::v1::accounts/x/fills",
            "capabilities": ["autocomplete"],
            "category": "speed",
        },
        {"modelRef": "lab::v1::fast", "capabilities": ["chat"], "category": "speed"},
    ]
    block["defaultModels"] = {
        "chat": "lab::v1::talks",
        "fastChat": "lab::v1::fast",
        "codeCompletion": "lab::v1::accounts/x/fills",
    }
    return config


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [
        (STREAM, {}, "talks"),
        (STREAM, {"model": "lab/talks"}, "talks"),
        (STREAM, {"model": "fast"}, "fast"),
        (STREAM, {"model": "lab::v1::talks", "fast": True}, "fast"),
        (STREAM, {"model": "no such model", "fast": True}, "fast"),
        (CODE, {}, "accounts/x/fills"),
        (CODE, {"fast": True}, "accounts/x/fills"),
        (CODE, {"model": "lab/accounts/x/fills"}, "accounts/x/fills"),
    ],
)
async def test_the_model_that_is_meant_is_asked(path: str, body: dict[str, Any], name: str) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(two_models(upstream.url)) as proxy,
    ):
        await proxy.ask(path, asking(stream=True, **body))

    assert msgspec.json.decode(upstream.requests[0].body)["model"] == name


async def test_a_model_for_other_work_is_refused() -> None:
    async with Upstream() as upstream, penstock(two_models(upstream.url)) as proxy:
        talks = await proxy.ask(CODE, asking(model="talks"))
        fills = await proxy.ask(STREAM, asking(model="lab/accounts/x/fills"))
        fast = await proxy.ask(CODE, asking(model="fast"))  # the default of other work

        assert talks == (
            400,
            b'the model "lab::v1::talks" cannot do this: its capabilities are chat\n',
        )
        assert (fills[0], fast[0]) == (400, 400)
        assert upstream.connections == 0


# What the model server is asked


async def test_a_chat_is_asked_for_as_it_was_said() -> None:
    content = [
        {"type": "text", "text": "what is this?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]
    messages = [
        {"speaker": "system", "text": "Be brief."},
        {"speaker": "human", "content": content},
        {"speaker": "assistant"},
    ]
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        await listened(proxy, STREAM, 7, messages=messages, temperature=0, logprobs=2)

    assert msgspec.json.decode(upstream.requests[0].body) == {
        "model": "model",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": content},
        ],
        "max_tokens": 100,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_code_is_asked_for_as_raw_text() -> None:
    async with (
        Upstream(same(response(b'{"choices":[{"index":0,"text":"x"}]}'))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        answer = await proxy.ask(CODE, asking("def f(", stopSequences=["\n"], temperature=0.2))

    assert answer == (200, b'{"completion":"x","stopReason":"stop_sequence"}')
    (request,) = upstream.requests
    assert request.target == "/v1/completions"
    assert msgspec.json.decode(request.body) == {
        "model": "model",
        "prompt": "def f(",
        "max_tokens": 100,
        "temperature": 0.2,
        "stop": ["\n"],
    }


KNOBS = {
    "stopSequences": ["<end>"],
    "chatTemperature": 0.0,
    "chatTopK": 40,
    "chatTopP": 0.5,
    "chatMaxTokens": 11,
    "autoCompleteTemperature": 0.25,
    "autoCompleteTopK": 0,
    "autoCompleteSinglelineMaxTokens": 12,
    "autoCompleteMultilineMaxTokens": 13,
    "contextSizeHintTotalCharacters": 5000,
}


def with_knobs(url: str, knobs: object = KNOBS) -> dict[str, Any]:
    """A model with these knobs."""
    config = config_for(url)
    (model,) = config["modelConfiguration"]["modelOverrides"]
    model["clientSideConfig"] = {"openaicompatible": knobs}
    return config


async def asked_of(config: dict[str, Any], upstream: Upstream, path: str, body: object) -> Any:
    """What the model server gets."""
    async with penstock(config) as proxy:
        await proxy.ask(path, body)
    return msgspec.json.decode(upstream.requests[-1].body)


async def test_knobs_are_the_defaults_of_requests() -> None:
    silent = {"messages": [{"speaker": "human", "text": "hi"}], "stream": True}
    loud = {**silent, "temperature": 0.9, "maxTokensToSample": 5, "stopSequences": ["x"]}
    async with Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream:
        config = with_knobs(upstream.url)
        chat = await asked_of(config, upstream, STREAM, silent)
        code = await asked_of(config, upstream, CODE, silent)
        own = await asked_of(config, upstream, STREAM, loud)
        none = await asked_of(with_knobs(upstream.url, {}), upstream, STREAM, silent)

    names = ("max_tokens", "temperature", "top_k", "top_p", "stop")
    assert [chat.get(name) for name in names] == [11, 0, 40, 0.5, ["<end>"]]
    assert [code.get(name) for name in names] == [13, 0.25, None, None, ["<end>"]]
    assert [own.get(name) for name in names] == [5, 0.9, 40, 0.5, ["x"]]
    assert [none.get(name) for name in names] == [None] * 5


async def test_how_long_a_model_thinks_is_asked_for_where_the_request_is_silent() -> None:
    async with Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream:
        config = config_for(upstream.url)
        silent = await asked_of(config, upstream, STREAM, asking())
        config["modelConfiguration"]["modelOverrides"][0]["reasoningEffort"] = "high"
        chat = await asked_of(config, upstream, STREAM, asking())
        code = await asked_of(config, upstream, CODE, asking(stream=True))
        api = await asked_of(config, upstream, LLM, llm(stream=True))
    registry = build(msgspec.json.encode(config), 1, LiveState())
    own = ChatRequest("", (), reasoning=Reasoning(effort="low"))

    efforts = [each.get("reasoning_effort") for each in (silent, chat, code, api)]
    assert efforts == [None, "high", None, "high"]
    assert with_effort(own, registry.models[MODEL]) is own


async def test_the_system_pre_instruction_comes_before_every_chat() -> None:
    async with Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream:
        config = config_for(upstream.url)
        config["modelConfiguration"]["systemPreInstruction"] = "Answer in Latin."
        system = {"speaker": "system", "text": "Be brief."}
        human = {"speaker": "human", "text": "hi"}
        alone = await asked_of(config, upstream, STREAM, {"messages": [human]})
        both = await asked_of(config, upstream, STREAM, {"messages": [system, human]})
        code = await asked_of(config, upstream, CODE, {"messages": [human], "stream": True})
        api = await asked_of(config, upstream, LLM, llm(stream=True))

    assert alone["messages"][0] == {"role": "system", "content": "Answer in Latin."}
    assert both["messages"][0]["content"] == "Answer in Latin.\n\nBe brief."
    assert code["prompt"] == "hi"
    assert api["messages"] == [alone["messages"][0], {"role": "user", "content": "hi"}]


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_the_system_pre_instruction_is_that_of_the_openai_style_api_too(role: str) -> None:
    messages = [{"role": role, "content": "Be brief."}, {"role": "user", "content": "hi"}]
    async with Upstream(same(response(b'{"choices":[{"message":{"content":"ok"}}]}'))) as upstream:
        config = config_for(upstream.url)
        config["modelConfiguration"]["systemPreInstruction"] = "Answer in Latin."
        asked = await asked_of(config, upstream, LLM, {"model": MODEL, "messages": messages})

    assert asked["messages"][0]["content"] == "Answer in Latin.\n\nBe brief."
    assert len(asked["messages"]) == 2


@pytest.mark.parametrize(
    ("kind", "rewrites", "roles"),
    [
        ("anthropic", True, ["system", "user"]),
        ("anthropic", False, ["user", "assistant", "user"]),
        ("fireworks", True, ["user", "assistant", "user"]),
    ],
)
def test_only_old_clients_of_anthropics_models_have_their_conversations_rewritten(
    kind: str, rewrites: bool, roles: list[str]
) -> None:
    config = config_for("http://h.example")
    server = {"type": kind, "accessToken": "x", "endpoint": "http://h.example/v1/messages"}
    config["modelConfiguration"]["providerOverrides"][0]["serverSideConfig"] = server
    registry = build(msgspec.json.encode(config), 1, LiveState())
    turns = ("You are Cody, an AI", "I am Cody", "hi")
    given = tuple(
        Message("assistant" if at == 1 else "user", (TextPart(text),))
        for at, text in enumerate(turns)
    )

    request = complete(registry, ChatRequest("", given), registry.models[MODEL], rewrites=rewrites)

    assert isinstance(request, ChatRequest)
    assert [message.role for message in request.messages] == roles


async def test_logprobs_are_fireworks_own() -> None:
    answer = (
        b'{"choices":[{"index":0,"text":"x","finish_reason":"stop",'
        b'"logprobs":{"tokens":["x"],"token_logprobs":[-0.5]}}]}'
    )
    async with Upstream(same(response(answer))) as upstream:
        config = config_for(upstream.url)
        server = {"type": "fireworks", "accessToken": "x", "endpoint": f"{upstream.url}/v1"}
        config["modelConfiguration"]["providerOverrides"][0]["serverSideConfig"] = server
        async with penstock(config) as proxy:
            _, body = await proxy.ask(CODE, asking(logprobs=3))

    assert msgspec.json.decode(upstream.requests[0].body)["logprobs"] == 3
    assert msgspec.json.decode(body)["logprobs"] == {"tokens": ["x"], "token_logprobs": [-0.5]}


# What clients are told of the models


async def test_supported_models_are_told_without_server_sides() -> None:
    config = with_knobs("http://h.example/v1", {"chatTemperature": 0, "endOfText": "<e>"})
    (model,) = config["modelConfiguration"]["modelOverrides"]
    model |= {
        "displayName": "The Model",
        "modelName": "public-name",
        "status": "stable",
        "contextWindow": {"maxInputTokens": 8192, "maxOutputTokens": 4096},
        "serverSideConfig": {"type": "openaicompatible", "apiModel": "hidden"},
    }
    async with penstock(config) as proxy:
        answers = []
        for path in ("/.api/modelconfig/supported-models.json", "/.api/llm/supported-models.json"):
            async with proxy.get(path) as got:
                assert got.headers["content-type"] == "application/json"
                answers.append(await got.text())

    text, same_text = answers
    assert text == same_text
    assert text.startswith('{\n    "providers": [\n')
    assert text.endswith("}\n")
    assert msgspec.json.decode(text) == {
        "schemaVersion": "1.0",
        "revision": "-",
        "providers": [{"id": "lab", "displayName": 'Provider "lab"'}],
        "models": [
            {
                "modelRef": MODEL,
                "displayName": "The Model",
                "modelName": "public-name",
                "capabilities": ["chat", "autocomplete"],
                "category": "balanced",
                "status": "stable",
                "tier": "enterprise",
                "contextWindow": {"maxInputTokens": 8192, "maxOutputTokens": 4096},
                "clientSideConfig": {
                    "openAICompatible": {"chatTemperature": 0, "endOfText": "<e>"}
                },
            }
        ],
        "defaultModels": {"chat": MODEL, "fastChat": MODEL, "codeCompletion": MODEL},
    }


async def test_costs_and_the_window_of_the_user_are_told() -> None:
    config = config_for("http://h.example/v1")
    (model,) = config["modelConfiguration"]["modelOverrides"]
    model["contextWindow"] = {"maxInputTokens": 9, "maxOutputTokens": 8, "maxUserInputTokens": 7}
    cost = {"unit": "mtok", "inputTokenPennies": 1.5, "outputTokenPennies": 0}
    model["modelCost"] = cost
    async with (
        penstock(config) as proxy,
        proxy.get("/.api/modelconfig/supported-models.json") as got,
    ):
        (told,) = msgspec.json.decode(await got.read())["models"]

    assert (told["contextWindow"], told["estimatedModelCost"]) == (model["contextWindow"], cost)


KEYS = {
    "clients": [
        {"name": "all", "key": "key-of-all"},
        {"name": "some", "key": "key-of-some", "models": ["lab::v1::fast"]},
    ]
}


async def test_a_client_is_told_of_the_models_that_it_may_use() -> None:
    config = two_models("http://h.example/v1")
    config["modelConfiguration"]["providerOverrides"].append(
        provider("http://i.example/v1", name="other")
    )
    config["penstock"] = {**config["penstock"], **KEYS}
    async with penstock(config) as proxy:
        told = {}
        for key in ("key-of-all", "key-of-some"):
            headers = {"Authorization": f"token {key}"}
            async with proxy.get("/.api/llm/supported-models.json", headers=headers) as got:
                told[key] = msgspec.json.decode(await got.read())
            async with proxy.get("/.api/llm/models/lab::v1::talks", headers=headers) as got:
                assert got.status == (200 if key == "key-of-all" else 404)

    assert len(told["key-of-all"]["models"]) == 3
    assert [each["id"] for each in told["key-of-all"]["providers"]] == ["lab", "other"]
    some = told["key-of-some"]
    assert [each["modelRef"] for each in some["models"]] == ["lab::v1::fast"]
    assert [each["id"] for each in some["providers"]] == ["lab"]
    assert some["defaultModels"] == {"chat": "", "fastChat": "lab::v1::fast", "codeCompletion": ""}


async def test_anonymous_clients_are_refused_where_there_are_keys() -> None:
    config = two_models("http://h.example/v1")
    config["penstock"] = {**config["penstock"], **KEYS}
    async with penstock(config) as proxy:
        for path in ("/.api/modelconfig/supported-models.json", "/.api/client-config"):
            async with proxy.get(path) as got:
                assert (got.status, await got.text()) == (401, "Unauthorized\n")
                assert got.headers["content-type"] == TEXT
        for path in (at(STREAM, 0), CODE):
            assert await proxy.ask(path, asking()) == (401, b"Unauthorized\n")
        async with proxy.get("/.api/llm/models") as got:
            assert (got.status, got.headers["content-type"]) == (401, "application/json")
        headers = {"Authorization": "token key-of-some"}
        status, body = await proxy.ask(STREAM, asking(model="talks"), headers=headers)
        assert (status, body) == (403, b'this key may not use the model "talks"\n')


async def test_feature_switches() -> None:
    config = config_for("http://h.example/v1")
    config["modelConfiguration"]["modelOverrides"][0]["capabilities"] = ["chat"]
    config["modelConfiguration"]["defaultModels"] = {}
    async with penstock(config) as proxy, proxy.get("/.api/client-config") as got:
        assert got.headers["content-type"] == "application/json"
        assert msgspec.json.decode(await got.read()) == {
            "codyEnabled": True,
            "chatEnabled": True,
            "autoCompleteEnabled": False,
            "customCommandsEnabled": True,
            "attributionEnabled": False,
            "attribution": "none",
            "smartContextWindowEnabled": True,
            "modelsAPIEnabled": True,
            "latestSupportedCompletionsStreamAPIVersion": 9,
            "userShouldUseEnterprise": False,
        }


async def test_a_completions_block_has_no_models_api() -> None:
    block = {
        "enabled": True,
        "provider": "openai",
        "accessToken": "x",
        "endpoint": "http://h.example",
        "chatModel": "gpt-4",
        "fastChatModel": "gpt-4",
        "completionModel": "gpt-4",
        "smartContextWindow": "disabled",
    }
    async with (
        penstock({"completions": block, "cody.enabled": True}) as proxy,
        proxy.get("/.api/client-config") as got,
    ):
        told = msgspec.json.decode(await got.read())

    assert (told["modelsAPIEnabled"], told["smartContextWindowEnabled"]) == (False, False)
    assert told["latestSupportedCompletionsStreamAPIVersion"] == 9


async def test_clients_that_are_to_do_without_client_config_learn_nothing_new_from_it() -> None:
    block = {
        "provider": "openai",
        "accessToken": "x",
        "endpoint": "http://h.example",
        "disableClientConfigAPI": True,
    }
    async with (
        penstock({"completions": block, "cody.enabled": True}) as proxy,
        proxy.get("/.api/client-config") as got,
    ):
        told = msgspec.json.decode(await got.read())

    assert got.status == 200
    assert told == {
        "codyEnabled": True,
        "chatEnabled": True,
        "autoCompleteEnabled": True,
        "customCommandsEnabled": True,
        "attributionEnabled": False,
        "attribution": "none",
        "smartContextWindowEnabled": True,
        "modelsAPIEnabled": False,
        "userShouldUseEnterprise": False,
    }


# The OpenAI-style API


async def test_models_are_listed_and_found_with_slashes_too() -> None:
    async with penstock(two_models("http://h.example/v1")) as proxy:
        async with proxy.get("/.api/llm/models") as got:
            listed = msgspec.json.decode(await got.read())
        async with proxy.get("/.api/llm/models/lab::v1::accounts/x/fills") as got:
            one = msgspec.json.decode(await got.read())
        async with proxy.get("/.api/llm/models/nope") as got:
            missing = (got.status, msgspec.json.decode(await got.read())["error"]["message"])

    refs = ["lab::v1::talks", "lab::v1::accounts/x/fills", "lab::v1::fast"]
    assert (listed["object"], [each["id"] for each in listed["data"]]) == ("list", refs)
    assert one == listed["data"][1]
    assert (one["object"], one["owned_by"]) == ("model", "lab")
    assert missing == (404, "Model not found")


def llm(model: str = MODEL, **members: Any) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **members}


async def test_chat_completions_name_the_model_as_it_was_asked_for() -> None:
    body = (
        b'{"id":"x","model":"hidden","choices":[{"index":0,"message":{"role":"assistant",'
        b'"content":"Hi"},"finish_reason":"end_turn"}],"usage":{"prompt_tokens":3,'
        b'"completion_tokens":1}}'
    )
    async with (
        Upstream(same(response(body))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        status, answer = await proxy.ask(LLM, llm(max_tokens=5))

    told = msgspec.json.decode(answer)
    assert (status, told["model"], told["object"]) == (200, MODEL, "chat.completion")
    assert told["choices"][0]["message"] == {"role": "assistant", "content": "Hi"}
    assert told["choices"][0]["finish_reason"] == "stop"
    assert told["usage"]["total_tokens"] == 4
    assert msgspec.json.decode(upstream.requests[0].body)["model"] == "model"


async def test_chat_completions_stream_with_tools_and_usage() -> None:
    async with (
        Upstream(same(stream(CALLS + USAGE + DONE))) as upstream,
        penstock(with_knobs(upstream.url)) as proxy,
    ):
        options: dict[str, Any] = {
            "stream": True,
            "stream_options": {"include_usage": True},
            "tools": TOOLS,
        }
        async with proxy.post(LLM, llm(**options)) as got:
            body = await got.read()

    assert body.endswith(b"data: [DONE]\n\n")
    assert b'"total_tokens":4' in body
    assert b'"name":"grep"' in body
    asked = msgspec.json.decode(upstream.requests[0].body)
    assert (asked["tools"], asked["max_tokens"]) == (TOOLS, 11)


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ("", "modelRef is blank"),
        ("lab/model", "modelRef syntax error"),
        ("la b::v1::m", "invalid ProviderID"),
    ],
)
async def test_chat_completions_want_a_full_reference(model: str, problem: str) -> None:
    status, kind, text = await refused(LLM, llm(model))

    error = msgspec.json.decode(text)["error"]
    assert (status, kind, error["code"]) == (400, "application/json", "model_not_found")
    assert error["message"] == (
        f"requested model '{model}' failed validation: {problem}. Expected format"
        " '${ProviderID}::${APIVersionID}::${ModelID}'. To fix this problem, send a request to"
        " `GET /.api/llm/models` to see the list of supported models."
    )


async def test_chat_completions_keep_statuses() -> None:
    status, _, text = await refused(LLM, llm("lab::v1::nope"))
    assert (status, "unsupported chat model" in text) == (400, True)
    assert (await refused(LLM, b"bogus"))[0] == 400
    async with (
        Upstream(same(response(b"{}", status=429, headers=b"Retry-After: 3\r\n"))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(LLM, llm(stream=True)) as got,
    ):
        assert (got.status, got.headers["retry-after"]) == (429, "3")
        assert "error" in msgspec.json.decode(await got.read())


async def test_an_unknown_route_is_told_in_the_surfaces_own_form() -> None:
    async with penstock(config_for("http://h.example/v1")) as proxy:
        async with proxy.get("/.api/graphql") as got:
            assert (got.status, got.headers["content-type"]) == (404, TEXT)
        async with proxy.get("/.api/llm/nope") as got:
            assert (got.status, got.headers["content-type"]) == (404, "application/json")
        async with proxy.get(LLM) as got:
            assert (got.status, got.headers["content-type"]) == (405, "application/json")
