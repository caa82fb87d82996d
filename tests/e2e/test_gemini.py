"""Gemini, and Claude on Vertex, through penstock; Google's own client vouches for the server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from google import genai
from google.genai import errors as google_errors
from google.genai.types import GenerateContentResponse, HttpOptions

from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import Failed
from tests.e2e.gemini_server import API_KEY, HELLO, SUBJECT, Answer, GeminiServer, say
from tests.e2e.program import serving
from tests.fixture_streams import Case, cases, fold, replay
from tests.harness import MODEL, Proxy, chat, config_for, penstock

NAME = "gemini-3-pro-preview"
CASES = {case.name.removeprefix("gemini-"): case for case in cases("gemini")}
STREAMED = [case for case in CASES.values() if case.streamed]
PATH = "/v1/chat/completions"


def config_of(endpoint: str, *, name: str = NAME, **settings: object) -> dict[str, Any]:
    """One model of Google's at this address, by default with the right API key."""
    config = config_for(endpoint)
    server = {"type": "google", "endpoint": endpoint, "accessToken": API_KEY, **settings}
    server = {key: value for key, value in server.items() if value is not None}
    block = config["modelConfiguration"]
    block["providerOverrides"] = [{"id": "lab", "serverSideConfig": server}]
    block["modelOverrides"][0]["modelName"] = name
    return config


def in_base64(google: GeminiServer) -> str:
    return base64.b64encode(msgspec.json.encode(google.account)).decode()


def text_of(stream: bytes) -> str:
    """What an OpenAI client reads; fails the test on an error in it."""
    outcome = fold(replay(OPENAI_CHAT, [stream]))
    assert outcome.fault is None
    return outcome.text


# Google's own client and the server agree


@contextmanager
def own_client(google: GeminiServer, key: str = API_KEY) -> Iterator[genai.Client]:
    client = genai.Client(api_key=key, http_options=HttpOptions(base_url=google.url))
    try:
        yield client
    finally:
        client.close()


async def read_by_own_client(
    google: GeminiServer, key: str = API_KEY
) -> list[GenerateContentResponse]:
    def ask() -> list[GenerateContentResponse]:
        with own_client(google, key) as client:
            return list(client.models.generate_content_stream(model=NAME, contents="hi"))

    return await asyncio.to_thread(ask)


async def test_googles_client_reads_the_servers_stream() -> None:
    async with GeminiServer() as google:
        chunks = await read_by_own_client(google)

    assert [each.text for each in chunks] == ["Hello", " there"]
    assert [(call.model, call.method) for call in google.calls] == [(NAME, "streamGenerateContent")]


async def test_googles_client_reads_the_servers_whole_answer() -> None:
    async with GeminiServer() as google:

        def ask() -> str | None:
            with own_client(google) as client:
                return client.models.generate_content(model=NAME, contents="hi").text

        assert await asyncio.to_thread(ask) == " there"


@pytest.mark.parametrize("name", ["basic", "thinking", "tool-calls-parallel", "prompt-blocked"])
async def test_googles_client_reads_a_recording(name: str) -> None:
    case = CASES[name]
    async with GeminiServer(Answer(raw=case.body)) as google:
        chunks = await read_by_own_client(google)

    candidates = [each for chunk in chunks for each in chunk.candidates or ()]
    parts = [part for each in candidates if each.content for part in each.content.parts or ()]
    expect = case.expect
    assert "".join(part.text or "" for part in parts if not part.thought) == expect.text
    assert "".join(part.text or "" for part in parts if part.thought) == expect.reasoning
    calls = [part.function_call.name for part in parts if part.function_call]
    assert calls == [call.name for call in expect.tool_calls]


async def test_googles_client_raises_what_the_server_sends_as_bare_lines() -> None:
    async with GeminiServer(Answer(raw=CASES["error-tail-raw-json"].body)) as google:
        with pytest.raises(google_errors.ServerError, match="The model is overloaded"):
            await read_by_own_client(google)


async def test_the_server_refuses_who_has_not_the_key() -> None:
    async with GeminiServer() as google:
        with pytest.raises(google_errors.ClientError, match="UNAUTHENTICATED"):
            await read_by_own_client(google, "another")

    assert google.calls == []


# The Gemini API


async def test_a_stream_is_asked_for_and_translated() -> None:
    async with (
        GeminiServer() as google,
        penstock(config_of(f"{google.url}/v1beta/models")) as proxy,
    ):
        status, body = await proxy.ask(PATH, chat(max_tokens=9))
        (line,) = await proxy.ended()

    assert (status, text_of(body)) == (200, "Hello there")
    assert body.endswith(b"data: [DONE]\n\n")
    (call,) = google.calls
    assert (call.model, call.method, call.key) == (NAME, "streamGenerateContent", API_KEY)
    assert call.body == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "generationConfig": {"maxOutputTokens": 9},
    }
    assert (line.outcome, line.input_tokens, line.output_tokens) == ("complete", 3, 2)


