"""Requests whose client and model server speak different dialects."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.e2e.frames import in_reads, same, stream
from tests.harness import chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

NATIVE: dict[str, Any] = {"kind": "huggingface-tgi", "settings": {"dialect": "tgi"}}
PARAMETERS = {"details": True, "do_sample": True, "return_full_text": False}
ID = {"X-Request-Id": "r-1"}

NATIVE_TOKEN = (
    b'data:{"index":1,"token":{"id":7,"text":" Hi","logprob":-0.4,"special":false},'
    b'"generated_text":null,"details":null}\n\n'
)
NATIVE_LAST = (
    b'data:{"index":2,"token":{"id":2,"text":"</s>","logprob":-0.5,"special":true},'
    b'"generated_text":" Hi","details":{"finish_reason":"eos_token","generated_tokens":2,'
    b'"seed":null,"input_length":5}}\n\n'
)
NATIVE_WHOLE = (
    b'{"generated_text":" Hi","details":{"finish_reason":"length","generated_tokens":1,'
    b'"seed":null,"prefill":[],"tokens":[]}}'
)

TEXT = b'data: {"id":"c","choices":[{"index":0,"text":" Hi","finish_reason":null}]}\n\n'
TEXT_LAST = b'data: {"id":"c","choices":[{"index":0,"text":"","finish_reason":"stop"}]}\n\n'
TEXT_USAGE = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"
TEXT_WHOLE = (
    b'{"id":"c","choices":[{"index":0,"text":" Hi","finish_reason":"length"}],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":1}}'
)


def payloads(body: bytes) -> list[Any]:
    """The JSON of every frame; a frame is one line, and `[DONE]` stays a text."""
    frames = body.decode().split("\n\n")
    assert frames.pop() == ""
    data = [frame.removeprefix("data: ") for frame in frames]
    return [text if text == "[DONE]" else msgspec.json.decode(text) for text in data]


def sent(upstream: Upstream) -> Any:
    (request,) = upstream.requests
    return msgspec.json.decode(request.body)


# An OpenAI client in front of TGI's native routes


async def test_a_chat_is_streamed_from_native_tgi_to_an_openai_client() -> None:
    async with (
        Upstream(same(stream(NATIVE_TOKEN, NATIVE_LAST))) as upstream,
        penstock(config_for(upstream.url, **NATIVE)) as proxy,
    ):
        asked = chat("hi", max_tokens=9, stream_options={"include_usage": True})
        status, body = await proxy.ask("/v1/chat/completions", asked, headers=ID)
        (line,) = await proxy.ended()

    assert upstream.requests[0].target == "/generate_stream"
    assert sent(upstream)["parameters"] == {**PARAMETERS, "max_new_tokens": 9}
    assert "hi" in sent(upstream)["inputs"]
    assert status == 200
    *chunks, done = payloads(body)
    assert done == "[DONE]"
    assert {(each["id"], each["model"], each["object"]) for each in chunks} == {
        ("r-1", "lab::v1::model", "chat.completion.chunk")
    }
    *contents, usage = chunks
    assert [
        (each["choices"][0]["delta"], each["choices"][0]["finish_reason"]) for each in contents
    ] == [
        ({"role": "assistant", "content": ""}, None),
        ({"content": " Hi"}, None),
        ({}, "stop"),
    ]
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert (line.outcome, line.exact, line.usage) == ("complete", False, "reported")


async def test_usage_is_not_told_to_a_client_that_did_not_ask() -> None:
    async with (
        Upstream(same(stream(NATIVE_TOKEN, NATIVE_LAST))) as upstream,
        penstock(config_for(upstream.url, **NATIVE)) as proxy,
    ):
        _, body = await proxy.ask("/v1/chat/completions", chat())
        (line,) = await proxy.ended()

    assert b"usage" not in body
    assert (line.input_tokens, line.output_tokens) == (5, 2)


async def test_a_last_frame_without_its_blank_line_counts() -> None:
    async with (
        Upstream(same(stream(NATIVE_TOKEN, NATIVE_LAST.rstrip()))) as upstream,
        penstock(config_for(upstream.url, **NATIVE)) as proxy,
    ):
        _, body = await proxy.ask("/v1/completions", {"prompt": "a", "stream": True})
        (line,) = await proxy.ended()

    assert body.endswith(DONE)
    assert line.outcome == "complete"


async def test_a_translated_stream_is_the_same_however_it_is_cut() -> None:
    every = NATIVE_TOKEN + NATIVE_LAST

    async def bytewise(up: Conversation) -> None:
        await up.request()
        await in_reads(up, [every[i : i + 1] for i in range(len(every))])
        up.send(LAST_CHUNK)
        await up.request()
        up.send(STREAM_HEAD + chunk(every) + LAST_CHUNK)
        await up.gone()

    async with (
        Upstream(bytewise) as upstream,
        penstock(config_for(upstream.url, **NATIVE)) as proxy,
    ):
        _, cut = await proxy.ask("/v1/completions", {"prompt": "a", "stream": True}, headers=ID)
        await proxy.ended()
        _, whole = await proxy.ask("/v1/completions", {"prompt": "a", "stream": True}, headers=ID)

    def timeless(body: bytes) -> list[Any]:
        return [each if each == "[DONE]" else {**each, "created": 0} for each in payloads(body)]

    assert timeless(cut) == timeless(whole)
    assert [each["choices"][0]["text"] for each in payloads(cut)[:-1]] == [" Hi", ""]


@pytest.mark.parametrize(
    ("path", "asked", "member"),
    [
        (
            "/v1/chat/completions",
            chat(stream=False),
            {"message": {"role": "assistant", "content": " Hi"}},
        ),
        ("/v1/completions", {"prompt": "hi"}, {"text": " Hi"}),
    ],
)
async def test_a_whole_answer_of_native_tgi_goes_to_an_openai_client(
    path: str, asked: dict[str, object], member: dict[str, object]
) -> None:
    async with (
        Upstream(same(response(NATIVE_WHOLE))) as upstream,
        penstock(config_for(upstream.url, **NATIVE)) as proxy,
    ):
        status, body = await proxy.ask(path, asked, headers=ID)
        (line,) = await proxy.ended()

    assert upstream.requests[0].target == "/generate"
    answer = msgspec.json.decode(body)
    (choice,) = answer["choices"]
    assert (status, answer["id"], answer["model"]) == (200, "r-1", "lab::v1::model")
    assert choice["finish_reason"] == "length"
    assert member.items() <= choice.items()
    assert (line.outcome, line.exact) == ("length", False)


async def test_what_the_model_server_cannot_do_is_refused_before_it_is_asked() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url, **NATIVE)) as proxy:
        status, body = await proxy.ask("/v1/chat/completions", chat(n=2))
        (line,) = await proxy.ended()

        assert status == 400
        assert b'"n\\"' in body
        assert (line.outcome, line.phase, upstream.connections) == ("rejected", "decode", 0)


# A TGI client in front of an OpenAI server


async def test_a_completion_is_streamed_from_an_openai_server_to_a_tgi_client() -> None:
    async with (
        Upstream(same(stream(TEXT, TEXT_LAST, TEXT_USAGE, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        asked = {"inputs": "hi", "parameters": {"details": True, "max_new_tokens": 9}}
        status, body = await proxy.ask("/generate_stream", asked)
        (line,) = await proxy.ended()

    assert upstream.requests[0].target == "/v1/completions"
    body_sent = sent(upstream)
    assert (body_sent["model"], body_sent["prompt"], body_sent["stream"]) == ("model", "hi", True)
    assert (body_sent["max_tokens"], body_sent["stream_options"]) == (9, {"include_usage": True})
    assert status == 200
    first, last = payloads(body)
    assert (first["token"]["text"], first["generated_text"], first["details"]) == (
        " Hi",
        None,
        None,
    )
    assert (last["token"]["special"], last["generated_text"]) == (True, " Hi")
    assert last["details"] == {
        "finish_reason": "eos_token",
        "generated_tokens": 2,
        "seed": None,
        "input_length": 5,
    }
    assert (line.outcome, line.exact, line.input_tokens) == ("complete", False, 5)


@pytest.mark.parametrize("path", ["/generate_stream", "/models/lab::v1::model/generate_stream"])
async def test_details_are_not_told_to_a_tgi_client_that_did_not_ask(path: str) -> None:
    async with (
        Upstream(same(stream(TEXT, TEXT_LAST, TEXT_USAGE, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        _, body = await proxy.ask(path, {"inputs": "hi"})

    assert [each["details"] for each in payloads(body)] == [None, None]


async def test_a_whole_answer_of_an_openai_server_goes_to_a_tgi_client() -> None:
    async with (
        Upstream(same(response(TEXT_WHOLE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        status, body = await proxy.ask("/generate", {"inputs": "hi"})

    answer = msgspec.json.decode(body)
    assert (status, answer["generated_text"]) == (200, " Hi")
    assert answer["details"]["finish_reason"] == "length"


# TGI's `POST /`


@pytest.mark.parametrize("path", ["/", "/models/lab::v1::model", "/models/lab::v1::model/"])
async def test_the_compatible_route_answers_with_an_array(path: str) -> None:
    async with (
        Upstream(same(response(TEXT_WHOLE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        asked = {"inputs": "hi", "parameters": {"return_full_text": False}}
        status, body = await proxy.ask(path, asked)

    (answer,) = msgspec.json.decode(body)
    assert (status, answer["generated_text"]) == (200, " Hi")


async def test_the_compatible_route_streams_if_the_body_says_so() -> None:
    async with (
        Upstream(same(stream(TEXT, TEXT_LAST, TEXT_USAGE, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        _, body = await proxy.ask("/", {"inputs": "hi", "stream": True})

    assert [each["generated_text"] for each in payloads(body)] == [None, " Hi"]


@pytest.mark.parametrize(
    ("path", "asked", "raw", "wanted"),
    [
        ("/generate", b"", response(NATIVE_WHOLE), NATIVE_WHOLE),
        ("/", b"", response(b"[%b]" % NATIVE_WHOLE), b"[%b]" % NATIVE_WHOLE),
        ("/", b',"stream":true', stream(NATIVE_TOKEN, NATIVE_LAST), NATIVE_TOKEN + NATIVE_LAST),
        ("/generate_stream", b"", stream(NATIVE_TOKEN, NATIVE_LAST), NATIVE_TOKEN + NATIVE_LAST),
    ],
)
async def test_between_tgi_and_tgi_no_byte_changes(
    path: str, asked: bytes, raw: bytes, wanted: bytes
) -> None:
    given = b'{ "inputs":"\\u0068i", "parameters":{"top_p":0.90 }%b }' % asked
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url, **NATIVE)) as proxy,
    ):
        assert await proxy.ask(path, given) == (200, wanted)
        (line,) = await proxy.ended()

    assert (upstream.requests[0].target, upstream.requests[0].body) == (path, given)
    assert (line.outcome in ("complete", "length"), line.exact) == (True, True)
