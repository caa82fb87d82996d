"""Anthropic's own client through a penstock, before servers of its dialect and of others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import msgspec
import pytest
from anthropic.types import Message, MessageParam, ToolParam

from parsers.dialects.anthropic import ANTHROPIC
from parsers.sse import frames
from tests.e2e.frames import in_reads, same, stream
from tests.fixture_streams import Case, cases, fold, replay
from tests.harness import MODEL, Proxy, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

ASKED: list[MessageParam] = [{"role": "user", "content": "hi"}]
WEATHER: ToolParam = {
    "name": "weather",
    "description": "what it is like",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def event(name: str, body: str) -> bytes:
    """An event of Anthropic's."""
    members = ",".join(filter(None, [f'"type":"{name}"', body]))
    return f"event: {name}\ndata: {{{members}}}\n\n".encode()


START = event(
    "message_start",
    '"message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"up",'
    '"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":11,"output_tokens":1}}',
)
OPEN = event("content_block_start", '"index":0,"content_block":{"type":"text","text":""}')
PING = event("ping", "")
HELLO = event("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":"Hello"}')
THERE = event("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":" there"}')
CLOSE = event("content_block_stop", '"index":0')
DELTA = event(
    "message_delta",
    '"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":6}',
)
STOP = event("message_stop", "")
EVENTS = [START, OPEN, PING, HELLO, THERE, CLOSE, DELTA, STOP]
OVERLOADED = event("error", '"error":{"details":null,"type":"overloaded_error","message":"Busy"}')
WHOLE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"up","content":'
    b'[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,'
    b'"usage":{"input_tokens":11,"output_tokens":6}}'
)


def openai_chunk(members: str) -> bytes:
    """A chunk of OpenAI's with one choice."""
    return b'data: {"id":"c","choices":[{"index":0,%b}]}\n\n' % members.encode()


OPENAI = [
    openai_chunk('"delta":{"role":"assistant","content":""}'),
    openai_chunk('"delta":{"reasoning_content":"Well."}'),
    openai_chunk('"delta":{"content":"Hello"}'),
    openai_chunk('"delta":{"content":" there"}'),
    openai_chunk('"delta":{},"finish_reason":"stop"'),
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":4,'
    b'"prompt_tokens_details":{"cached_tokens":5}}}\n\n',
    b"data: [DONE]\n\n",
]
OPENAI_CALLS = [
    openai_chunk('"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"weather"}}]}'),
    openai_chunk('"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"weather"}}]}'),
    openai_chunk('"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"city\\":"}}]}'),
    openai_chunk('"delta":{"tool_calls":[{"index":1,"function":{"arguments":"{\\"city\\":"}}]}'),
    openai_chunk('"delta":{"tool_calls":[{"index":0,"function":{"arguments":"\\"Oslo\\"}"}}]}'),
    openai_chunk('"delta":{"tool_calls":[{"index":1,"function":{"arguments":"\\"Rome\\"}"}}]}'),
    openai_chunk('"delta":{},"finish_reason":"tool_calls"'),
    b"data: [DONE]\n\n",
]


def anthropic_config(url: str, **settings: object) -> dict[str, Any]:
    """The usual model, on Anthropic's API at this address."""
    config = config_for(url)
    (provider,) = config["modelConfiguration"]["providerOverrides"]
    provider["serverSideConfig"] = {
        "type": "anthropic",
        "accessToken": "secret-key",
        "endpoint": f"{url}/v1/messages",
        **settings,
    }
    return config


@asynccontextmanager
async def sdk(proxy: Proxy, key: str = "none") -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=proxy.url, api_key=key, max_retries=0) as client:
        yield client


async def streamed(client: anthropic.AsyncAnthropic, **members: Any) -> Message:
    """The message that the client puts together from its stream."""
    async with client.messages.stream(
        model=MODEL, max_tokens=99, messages=ASKED, **members
    ) as stream_:
        return await stream_.get_final_message()


def sent(upstream: Upstream) -> Any:
    (request,) = upstream.requests
    return msgspec.json.decode(request.body)


# Before Anthropic