@pytest.mark.parametrize("path", ["", "/v1beta", "/v1beta/", "/v1beta/models"])
async def test_the_address_need_not_say_all_of_the_path(path: str) -> None:
    async with GeminiServer() as google, penstock(config_of(google.url + path)) as proxy:
        status, _ = await proxy.ask(PATH, chat())

    assert status == 200


async def test_a_whole_answer_is_translated() -> None:
    async with (
        GeminiServer(Answer([say("Hello there", "MAX_TOKENS")])) as google,
        penstock(config_of(google.url)) as proxy,
    ):
        status, body = await proxy.ask(PATH, chat(stream=False))

    answer = msgspec.json.decode(body)
    assert status == 200
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Hello there"}
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["usage"]["total_tokens"] == 5
    assert google.calls[0].method == "generateContent"


async def test_a_completion_is_one_message() -> None:
    async with GeminiServer() as google, penstock(config_of(google.url)) as proxy:
        asked = {"model": "model", "prompt": "def f(", "stream": True}
        status, body = await proxy.ask("/v1/completions", asked)

    assert status == 200
    assert b'"text":" there"' in body
    assert google.calls[0].body["contents"] == [{"role": "user", "parts": [{"text": "def f("}]}]


async def test_everything_that_can_be_asked_has_a_shape_that_google_knows() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    asked = {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "be short"},
            {"role": "user", "content": [{"type": "text", "text": "what?"}, picture]},
        ],
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}},
        "reasoning_effort": "low",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 5,
        "max_tokens": 9,
        "seed": 1,
        "n": 1,
        "stop": ["x"],
        "presence_penalty": 0.1,
        "frequency_penalty": 0.1,
        "user": "u",
    }
    async with GeminiServer() as google, penstock(config_of(google.url)) as proxy:
        status, body = await proxy.ask(PATH, asked)

    assert status == 200, body
    assert google.calls[0].body.keys() == {
        *("contents", "systemInstruction", "tools", "toolConfig", "generationConfig"),
    }


@pytest.mark.parametrize("case", STREAMED, ids=lambda case: case.name)
async def test_a_recording_arrives_translated_or_says_that_it_is_broken(case: Case) -> None:
    asked = chat(stream_options={"include_usage": True})
    async with (
        GeminiServer(Answer(raw=case.body)) as google,
        penstock(config_of(google.url)) as proxy,
    ):
        status, body = await proxy.ask(PATH, asked)

    assert status == 200
    found, expect = fold(replay(OPENAI_CHAT, [body])), case.expect
    assert (found.text, found.reasoning) == (expect.text, expect.reasoning)
    assert found.finish_reason == expect.finish_reason
    assert [(call.name, call.arguments) for call in found.tool_calls] == [
        (call.name, call.arguments) for call in expect.tool_calls
    ]
    if expect.error is not None:
        assert found.fault is not None
        assert found.fault.message == expect.error.message
        assert b"[DONE]" not in body
    else:
        assert found.usage == expect.usage


async def test_a_recorded_refusal_is_told_as_such() -> None:
    case = CASES["error-before-array"]
    async with (
        GeminiServer(Answer(raw=case.body, status=400)) as google,
        penstock(config_of(google.url)) as proxy,
    ):
        status, body = await proxy.ask(PATH, chat())

    assert status == 400
    assert b"Function call is missing a thought_signature" in body
    assert b"INVALID_ARGUMENT" in body


async def test_a_server_that_is_busy_says_when_to_come_back() -> None:
    details = b'[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34.07s"}]'
    error = b'{"code":429,"message":"Quota.","status":"RESOURCE_EXHAUSTED","details":%b}' % details
    async with (
        GeminiServer(Answer(raw=b'{"error":%b}' % error, status=429)) as google,
        penstock(config_of(google.url)) as proxy,
        proxy.post(PATH, chat()) as response,
    ):
        assert (response.status, response.headers["retry-after"]) == (429, "35")


async def test_an_answer_that_breaks_off_is_no_success() -> None:
    async with (
        GeminiServer(Answer(HELLO[:1])) as google,
        penstock(config_of(google.url)) as proxy,
    ):
        status, body = await proxy.ask(PATH, chat())
        (line,) = await proxy.ended()

    last = replay(OPENAI_CHAT, [body])[-1]
    assert status == 200
    assert isinstance(last, Failed)
    assert last.fault.code == "truncated"
    assert line.outcome == "truncated"


