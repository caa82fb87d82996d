"""OpenAI clients in front of OpenAI servers that must not be relayed exactly: nothing is lost.

The model has an `apiModel`, so that every request and every answer goes through the hub.
"""

from __future__ import annotations

from typing import Any

import msgspec
import openai
import pytest

from tests.e2e.frames import DONE, same, stream
from tests.harness import MODEL, chat, config_for, penstock
from tests.scripted import Upstream, response

ID = {"X-Request-Id": "r-1"}
ASKED: dict[str, Any] = {
    "max_completion_tokens": 9,
    "temperature": 0.0,
    "top_p": 0.5,
    "stop": ["a", "b"],
    "seed": 7,
    "n": 2,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.25,
    "logprobs": True,
    "top_logprobs": 2,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "f",
                "description": "d",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True},
    },
    "reasoning_effort": "low",
    "user": "u",
}


def hidden(url: str) -> dict[str, Any]:
    config = config_for(url)
    server = {"type": "openai", "endpoint": url}
    block = config["modelConfiguration"]
    block["providerOverrides"] = [{"id": "lab", "serverSideConfig": server}]
    block["modelOverrides"][0]["serverSideConfig"] = {
        "type": "openaicompatible",
        "apiModel": "a-secret-name",
    }
    return config


def frame(choice: str, head: str = '"id":"x","model":"a-secret-name","created":7') -> bytes:
    return b'data: {%b,"choices":[%b]}\n\n' % (head.encode(), choice.encode())


LOGPROB = '{"token":"Hi","logprob":-0.50,"bytes":[72,105],"top_logprobs":[]}'
STREAM = [
    frame('{"index":0,"delta":{"role":"assistant","content":""}}'),
    frame('{"index":1,"delta":{"role":"assistant","content":""}}'),
    frame('{"index":1,"delta":{"content":"Hi"},"logprobs":{"content":[' + LOGPROB + "]}}"),
    frame(
        '{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","type":"function",'
        '"function":{"name":"f","arguments":""}},{"index":1,"id":"b","type":"function",'
        '"function":{"name":"g","arguments":"{"}}]}}'
    ),
    frame('{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}'),
    frame('{"index":0,"delta":{"tool_calls":[{"index":1,"function":{"arguments":"}"}}]}}'),
    frame('{"index":1,"delta":{},"finish_reason":"stop"}'),
    frame('{"index":0,"delta":{},"finish_reason":"tool_calls"}'),
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":4,"total_tokens":9,'
    b'"prompt_tokens_details":{"cached_tokens":2},'
    b'"completion_tokens_details":{"reasoning_tokens":1}}}\n\n',
    DONE,
]


async def test_a_request_keeps_every_field_that_both_sides_can_say() -> None:
    async with (
        Upstream(same(stream(*STREAM))) as upstream,
        penstock(hidden(upstream.url)) as proxy,
    ):
        await proxy.ask("/v1/chat/completions", chat(**ASKED))
        (line,) = await proxy.ended()

    sent = msgspec.json.decode(upstream.requests[0].body)
    assert sent == {
        **chat(**ASKED),
        "model": "a-secret-name",
        "stream_options": {"include_usage": True},
    }
    assert not line.exact


async def test_a_request_keeps_what_only_its_server_has_a_word_for() -> None:
    beside: dict[str, Any] = {"min_p": 0.1, "chat_template_kwargs": {"a": 1}, "made_up": [1.50]}
    async with (
        Upstream(same(stream(*STREAM))) as upstream,
        penstock(hidden(upstream.url)) as proxy,
    ):
        await proxy.ask("/v1/chat/completions", chat(**beside))
        refused, _ = await proxy.ask("/v1/chat/completions", chat(modalities=["audio"]))

    (request,) = upstream.requests
    assert msgspec.json.decode(request.body).items() >= beside.items()
    assert refused == 400  # no word of ours could tell the answer


async def test_an_answer_keeps_choices_logprobs_and_interleaved_calls() -> None:
    async with (
        Upstream(same(stream(*STREAM))) as upstream,
        penstock(hidden(upstream.url)) as proxy,
        openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k", max_retries=0) as client,
        client.chat.completions.stream(
            model=MODEL,
            messages=[{"role": "user", "content": "hi"}],
            n=2,
            stream_options={"include_usage": True},
            extra_headers=ID,
        ) as answer,
    ):
        whole = await answer.get_final_completion()

    first, second = whole.choices
    calls = first.message.tool_calls or []
    assert [(c.id, c.function.name, c.function.arguments) for c in calls] == [
        ("a", "f", "{}"),
        ("b", "g", "{}"),
    ]
    assert (first.finish_reason, second.finish_reason) == ("tool_calls", "stop")
    assert second.message.content == "Hi"
    assert second.logprobs is not None
    assert second.logprobs.content is not None
    assert second.logprobs.content[0].logprob == -0.5
    assert (whole.id, whole.model) == ("r-1", MODEL)
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.prompt_tokens_details.cached_tokens == 2
    assert whole.usage.completion_tokens_details.reasoning_tokens == 1