async def test_a_stream_of_anthropics_arrives_byte_for_byte() -> None:
    async with (
        Upstream(same(stream(*EVENTS))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
    ):
        asked = {"model": MODEL, "max_tokens": 9, "messages": ASKED, "stream": True, "x": 1}
        status, body = await proxy.ask("/v1/messages", asked)
        (line,) = await proxy.ended()

    assert (status, body) == (200, b"".join(EVENTS))
    assert (line.exact, line.outcome, line.usage) == (True, "complete", "reported")
    assert (line.input_tokens, line.output_tokens) == (11, 6)
    (request,) = upstream.requests
    assert request.target == "/v1/messages"
    assert request.headers["x-api-key"] == "secret-key"
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert sent(upstream) == {**asked, "model": "model"}


async def test_the_sdk_streams_from_anthropic() -> None:
    async with (
        Upstream(same(stream(*EVENTS))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        message = await streamed(client)

    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Hello there"}
    ]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 6)


async def test_version_and_betas_of_the_client_are_passed_on_and_nothing_else() -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
    ):
        asked = {"model": MODEL, "max_tokens": 9, "messages": ASKED}
        headers = {
            "anthropic-version": "2024-01-01",
            "anthropic-beta": "one, two",
            "anthropic-other": "three",
        }
        await proxy.ask("/v1/messages", asked, headers=headers)

    (request,) = upstream.requests
    assert request.headers["anthropic-version"] == "2024-01-01"
    assert request.headers["anthropic-beta"] == "one, two"
    assert "anthropic-other" not in request.headers
    assert request.head.lower().count(b"anthropic-version") == 1


async def test_a_token_of_an_account_goes_as_a_bearer() -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(anthropic_config(upstream.url, accessToken="sk-ant-oat01-x")) as proxy,
        sdk(proxy) as client,
    ):
        await client.messages.create(model=MODEL, max_tokens=9, messages=ASKED)

    (request,) = upstream.requests
    assert request.headers["authorization"] == "Bearer sk-ant-oat01-x"
    assert "x-api-key" not in request.headers


async def test_a_whole_message_comes_from_anthropic_with_the_requests_id() -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        message = await client.messages.create(
            model=MODEL, max_tokens=9, messages=ASKED, extra_headers={"x-request-id": "r-1"}
        )

    assert message.content[0].to_dict() == {"type": "text", "text": "Hello"}
    assert message._request_id == "r-1"