async def test_a_wrong_key_is_our_fault_and_is_not_shown() -> None:
    wrong = "AIzaSy" + "x" * 33
    async with (
        GeminiServer() as google,
        penstock(config_of(google.url, accessToken=wrong)) as proxy,
    ):
        status, body = await proxy.ask(PATH, chat())
        metrics = await proxy.metrics()

    assert status == 502
    assert b"Invalid credentials" in body
    assert wrong not in body.decode() + metrics


# An OpenAI client's two turns

TOOL: Any = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


async def asked_by_openai(proxy: Proxy, messages: Any) -> Any:
    url = f"{proxy.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    return answer.choices[0]


async def two_turns(*, keep: bool) -> list[Any]:
    """The parts of the model's turn as they come back to Google."""
    call = CASES["tool-calls-parallel"].body.removeprefix(b"data: ").partition(b"\r\n")[0]
    call = call.replace(b'"index":0', b'"finishReason":"STOP","index":0')
    async with (
        GeminiServer(Answer([call]), Answer([say("3 degrees", "STOP")])) as google,
        penstock(config_of(google.url)) as proxy,
    ):
        asked: list[Any] = [{"role": "user", "content": "weather in Oslo?"}]
        first = await asked_by_openai(proxy, asked)
        assert first.finish_reason == "tool_calls"
        said = first.message.model_dump(exclude_none=True)
        results = []
        for each in said["tool_calls"]:
            results.append({"role": "tool", "tool_call_id": each["id"], "content": '{"c":3}'})
            if not keep:
                each.pop("extra_content", None)
        second = await asked_by_openai(proxy, [*asked, said, *reversed(results)])
        assert second.message.content == "3 degrees"

    _, turn, results_turn = google.calls[1].body["contents"]
    assert results_turn["parts"] == [
        {"functionResponse": {"name": "weather", "response": {"c": 3}}},
        {"functionResponse": {"name": "list_all", "response": {"c": 3}}},
    ]
    parts: list[Any] = turn["parts"]
    return parts


async def test_a_client_that_keeps_the_signature_brings_it_back() -> None:
    assert await two_turns(keep=True) == [
        {
            "functionCall": {"name": "weather", "args": {"location": "Oslo"}},
            "thoughtSignature": "c2ln",
        },
        {"functionCall": {"name": "list_all", "args": {}}},
    ]


async def test_a_client_that_loses_the_signature_is_helped_out() -> None:
    first, second = await two_turns(keep=False)

    assert first["thoughtSignature"] == "skip_thought_signature_validator"
    assert "thoughtSignature" not in second


# Vertex, with tokens


async def test_a_service_account_has_its_tokens_exchanged_and_kept() -> None:
    async with GeminiServer() as google:
        config = config_of(google.vertex, accessToken=in_base64(google))
        async with penstock(config) as proxy:
            answers = await asyncio.gather(*(proxy.ask(PATH, chat()) for _ in range(5)))

    assert [text_of(body) for _, body in answers] == ["Hello there"] * 5
    assert {(call.publisher, call.model) for call in google.calls} == {("google", NAME)}
    assert {call.key for call in google.calls} == set(google.tokens)
    assert len(google.tokens) == 1


@pytest.mark.parametrize("way", ["file", "base64", "json"])
async def test_a_service_account_may_stand_in_other_places(way: str, tmp_path: Path) -> None:
    async with GeminiServer() as google:
        file = tmp_path / "account.json"
        file.write_bytes(msgspec.json.encode(google.account))
        settings: dict[str, Any] = {
            "file": {"googleWorkloadIdentityConfig": {"credentialsFile": str(file)}},
            "base64": {"googleWorkloadIdentityConfig": {"credentialsJSON": in_base64(google)}},
            "json": {"accessToken": {"file": str(file)}},
        }[way]
        config = config_of(google.vertex, **{"accessToken": None, **settings})
        async with penstock(config) as proxy:
            status, _ = await proxy.ask(PATH, chat())

    assert (status, len(google.tokens)) == (200, 1)


async def test_tokens_outlive_a_reload_that_keeps_the_identity() -> None:
    async with GeminiServer() as google:
        config = config_of(google.vertex, accessToken=in_base64(google))
        async with penstock(config) as proxy:
            await proxy.ask(PATH, chat())
            config["modelConfiguration"]["modelOverrides"][0]["displayName"] = "Another"
            assert await proxy.reload(config) == 200
            status, _ = await proxy.ask(PATH, chat())

    assert status == 200
    assert (len(google.calls), len(google.tokens)) == (2, 1)