REFUSAL = (
    b'{"error":{"message":"slow down","type":"tokens","param":null,"code":"rate_limit_exceeded"}}'
)
TOLD = b"data: " + REFUSAL + b"\n\n"


@pytest.mark.parametrize(
    "raw",
    [
        response(REFUSAL, status=429, headers=b"retry-after: 7\r\nx-ratelimit-limit-tokens: 9\r\n"),
        stream(TOLD, DONE),
    ],
)
async def test_a_refusal_keeps_its_status_its_words_and_when_to_come_back(raw: bytes) -> None:
    async with (
        Upstream(same(raw)) as upstream,
        penstock(hidden(upstream.url)) as proxy,
        proxy.post("/v1/chat/completions", chat()) as answer,
    ):
        told = await answer.read()

    assert (answer.status, told) == (429, REFUSAL)
    if b"retry-after" in raw:
        assert answer.headers["retry-after"] == "7"
        assert answer.headers["x-ratelimit-limit-tokens"] == "9"


async def test_a_failure_after_the_first_token_keeps_its_words() -> None:
    token = frame('{"index":0,"delta":{"content":"Hi"}}')
    async with (
        Upstream(same(stream(token, TOLD, DONE))) as upstream,
        penstock(hidden(upstream.url)) as proxy,
    ):
        status, body = await proxy.ask("/v1/chat/completions", chat())

    assert status == 200
    assert body.endswith(TOLD)
    assert b'"content":"Hi"' in body


async def test_hints_for_which_there_is_no_word_are_named_in_log_and_metrics() -> None:
    hints: dict[str, Any] = {"logit_bias": {"1": 2}, "verbosity": "low", "nobody_knows": 1}
    answer = b'{"message":{"content":"a"},"done":true,"done_reason":"stop"}\n'
    async with (
        Upstream(same(stream(answer))) as upstream,
        penstock(config_for(upstream.url, settings={"dialect": "ollama"})) as proxy,
    ):
        status, _ = await proxy.ask("/v1/chat/completions", chat(**hints))
        await proxy.ended()
        metrics = await proxy.metrics()

    assert status == 200
    assert hints.keys().isdisjoint(msgspec.json.decode(upstream.requests[0].body))
    for name in ("logit_bias", "verbosity", "other"):
        labels = f'dialect="openai-chat",field="{name}"'
        assert f"penstock_dropped_fields_total{{{labels}}} 1.0" in metrics


@pytest.mark.parametrize("field", ["audio", "functions", "web_search_options", "guided_regex"])
async def test_terms_for_which_there_is_no_word_are_refused_by_name(field: str) -> None:
    async with penstock(hidden("http://127.0.0.1:9")) as proxy:
        status, body = await proxy.ask("/v1/chat/completions", {**chat(), field: {"a": 1}})

    assert status == 400
    assert f"{field}: not supported for this model".encode() in body


async def test_text_completions_keep_choices_and_logprobs() -> None:
    asked = {
        "model": MODEL,
        "prompt": "hi",
        "max_tokens": 5,
        "n": 2,
        "logprobs": 1,
        "echo": True,
        "suffix": "}",
        "stop": ["a"],
        "user": "u",
    }
    logprobs = {"tokens": ["a"], "token_logprobs": [-0.5], "top_logprobs": [{}], "text_offset": [0]}
    choices = [
        {"index": 0, "text": "a", "logprobs": logprobs, "finish_reason": "stop"},
        {"index": 1, "text": "b", "logprobs": None, "finish_reason": "length"},
    ]
    whole = {"id": "x", "choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    async with (
        Upstream(same(response(msgspec.json.encode(whole)))) as upstream,
        penstock(hidden(upstream.url)) as proxy,
    ):
        status, body = await proxy.ask("/v1/completions", asked)

    assert msgspec.json.decode(upstream.requests[0].body) == {**asked, "model": "a-secret-name"}
    assert status == 200
    assert msgspec.json.decode(body)["choices"] == choices
