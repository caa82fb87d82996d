"""The Responses API through a penstock, by the official SDK: translated, and passed on as it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent

from tests.e2e.frames import in_reads, same, stream
from tests.fixture_streams import Case, cases
from tests.harness import MODEL, Proxy, config_for, penstock
from tests.scripted import LAST_CHUNK, Conversation, Upstream, response

Json = dict[str, Any]  # Any: JSON of any shape
SPEAKS_RESPONSES: Json = {"settings": {"responses": True}}
RECORDED = {case.name.removeprefix("openai-"): case for case in cases("openai-responses")}
USAGE = (
    b'"usage":{"prompt_tokens":3,"completion_tokens":2,'
    b'"completion_tokens_details":{"reasoning_tokens":1}}'
)
WEATHER: Json = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": True,
}


def delta(members: str, finish: str = "null") -> bytes:
    choice = b'{"index":0,"delta":{%b},"finish_reason":%b}' % (members.encode(), finish.encode())
    return b'data: {"id":"x","choices":[%b]}\n\n' % choice


HELLO = (
    delta('"role":"assistant","content":""'),
    delta('"reasoning_content":"Hm."'),
    delta('"content":"Hi"'),
    delta('"content":" there"'),
    delta("", '"stop"'),
    b'data: {"id":"x","choices":[],%b}\n\n' % USAGE,
    b"data: [DONE]\n\n",
)
CALLS = (
    delta('"tool_calls":[{"index":0,"id":"c0","function":{"name":"weather","arguments":""}}]'),
    delta('"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\":"}}]'),
    delta('"tool_calls":[{"index":0,"function":{"arguments":"\\"Oslo\\"}"}}]'),
    delta('"tool_calls":[{"index":1,"id":"c1","function":{"name":"weather","arguments":"{}"}}]'),
    delta("", '"tool_calls"'),
    b"data: [DONE]\n\n",
)


@asynccontextmanager
async def sdk(proxy: Proxy) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{proxy.url}/v1", api_key="none", max_retries=0
    ) as client:
        yield client


@asynccontextmanager
async def before(
    raw: bytes, **config: Any
) -> AsyncIterator[tuple[openai.AsyncOpenAI, Upstream, Proxy]]:
    """The SDK before a penstock before a server that answers with these bytes."""
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url, **config)) as proxy,
        sdk(proxy) as client,
    ):
        yield client, upstream, proxy


def sent(upstream: Upstream) -> Any:
    (request,) = upstream.requests
    return msgspec.json.decode(request.body)


async def streamed(client: openai.AsyncOpenAI, **members: Any) -> list[ResponseStreamEvent]:
    events = await client.responses.create(model=MODEL, input="hi", stream=True, **members)
    return [event async for event in events]


def kinds(events: list[ResponseStreamEvent]) -> list[str]:
    return [event.type.removeprefix("response.") for event in events]


def last_of(events: list[ResponseStreamEvent]) -> Response:
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    return last.response


# Translated to chat


async def test_a_whole_answer_has_text_reasoning_and_usage() -> None:
    body = (
        b'{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"Hi there",'
        b'"reasoning_content":"Hm."},"finish_reason":"stop"}],%b}' % USAGE
    )
    async with before(response(body)) as (client, upstream, proxy):
        answer = await client.responses.create(
            model=MODEL, input="hi", instructions="be brief", metadata={"a": "b"}, store=True
        )
        (line,) = await proxy.ended()

    assert upstream.requests[0].target == "/v1/chat/completions"
    assert sent(upstream)["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
    ]
    assert "store" not in sent(upstream)
    assert answer.id.startswith("resp_")
    assert (answer.status, answer.model, answer.output_text) == ("completed", MODEL, "Hi there")
    assert (answer.instructions, answer.metadata) == ("be brief", {"a": "b"})
    assert answer.model_extra == {"store": False}
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 2)
    assert answer.usage.output_tokens_details.reasoning_tokens == 1
    reasoning, message = answer.output
    assert reasoning.type == "reasoning"
    assert reasoning.content is not None
    assert reasoning.content[0].text == "Hm."
    assert message.type == "message"
    assert (line.outcome, line.exact, line.output_tokens) == ("complete", False, 2)


async def test_a_stream_runs_through_the_whole_life_of_an_answer() -> None:
    async with before(stream(*HELLO)) as (client, upstream, proxy):
        events = await streamed(client)
        (line,) = await proxy.ended()

    assert sent(upstream)["stream_options"] == {"include_usage": True}
    assert kinds(events) == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        "completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert last_of(events).output_text == "Hi there"
    assert last_of(events).usage is not None
    assert (line.outcome, line.status, line.usage) == ("complete", 200, "reported")


async def test_the_sdks_own_accumulator_follows() -> None:
    async with (
        before(stream(*HELLO)) as (client, _, _),
        client.responses.stream(model=MODEL, input="hi") as events,
    ):
        texts = [e.snapshot async for e in events if e.type == "response.output_text.delta"]
        final = await events.get_final_response()

    assert texts == ["Hi", "Hi there"]
    assert final.output_text == "Hi there"


async def test_calls_are_streamed_and_their_results_come_back() -> None:
    asked: Json = {"model": MODEL, "tools": [WEATHER], "parallel_tool_calls": True}
    conversation: list[Any] = [{"role": "user", "content": "hi"}]
    async with before(stream(*CALLS)) as (client, upstream, proxy):
        async with client.responses.stream(input=conversation, **asked) as events:
            deltas = [
                event.snapshot
                async for event in events
                if event.type == "response.function_call_arguments.delta"
            ]
            final = await events.get_final_response()
        (line,) = await proxy.ended()
        results: list[Any] = [
            {"type": "function_call_output", "call_id": each.call_id, "output": "rain"}
            for each in final.output
            if each.type == "function_call"
        ]
        said: list[Any] = [each.model_dump(exclude={"parsed_arguments"}) for each in final.output]
        await client.responses.create(input=[*conversation, *said, *results], stream=True, **asked)

    assert deltas == ['{"city":', '{"city":"Oslo"}', "{}"]
    assert [
        (each.call_id, each.name, each.arguments)
        for each in final.output
        if each.type == "function_call"
    ] == [("c0", "weather", '{"city":"Oslo"}'), ("c1", "weather", "{}")]
    assert line.outcome == "tool_calls"
    first, second = (msgspec.json.decode(request.body) for request in upstream.requests)
    assert first["tools"][0]["function"]["name"] == "weather"
    assert [message["role"] for message in second["messages"]] == [
        *("user", "assistant", "tool", "tool")
    ]
    assert [call["id"] for call in second["messages"][1]["tool_calls"]] == ["c0", "c1"]
    assert second["messages"][2] == {"role": "tool", "content": "rain", "tool_call_id": "c0"}


async def test_an_answer_at_its_limit_is_incomplete() -> None:
    cut = (delta('"content":"Once"'), delta("", '"length"'), b"data: [DONE]\n\n")
    async with before(stream(*cut)) as (client, upstream, _):
        events = await streamed(client, max_output_tokens=16)

    assert sent(upstream)["max_tokens"] == 16
    assert kinds(events)[-1] == "incomplete"
    details = last_of(events).incomplete_details
    assert details is not None
    assert details.reason == "max_output_tokens"


async def test_structured_output_is_parsed() -> None:
    schema = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    frames = (delta('"content":"{}"'), delta("", '"stop"'), b"data: [DONE]\n\n")
    async with before(stream(*frames)) as (client, upstream, _):
        events = await streamed(client, text=schema)

    assert sent(upstream)["response_format"]["json_schema"]["name"] == "n"
    assert last_of(events).output_text == "{}"
    assert last_of(events).text is not None


# Failures


async def test_what_cannot_be_translated_is_refused_by_name_before_anyone_is_asked() -> None:
    async with before(b"") as (client, upstream, _):
        for members in (
            {"previous_response_id": "resp_1"},
            {"background": True},
            {"tools": [{"type": "web_search"}]},
        ):
            with pytest.raises(openai.BadRequestError) as raised:
                await client.responses.create(model=MODEL, input="hi", **members)
            assert next(iter(members)) in raised.value.message

        assert upstream.connections == 0


async def test_stored_answers_are_none() -> None:
    async with before(b"") as (client, _, _):
        with pytest.raises(openai.NotFoundError) as read:
            await client.responses.retrieve("resp_1")
        with pytest.raises(openai.NotFoundError) as deleted:
            await client.responses.delete("resp_1")

    assert "not stored" in read.value.message
    assert "not stored" in deleted.value.message


@pytest.mark.parametrize("config", [{}, SPEAKS_RESPONSES], ids=["translated", "exact"])
async def test_a_failure_before_the_first_word_has_a_real_status(config: Json) -> None:
    error = b'{"error":{"message":"slow down","type":"rate_limit_error"}}'
    async with before(response(error, status=429), **config) as (client, _, _):
        with pytest.raises(openai.RateLimitError) as whole:
            await client.responses.create(model=MODEL, input="hi")
        with pytest.raises(openai.RateLimitError):
            await streamed(client)

    assert "slow down" in whole.value.message


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (b"", "broke off"),
        (b'data: {"error":{"message":"GPU gone","type":"server_error"}}\n\n', "GPU gone"),
    ],
    ids=["truncated", "error"],
)
async def test_a_failure_under_way_is_raised_and_never_a_whole_answer(
    end: bytes, message: str
) -> None:
    async def break_off(up: Conversation) -> None:
        await up.request()
        await in_reads(up, [delta('"content":"Once"'), *([end] if end else [])])
        up.send(LAST_CHUNK)
        await up.gone()

    async with (
        Upstream(break_off) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        events = await client.responses.create(model=MODEL, input="hi", stream=True)
        seen = []
        with pytest.raises(openai.APIError) as raised:  # noqa: PT012 - what came before it counts
            async for event in events:
                seen.append(event.type)  # noqa: PERF401 - it raises
        await events.close()

    assert message in raised.value.message
    assert "response.output_text.delta" in seen
    assert "response.completed" not in seen


async def test_after_an_error_comes_the_failed_answer_with_what_had_been_said() -> None:
    async def break_off(up: Conversation) -> None:
        await up.request()
        await in_reads(up, [delta('"content":"Once"')])
        up.send(LAST_CHUNK)
        await up.gone()

    async with (
        Upstream(break_off) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        asked = {"model": MODEL, "input": "hi", "stream": True}
        status, body = await proxy.ask("/v1/responses", asked)

    *_, error, failed = body.decode().removesuffix("\n\n").split("\n\n")
    told = [msgspec.json.decode(each.partition("data: ")[2]) for each in (error, failed)]
    assert status == 200
    assert error.startswith("event: error\n")
    assert failed.startswith("event: response.failed\n")
    assert told[1]["sequence_number"] == told[0]["sequence_number"] + 1
    assert told[1]["response"]["status"] == "failed"
    assert told[1]["response"]["output"][0]["content"][0]["text"] == "Once"
    assert b"response.completed" not in body


# Passed on as it is


def recorded(case: Case) -> bytes:
    """The recorded stream, in reads of about a frame each."""
    return stream(*(frame + b"\n\n" for frame in case.body.split(b"\n\n") if frame))


async def test_a_server_of_the_same_dialect_is_called_with_the_clients_own_bytes() -> None:
    case = RECORDED["responses-basic"]
    asked = b'{"model":"%b","input": [ ],"stream":true,"previous_response_id":"resp_0"}'
    async with before(recorded(case), **SPEAKS_RESPONSES) as (_, upstream, proxy):
        status, body = await proxy.ask("/v1/responses", asked % MODEL.encode())
        (line,) = await proxy.ended()

    (request,) = upstream.requests
    assert request.target == "/v1/responses"
    assert request.body == (
        b'{"model":"model","input":[ ],"stream":true,"previous_response_id":"resp_0"}'
    )
    assert (status, body) == (200, case.body)
    assert (line.outcome, line.exact, line.input_tokens) == ("complete", True, 11)


@pytest.mark.parametrize(
    ("settings", "target"),
    [({}, "/v1/responses"), ({"responses": False}, "/v1/chat/completions")],
)
async def test_openai_itself_has_the_route_unless_the_file_says_no(
    settings: Json, target: str
) -> None:
    async with Upstream(same(response(b"{}", status=500))) as upstream:
        config = config_for(upstream.url)
        server = {"type": "openai", "endpoint": f"{upstream.url}/v1/responses", **settings}
        config["modelConfiguration"]["providerOverrides"][0]["serverSideConfig"] = server
        async with penstock(config) as proxy:
            await proxy.ask("/v1/responses", {"model": MODEL, "input": "hi"})

    assert upstream.requests[0].target == target


async def test_a_model_whose_name_is_secret_is_asked_and_answers_in_words_of_ours() -> None:
    case = RECORDED["responses-basic"]
    async with Upstream(same(recorded(case))) as upstream:
        config = config_for(upstream.url, **SPEAKS_RESPONSES)
        secret = {"type": "openaicompatible", "apiModel": "gpt-5-nano-2025-08-07"}
        config["modelConfiguration"]["modelOverrides"][0]["serverSideConfig"] = secret
        async with penstock(config) as proxy, sdk(proxy) as client:
            events = await streamed(client)
            (line,) = await proxy.ended()

    (request,) = upstream.requests
    assert request.target == "/v1/responses"
    assert msgspec.json.decode(request.body) == {
        "model": "gpt-5-nano-2025-08-07",
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            }
        ],
        "store": False,
        "stream": True,
    }
    assert last_of(events).output_text == "Hi there"
    assert {each.response.model for each in events if each.type == "response.created"} == {MODEL}
    assert (line.outcome, line.exact) == ("complete", False)


async def test_the_sdk_reads_what_is_passed_on() -> None:
    async with before(recorded(RECORDED["responses-tool"]), **SPEAKS_RESPONSES) as (client, _, _):
        events = await streamed(client, tools=[{"type": "web_search"}])

    assert kinds(events)[-1] == "completed"


async def test_a_whole_answer_is_passed_on() -> None:
    body = (
        b'{"id":"resp_1", "object":"response","status":"completed","output":[{"type":"message",'
        b'"role":"assistant","content":[{"type":"output_text","text":"Hi","annotations":[]}]}],'
        b'"usage":{"input_tokens":3,"output_tokens":1}}'
    )
    async with before(response(body), **SPEAKS_RESPONSES) as (_, _, proxy):
        answer = await proxy.ask("/v1/responses", {"model": MODEL, "input": "hi"})
        (line,) = await proxy.ended()

    assert answer == (200, body)
    assert (line.outcome, line.exact, line.input_tokens) == ("complete", True, 3)


async def test_a_quota_that_is_told_within_a_good_stream_has_a_real_status() -> None:
    case = RECORDED["responses-error-after-created"]
    async with before(recorded(case), **SPEAKS_RESPONSES) as (client, _, _):
        with pytest.raises(openai.RateLimitError) as raised:
            await streamed(client)

    assert raised.value.code == "insufficient_quota"


async def test_a_stream_passed_on_that_breaks_off_ends_in_an_error() -> None:
    head = RECORDED["responses-incomplete"].body.partition(b"event: response.incomplete")[0]
    async with before(stream(head), **SPEAKS_RESPONSES) as (client, _, proxy):
        with pytest.raises(openai.APIError) as raised:
            await streamed(client)
        (line,) = await proxy.ended()

    assert type(raised.value) is openai.APIError
    assert line.outcome == "truncated"


async def test_other_clients_of_such_a_server_are_served_by_chat() -> None:
    async with before(stream(*HELLO), **SPEAKS_RESPONSES) as (client, upstream, _):
        chunks = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": "hi"}], stream=True
        )
        texts = [each.choices[0].delta.content or "" async for each in chunks if each.choices]

    assert "".join(texts) == "Hi there"
    assert upstream.requests[0].target == "/v1/chat/completions"