async def test_a_federated_identity_exchanges_another_providers_token(tmp_path: Path) -> None:
    subject, file = tmp_path / "token", tmp_path / "identity.json"
    subject.write_text("of nobody")
    async with GeminiServer() as google:
        file.write_bytes(msgspec.json.encode(google.federation(subject)))
        identity = {"credentialsFile": str(file)}
        config = config_of(google.vertex, accessToken=None, googleWorkloadIdentityConfig=identity)
        async with penstock(config) as proxy:
            refused, body = await proxy.ask(PATH, chat())
        subject.write_text(SUBJECT)
        async with penstock(config) as proxy:
            status, _ = await proxy.ask(PATH, chat())

    assert (refused, status, len(google.tokens)) == (502, 200, 1)
    assert b"of nobody" not in body


@pytest.mark.parametrize("model", ["claude-sonnet-4-5@20250929"])
@pytest.mark.parametrize("path", ["", "/publishers/anthropic", "/publishers/anthropic/models"])
async def test_claude_is_called_in_its_own_dialect(model: str, path: str) -> None:
    case = next(case for case in cases("anthropic-messages") if case.name == "anthropic-basic")
    async with GeminiServer(Answer(raw=case.body)) as google:
        config = config_of(google.vertex + path, name=model, accessToken=in_base64(google))
        async with penstock(config) as proxy:
            status, body = await proxy.ask(PATH, chat())

    assert (status, text_of(body)) == (200, case.expect.text)
    (call,) = google.calls
    assert (call.publisher, call.method, call.model) == ("anthropic", "streamRawPredict", model)
    assert call.body["anthropic_version"] == "vertex-2023-10-16"
    assert (call.body["stream"], call.body["max_tokens"]) == (True, 4000)
    assert "model" not in call.body


async def test_an_anthropic_client_of_claude_gets_the_bytes_of_vertex() -> None:
    case = next(case for case in cases("anthropic-messages") if case.name == "anthropic-basic")
    asked = {**chat(), "max_tokens": 9}
    async with GeminiServer(Answer(raw=case.body)) as google:
        config = config_of(google.vertex, name="claude-x", accessToken=in_base64(google))
        async with penstock(config) as proxy:
            beta = {"anthropic-beta": "context-1m-2025-08-07"}
            status, body = await proxy.ask("/v1/messages", asked, headers=beta)
            (line,) = await proxy.ended()

    assert (status, body, line.exact) == (200, case.body, True)
    (call,) = google.calls
    assert call.headers["anthropic-beta"] == "context-1m-2025-08-07"
    assert call.body == {
        "messages": asked["messages"],
        "stream": True,
        "max_tokens": 9,
        "anthropic_version": "vertex-2023-10-16",
    }


# What goes wrong with tokens


async def test_a_token_server_that_refuses_is_our_fault_and_its_words_are_not_shown() -> None:
    async with GeminiServer() as google:
        google.token_status = 401
        config = config_of(google.vertex, accessToken=in_base64(google))
        async with penstock(config) as proxy:
            status, body = await proxy.ask(PATH, chat())
            (line,) = await proxy.ended()

    assert status == 502
    assert msgspec.json.decode(body)["error"]["message"] == (
        "google gives penstock no access token"
    )
    assert b"assertion" not in body
    assert (line.outcome, line.phase, google.calls) == ("upstream_error", "connect", [])


async def test_a_token_that_google_quotes_is_not_shown() -> None:
    async with GeminiServer() as google:
        config = config_of(google.vertex, accessToken=in_base64(google))
        async with penstock(config) as proxy:
            await proxy.ask(PATH, chat())
            quoted = b'{"error":{"code":403,"message":"no: <%b>","status":"PERMISSION_DENIED"}}'
            token = google.tokens[0].encode()
            google.answer(Answer(raw=quoted % token, status=403))
            status, body = await proxy.ask(PATH, chat())
            metrics = await proxy.metrics()

    assert status == 502
    assert b"no: <***>" in body
    assert google.tokens[0] not in metrics


async def test_the_first_token_that_google_quotes_is_not_shown() -> None:
    async with GeminiServer() as google:
        google.distrusts = True
        config = config_of(google.vertex, accessToken=in_base64(google))
        async with penstock(config) as proxy:
            status, body = await proxy.ask(PATH, chat())

    assert status == 502
    assert b"Invalid credentials: ***" in body


async def test_a_machine_of_googles_needs_no_credentials(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    async with GeminiServer() as google:
        # Google's library reads these when it is imported: so the program runs on its own.
        monkeypatch.setenv("GCE_METADATA_HOST", google.url.removeprefix("http://"))
        monkeypatch.setenv("GCE_METADATA_IP", google.url.removeprefix("http://"))
        async with serving(config_of(google.vertex, accessToken=None)) as program:
            url = f"{program.url}/v1"
            async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
                answer = await client.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": "hi"}]
                )
            log = msgspec.json.encode(program.events).decode()

    assert answer.choices[0].message.content == " there"
    assert [call.key for call in google.calls] == google.tokens
    assert not any(token in log for token in google.tokens)