async def test_tokens_are_counted_by_anthropic() -> None:
    async with (
        Upstream(same(response(b'{"input_tokens":14}'))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        count = await client.messages.count_tokens(model=MODEL, messages=ASKED)
        (line,) = await proxy.ended()

    assert count.input_tokens == 14
    assert upstream.requests[0].target == "/v1/messages/count_tokens"
    assert (line.outcome, line.input_tokens) == ("complete", None)


async def test_tokens_are_not_guessed_for_a_server_that_does_not_count() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        async with sdk(proxy) as client:
            with pytest.raises(anthropic.BadRequestError, match="cannot be counted"):
                await client.messages.count_tokens(model=MODEL, messages=ASKED)

        assert upstream.connections == 0


def reads(case: Case) -> Iterator[list[bytes]]:
    """The body as it goes out: whole, and in pieces that end anywhere."""
    yield [case.body]
    yield [case.body[start : start + 61] for start in range(0, len(case.body), 61)]


@pytest.mark.parametrize("case", cases("anthropic-messages"), ids=lambda case: case.name)
async def test_recording_arrives_whole_or_says_that_it_does_not(case: Case) -> None:
    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            if case.streamed:
                await in_reads(up, next(pieces))
                up.send(LAST_CHUNK)
            else:
                up.send(response(b"".join(next(pieces)), status=case.http.status))

    pieces = reads(case)
    asked = {"model": MODEL, "max_tokens": 9, "messages": ASKED, "stream": True}
    async with Upstream(script) as upstream, penstock(anthropic_config(upstream.url)) as proxy:
        for count in (1, 2):
            status, body = await proxy.ask("/v1/messages", asked)
            line = (await proxy.ended(count))[-1]
            assert (line.exact, line.status) == (True, status)
            check_recording(case, status, body)


def check_recording(case: Case, status: int, body: bytes) -> None:
    error = case.expect.error
    if case.name == "anthropic-data-only-no-event-line":  # the SDK hears nothing without them
        names = [frame.partition(b"\n")[0] for frame in frames(body)]
        assert names[:2] == [b"event: message_start", b"event: content_block_start"]
        assert b"".join(frame.partition(b"\n")[2] for frame in frames(body)) == case.body
    elif error is None:
        assert (status, body) == (200, case.body)
    elif error.where in ("before_stream", "first_event"):
        assert status == error.http_status
        assert msgspec.json.decode(body)["error"]["message"] == error.message
    else:
        *before, told = frames(body)
        assert case.body.startswith(b"".join(before))
        assert told.startswith(b'event: error\ndata: {"type":"error","error":{')
        assert all(b"event: error" not in frame for frame in before)
        assert fold(replay(ANTHROPIC, [body])).text == case.expect.text


# An OpenAI client before Anthropic


async def test_an_openai_client_is_answered_by_anthropic_and_limited_by_the_models_limit() -> None:
    async with (
        Upstream(same(stream(*EVENTS))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
    ):
        limit = proxy.service.registry.models[MODEL].max_output_tokens
        asked = {"model": MODEL, "messages": ASKED, "stream": True}
        status, body = await proxy.ask("/v1/chat/completions", asked)

    assert status == 200
    assert b'"content":"Hello"' in body
    assert body.endswith(b"data: [DONE]\n\n")
    assert sent(upstream) == {
        "model": "model",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": limit,
        "stream": True,
    }


async def test_raw_text_is_continued_by_anthropic() -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
    ):
        status, body = await proxy.ask("/v1/completions", {"model": MODEL, "prompt": "once"})

    assert (status, msgspec.json.decode(body)["choices"][0]["text"]) == (200, "Hello")
    assert sent(upstream)["messages"] == [{"role": "user", "content": "once"}]


# Before OpenAI's dialect


async def test_the_sdk_streams_from_an_openai_server() -> None:
    async with (
        Upstream(same(stream(*OPENAI))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        message = await streamed(
            client, system="Be brief.", stop_sequences=["x"], extra_body={"top_k": 3}
        )

    assert [block.to_dict() for block in message.content] == [
        {"type": "thinking", "thinking": "Well.", "signature": ""},
        {"type": "text", "text": "Hello there"},
    ]
    assert message.stop_reason == "end_turn"
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (4, 5, 4)
    body = sent(upstream)
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
    ]
    assert (body["max_tokens"], body["stop"], body["top_k"]) == (99, ["x"], 3)


async def test_interleaved_calls_reach_the_sdk_one_after_the_other() -> None:
    async with (
        Upstream(same(stream(*OPENAI_CALLS))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        message = await streamed(client, tools=[WEATHER], tool_choice={"type": "any"})

    assert [block.to_dict() for block in message.content] == [
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
        {"type": "tool_use", "id": "b", "name": "weather", "input": {"city": "Rome"}},
    ]
    assert message.stop_reason == "tool_use"
    body = sent(upstream)
    assert body["tool_choice"] == "required"
    assert body["tools"][0]["function"]["name"] == "weather"


async def test_the_sdk_gets_a_whole_message_from_an_openai_server() -> None:
    whole = (
        b'{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"Hi",'
        b'"tool_calls":[{"id":"a","type":"function","function":{"name":"weather",'
        b'"arguments":"{\\"city\\":\\"Oslo\\"}"}}]},"finish_reason":"tool_calls"}],'
        b'"usage":{"prompt_tokens":3,"completion_tokens":1}}'
    )
    async with (
        Upstream(same(response(whole))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        message = await client.messages.create(
            model=MODEL, max_tokens=9, messages=ASKED, tools=[WEATHER]
        )

    assert [block.to_dict() for block in message.content] == [
        {"type": "text", "text": "Hi"},
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
    ]
    assert (message.usage.input_tokens, message.usage.output_tokens) == (3, 1)
    assert message.model == MODEL


async def test_the_sdk_is_answered_by_native_tgi() -> None:
    token = (
        b'data:{"index":1,"token":{"id":7,"text":" Hi","logprob":-0.4,"special":false},'
        b'"generated_text":null,"details":null}\n\n'
    )
    last = (
        b'data:{"index":2,"token":{"id":2,"text":"</s>","logprob":-0.5,"special":true},'
        b'"generated_text":" Hi","details":{"finish_reason":"length","generated_tokens":2,'
        b'"seed":null,"input_length":5}}\n\n'
    )
    async with (
        Upstream(same(stream(token, last))) as upstream,
        penstock(
            config_for(upstream.url, kind="huggingface-tgi", settings={"dialect": "tgi"})
        ) as proxy,
        sdk(proxy) as client,
    ):
        message = await streamed(client)

    assert [block.to_dict() for block in message.content] == [{"type": "text", "text": " Hi"}]
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 2)


# What goes wrong


@pytest.mark.parametrize(
    ("status", "told", "error"),
    [
        (400, b'{"error":{"message":"no","type":"invalid_request_error"}}', "BadRequestError"),
        (404, b'{"error":{"message":"no","code":"model_not_found"}}', "NotFoundError"),
        (429, b'{"error":{"message":"no","code":"rate_limit_exceeded"}}', "RateLimitError"),
        (503, b'{"error":{"message":"no","type":"overloaded"}}', "OverloadedError"),
        (504, b'{"error":{"message":"no"}}', "GatewayTimeoutError"),
        (500, b'{"error":{"message":"no"}}', "InternalServerError"),
    ],
)
async def test_the_sdk_raises_its_own_error_for_each_kind(
    status: int, told: bytes, error: str
) -> None:
    async with (
        Upstream(same(response(told, status=status))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        with pytest.raises(anthropic.APIStatusError) as raised:
            await client.messages.create(model=MODEL, max_tokens=9, messages=ASKED)

    assert type(raised.value).__name__ == error
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["type"] == "error"
    assert raised.value.request_id is not None


async def test_a_stream_that_breaks_off_is_an_error_to_the_sdk() -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD + chunk(b"".join(EVENTS[:5])) + LAST_CHUNK)

    async with (
        Upstream(script) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        with pytest.raises(anthropic.APIStatusError, match="broke off"):
            await streamed(client)
        (line,) = await proxy.ended()

    assert (line.outcome, line.exact) == ("truncated", True)


async def test_a_translated_stream_that_breaks_off_is_an_error_to_the_sdk() -> None:
    async with (
        Upstream(same(stream(*OPENAI[:3]))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        with pytest.raises(anthropic.APIStatusError, match="broke off"):
            await streamed(client)


async def test_an_error_before_the_first_text_is_a_status_of_its_own() -> None:
    async with (
        Upstream(same(stream(START, OPEN, PING, OVERLOADED))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        with pytest.raises(anthropic.APIStatusError) as raised:
            await streamed(client)

    assert raised.value.status_code == 529
    assert "Busy" in str(raised.value)


async def test_an_error_in_a_stream_is_raised_by_the_sdk() -> None:
    async with (
        Upstream(same(stream(START, OPEN, HELLO, OVERLOADED))) as upstream,
        penstock(anthropic_config(upstream.url)) as proxy,
    ):
        asked = {"model": MODEL, "max_tokens": 9, "messages": ASKED, "stream": True}
        _, body = await proxy.ask("/v1/messages", asked)
        async with sdk(proxy) as client:
            with pytest.raises(anthropic.APIStatusError, match="Busy"):
                await streamed(client)

    told = event("error", '"error":{"type":"overloaded_error","message":"Busy"}')
    assert body == START + OPEN + HELLO + told


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/batches"])
async def test_the_door_refuses_in_anthropics_words(path: str) -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.get(path) as answer,
    ):
        body = msgspec.json.decode(await answer.read())

    assert answer.status in (404, 405)
    assert body["type"] == "error"
    assert body["error"]["type"] == "invalid_request_error"


async def test_a_key_is_asked_for_in_anthropics_words_and_taken_from_its_header() -> None:
    clients = {"clients": [{"name": "me", "key": "good-key"}]}
    async with (
        Upstream(same(stream(*OPENAI))) as upstream,
        penstock(config_for(upstream.url, penstock=clients)) as proxy,
    ):
        async with sdk(proxy, "bad-key") as client:
            with pytest.raises(anthropic.AuthenticationError):
                await streamed(client)
        async with sdk(proxy, "good-key") as client:
            message = await streamed(client)

    assert message.content[-1].to_dict() == {"type": "text", "text": "Hello there"}


async def test_what_changes_the_contract_is_refused_and_hints_are_counted_by_name() -> None:
    async with (
        Upstream(same(stream(*OPENAI))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        with pytest.raises(anthropic.BadRequestError, match=r"tools\[0\].type"):
            await streamed(client, tools=[{"type": "web_search_20250305", "name": "web_search"}])
        await streamed(client, service_tier="auto", thinking={"type": "adaptive"})
        await proxy.ended(2)
        metrics = await proxy.metrics()

    (told,) = [each for each in metrics.splitlines() if "dropped_fields_total{" in each]
    assert 'dialect="anthropic-messages"' in told
    assert 'field="service_tier"' in told


# The models


async def test_the_sdk_lists_the_models() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        sdk(proxy) as client,
    ):
        models = [model async for model in client.models.list()]
        model = await client.models.retrieve(MODEL)
        with pytest.raises(anthropic.NotFoundError) as raised:
            await client.models.retrieve("none")

    assert [each.id for each in models] == [MODEL]
    assert (model.id, model.type) == (MODEL, "model")
    assert isinstance(raised.value.body, dict)
    assert raised.value.body["error"]["type"] == "not_found_error"


async def test_openais_clients_still_get_their_own_list() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.get("/v1/models") as answer,
    ):
        body = msgspec.json.decode(await answer.read())

    assert body["object"] == "list"
