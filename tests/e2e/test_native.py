"""OpenAI's clients in front of servers that are asked in their own protocols."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from parsers.dialects.base import UpstreamDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from tests.e2e.frames import in_reads
from tests.fixture_streams import Case, cases, fold, replay, ways
from tests.harness import MODEL, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, Conversation, Upstream, response

ASK = {"include_usage": True}
PROMPT: dict[str, object] = {"model": MODEL, "prompt": "a", "stream": True, "stream_options": ASK}
ASKED: dict[str, tuple[str, str, dict[str, object], UpstreamDialect]] = {
    "ollama": ("/v1/chat/completions", "/api/chat", chat(stream_options=ASK), OPENAI_CHAT),
    "sglang": ("/v1/completions", "/generate", PROMPT, OPENAI_COMPLETIONS),
    "llamacpp": ("/v1/completions", "/completion", PROMPT, OPENAI_COMPLETIONS),
}
CASES = cases("ollama-native", "sglang-native", "llamacpp-native")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_recording_arrives_as_what_it_means(case: Case) -> None:
    path, target, asked, dialect = ASKED[case.upstream]
    pieces = dict(ways(case))["bytewise"]

    async def script(up: Conversation) -> None:
        await up.request()
        kind = case.http.headers["content-type"].encode()
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nTransfer-Encoding: chunked\r\n\r\n" % kind
        await in_reads(up, pieces, head)
        up.send(LAST_CHUNK)

    settings = {"dialect": case.upstream}
    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, settings=settings)) as proxy,
    ):
        status, body = await proxy.ask(path, asked)
        (line,) = await proxy.ended()

    outcome, expect = fold(replay(dialect, [body])), case.expect
    assert (upstream.requests[0].target, status, line.exact) == (target, 200, False)
    assert (outcome.text, outcome.reasoning) == (expect.text, expect.reasoning)
    assert [(each.name, each.arguments) for each in outcome.tool_calls] == [
        (each.name, each.arguments) for each in expect.tool_calls
    ]
    assert outcome.finish_reason == expect.finish_reason
    assert (outcome.fault is None) == (expect.error is None)
    assert line.usage == ("reported" if expect.usage else "counted")


OPENAI_IN = b'{"id":"x","choices":[{"message":{"content":"a"},"finish_reason":"stop"}]}'
OLLAMA_IN = b'{"model":"m","message":{"content":"a"},"done":true,"done_reason":"stop"}'
TEXT_IN = b'{"model":"m","response":"a","done":true,"done_reason":"stop"}'


@pytest.mark.parametrize(
    ("settings", "path", "target", "answer"),
    [
        ({"dialect": "ollama"}, "/v1/chat/completions", "/api/chat", OLLAMA_IN),
        ({"dialect": "ollama"}, "/v1/completions", "/api/generate", TEXT_IN),
        (
            {"dialect": "ollama", "useLegacyCompletions": False},
            "/v1/completions",
            "/api/chat",
            OLLAMA_IN,
        ),
        ({"dialect": "sglang"}, "/v1/chat/completions", "/v1/chat/completions", OPENAI_IN),
        (
            {"dialect": "llamacpp", "useLegacyCompletions": False},
            "/v1/completions",
            "/v1/chat/completions",
            OPENAI_IN,
        ),
    ],
)
async def test_whole_answers_come_from_where_the_settings_say(
    settings: dict[str, object], path: str, target: str, answer: bytes
) -> None:
    asked = chat(stream=False) if "chat" in path else {"model": MODEL, "prompt": "hi"}

    async def script(up: Conversation) -> None:
        await up.request()
        up.send(response(answer, headers=b"content-type: application/json\r\n"))

    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, settings=settings)) as proxy,
    ):
        status, body = await proxy.ask(path, asked)

    assert (status, upstream.requests[0].target) == (200, target)
    (choice,) = msgspec.json.decode(body)["choices"]
    assert "a" in (choice.get("text"), choice.get("message", {}).get("content"))


async def test_ollamas_embeddings_are_below_v1() -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        up.send(response(b'{"data":[]}'))

    settings: dict[str, Any] = {"dialect": "ollama"}
    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, settings=settings)) as proxy,
    ):
        status, _ = await proxy.ask("/v1/embeddings", {"model": MODEL, "input": "a"})

    assert (status, upstream.requests[0].target) == (200, "/v1/embeddings")


async def test_an_error_that_ollamas_openai_route_would_hide_is_told() -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        up.send(response(b'{"error":"no room"}', headers=b"content-type: application/x-ndjson\r\n"))

    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, settings={"dialect": "ollama"})) as proxy,
    ):
        status, body = await proxy.ask("/v1/chat/completions", chat())

    assert status == 502
    assert b'"message":"no room"' in body
