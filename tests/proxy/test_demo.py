"""The demo server on a real socket: literal bytes, and other people's TGI clients."""

import asyncio
import io
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import aiohttp
import msgspec
import openai
import pytest
from aiohttp import web
from huggingface_hub import AsyncInferenceClient
from huggingface_hub.errors import (
    GenerationError,
    IncompleteGenerationError,
    OverloadedError,
    ValidationError,
)

from proxy.demo import Settings, build_app, run_demo


def has_ipv6_loopback() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


HELLO = "This is the demo model of penstock. It does not think, it repeats. You said: hello"
NEEDS_IPV6 = pytest.mark.skipif(not has_ipv6_loopback(), reason="no ::1 on this machine")
JSON = {"content-type": "application/json"}
CHUNK = (
    'data: {"object":"chat.completion.chunk","id":"","created":0,"model":"penstock-demo",'
    '"system_fingerprint":"3.3.7-demo","choices":[%s],"usage":%s}\n\n'
)
CHOICE = (
    '{"index":0,"delta":{"role":"assistant","content":"%s"},"logprobs":null,"finish_reason":%s}'
)


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[aiohttp.ClientSession]:
    """A demo server on a free port, and a session whose base is its address."""
    runner = web.AppRunner(build_app(settings), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        async with aiohttp.ClientSession(f"http://{host}:{port}") as session:
            yield session
    finally:
        await runner.cleanup()


@pytest.fixture
async def demo() -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(Settings(pace_seconds=0)) as session:
        yield session


async def post(
    session: aiohttp.ClientSession, path: str, body: object, status: int = 200
) -> tuple[aiohttp.ClientResponse, str]:
    async with session.post(path, data=msgspec.json.encode(body), headers=JSON) as response:
        text = await response.text()
    assert response.status == status, text
    return response, re.sub(r'"created":\d+', '"created":0', text)


async def state(session: aiohttp.ClientSession, wanted: str = "") -> dict[str, int]:
    async with session.get(f"/demo/state{wanted}") as response:
        return cast(dict[str, int], await response.json())


def said(text: str, **more: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": text}], **more}


def generated(text: str) -> str:
    return '{"generated_text":"' + text + '"}'


def failure(text: str, kind: str) -> str:
    return '{"error":"' + text + '","error_type":"' + kind + '"}'


async def address(session: aiohttp.ClientSession) -> str:
    async with session.get("/health") as response:
        return str(response.url.origin())


async def test_the_native_stream_has_no_done_and_ends_with_the_whole_text(
    demo: aiohttp.ClientSession,
) -> None:
    body = {"inputs": "[[tokens=2]] hi", "parameters": {"details": True, "seed": 2**63 + 1}}

    response, text = await post(demo, "/generate_stream", body)

    assert text == (
        'data: {"index":1,"token":{"id":20986,"text":"This","logprob":-0.25,"special":false},'
        '"generated_text":null,"details":null}\n\n'
        'data: {"index":2,"token":{"id":20485,"text":" is","logprob":-0.25,"special":false},'
        '"generated_text":null,"details":null}\n\n'
        'data: {"index":3,"token":{"id":2,"text":"</s>","logprob":-0.55,"special":true},'
        '"generated_text":"This is","details":{"finish_reason":"eos_token",'
        '"generated_tokens":3,"seed":9223372036854775809,"input_length":2}}\n\n'
    )
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["x-compute-characters"] == "15"


async def test_details_stay_null_unless_asked_for(demo: aiohttp.ClientSession) -> None:
    _, text = await post(demo, "/generate_stream", {"inputs": "[[tokens=1]]"})

    assert text.endswith('"special":true},"generated_text":"This","details":null}\n\n')


async def test_generate_answers_at_once_with_timings(demo: aiohttp.ClientSession) -> None:
    body = {"inputs": "[[tokens=1]] hi", "parameters": {"details": True}}

    response, text = await post(demo, "/generate", body)

    assert text == (
        '{"generated_text":"This","details":{"finish_reason":"eos_token","generated_tokens":2,'
        '"seed":null,"prefill":[],"tokens":['
        '{"id":20986,"text":"This","logprob":-0.25,"special":false},'
        '{"id":2,"text":"</s>","logprob":-0.55,"special":true}]}}'
    )
    assert response.headers["x-prompt-tokens"] == "2"
    assert response.headers["x-generated-tokens"] == "2"
    assert response.headers["x-total-time"].isdecimal()


async def test_the_answer_says_that_it_is_a_demo_and_echoes(demo: aiohttp.ClientSession) -> None:
    _, text = await post(demo, "/generate", {"inputs": "hello"})

    assert text == generated(HELLO)


async def test_the_compat_route_gives_an_array_and_the_prompt(
    demo: aiohttp.ClientSession,
) -> None:
    whole = {"inputs": "hello ", "parameters": {"return_full_text": None}}
    bare = {"inputs": "hello", "parameters": {"return_full_text": False}}

    assert (await post(demo, "/", whole))[1] == f"[{generated('hello ' + HELLO)}]"
    assert (await post(demo, "/", bare))[1] == f"[{generated(HELLO)}]"
    streamed = (await post(demo, "/", {"inputs": "[[tokens=1]] ", "stream": True}))[1]
    assert '"generated_text":"[[tokens=1]] This"' in streamed


async def test_the_chat_stream_has_tgi_quirks(demo: aiohttp.ClientSession) -> None:
    _, text = await post(demo, "/v1/chat/completions", said("[[tokens=2]] hi", stream=True))

    assert text == (
        CHUNK % (CHOICE % ("This", "null"), "null")
        + CHUNK % (CHOICE % (" is", "null"), "null")
        + CHUNK % (CHOICE % ("", '"stop"'), "null")
        + "data: [DONE]\n\n"
    )


async def test_usage_comes_in_a_chunk_of_its_own_when_asked_for(
    demo: aiohttp.ClientSession,
) -> None:
    body = said("hi", stream=True, max_tokens=1, stream_options={"include_usage": True})

    _, text = await post(demo, "/v1/chat/completions", body)

    usage = '{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}'
    assert text == (
        CHUNK % (CHOICE % ("This", '"length"'), "null") + CHUNK % ("", usage) + "data: [DONE]\n\n"
    )


async def test_a_whole_chat_answer_names_the_model_that_was_asked_for(
    demo: aiohttp.ClientSession,
) -> None:
    body = said("[[tokens=1]] hi", model="adapter", max_completion_tokens=9)

    _, text = await post(demo, "/v1/chat/completions", body)

    assert text == (
        '{"object":"chat.completion","id":"","created":0,"model":"adapter",'
        '"system_fingerprint":"3.3.7-demo","choices":[{"index":0,'
        '"message":{"role":"assistant","content":"This"},"logprobs":null,'
        '"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}'
    )


async def test_only_the_last_user_message_steers_and_parts_are_read(
    demo: aiohttp.ClientSession,
) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    parts = [picture, {"type": "text", "text": "[[tokens=1]]"}]
    messages = [
        {"role": "system", "content": "[[cut]]"},
        {"role": "user", "content": "[[fail]]"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": parts},
    ]

    _, text = await post(demo, "/v1/chat/completions", {"messages": messages})

    assert '"content":"This"' in text


async def test_completions_of_several_prompts_are_interleaved(
    demo: aiohttp.ClientSession,
) -> None:
    body = {"prompt": ["[[tokens=1]] a", "b"], "max_tokens": 2, "stream": True, "model": "tgi"}

    _, text = await post(demo, "/v1/completions", body)

    head = (
        'data: {"object":"text_completion","id":"","created":0,"model":"penstock-demo",'
        '"system_fingerprint":"3.3.7-demo","choices":'
    )
    assert text == (
        head
        + '[{"index":0,"text":"This","logprobs":null,"finish_reason":""}]}\n\n'
        + head
        + '[{"index":1,"text":"This","logprobs":null,"finish_reason":""}]}\n\n'
        + head
        + '[{"index":0,"text":"","logprobs":null,"finish_reason":"eos_token"}],'
        '"usage":{"prompt_tokens":2,"completion_tokens":2,"total_tokens":4}}\n\n'
        + head
        + '[{"index":1,"text":" is","logprobs":null,"finish_reason":"length"}],'
        '"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
        "data: [DONE]\n\n"
    )


async def test_a_whole_completion_adds_the_usage_up(demo: aiohttp.ClientSession) -> None:
    body = {"prompt": ["[[tokens=1]]", "[[tokens=2]]"], "stop": [" is"]}

    _, text = await post(demo, "/v1/completions", body)

    assert text == (
        '{"object":"text_completion","id":"","created":0,"model":"penstock-demo",'
        '"system_fingerprint":"3.3.7-demo","choices":['
        '{"index":0,"text":"This","logprobs":null,"finish_reason":"eos_token"},'
        '{"index":1,"text":"This is","logprobs":null,"finish_reason":"stop_sequence"}],'
        '"usage":{"prompt_tokens":2,"completion_tokens":4,"total_tokens":6}}'
    )


@pytest.mark.parametrize("path", ["/", "/health", "/ping"])
async def test_health_is_an_empty_200(demo: aiohttp.ClientSession, path: str) -> None:
    async with demo.get(path) as response:
        assert (response.status, await response.read()) == (200, b"")


async def test_info_and_models_name_the_demo(demo: aiohttp.ClientSession) -> None:
    async with demo.get("/info") as response:
        info = await response.json()
    async with demo.get("/v1/models") as response:
        models = await response.text()

    assert (info["model_id"], info["version"]) == ("penstock-demo", "3.3.7")
    assert info["docker_label"].startswith("penstock-demo-")
    assert models == (
        '{"object":"list","data":[{"id":"penstock-demo","object":"model","created":0,'
        '"owned_by":"penstock-demo"}]}'
    )


FAILED = "Request failed during generation: Server error: the demo was asked to fail"
TOO_LONG = (
    "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 131072. "
    "Given: 1 `inputs` tokens and 131072 `max_new_tokens`"
)
FAILURES = [
    ("overload", 429, "Model is overloaded", "overloaded"),
    ("validation", 422, TOO_LONG, "validation"),
    ("fail", 424, FAILED, "generation"),
    ("incomplete", 500, "Incomplete generation", "incomplete_generation"),
    ("truncate", 500, "Incomplete generation", "incomplete_generation"),
]


@pytest.mark.parametrize(("word", "status", "text", "kind"), FAILURES)
async def test_failures_of_whole_answers_have_a_status(
    demo: aiohttp.ClientSession, word: str, status: int, text: str, kind: str
) -> None:
    expected = failure(text, kind)

    native = await post(demo, "/generate", {"inputs": f"[[{word}]]"}, status)
    chat = await post(demo, "/v1/chat/completions", said(f"[[{word}]]"), status)
    queried = await post(demo, f"/generate?demo={word}", {"inputs": "hi"}, status)

    assert (native[1], chat[1]) == (expected, expected)
    assert queried[1] == expected
    assert native[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize(("word", "status", "text", "kind"), FAILURES[:3])
async def test_failures_of_streams_are_events_of_a_200(
    demo: aiohttp.ClientSession, word: str, status: int, text: str, kind: str
) -> None:
    steered = f"[[{word},after=0]]"

    native = await post(demo, "/generate_stream", {"inputs": steered})
    chat = await post(demo, "/v1/chat/completions", said(steered, stream=True))
    completion = await post(demo, "/v1/completions", {"prompt": steered, "stream": True})

    assert native[1] == f"data: {failure(text, kind)}\n\n"
    in_band = 'data: {"error":{"message":"' + text + '","http_status_code":422}}\n\n'
    assert chat[1] == completion[1] == in_band + "data: [DONE]\n\n"


async def test_a_failure_inside_a_stream_comes_after_the_tokens(
    demo: aiohttp.ClientSession,
) -> None:
    _, text = await post(demo, "/generate_stream", {"inputs": "[[incomplete]]"})

    events = text.split("\n\n")
    assert len(events) == 5
    assert events[3] == (
        'data: {"error":"Incomplete generation stream","error_type":"incomplete_generation_stream"}'
    )


async def test_a_template_error_precedes_even_a_stream(demo: aiohttp.ClientSession) -> None:
    body = said("[[template]]", stream=True)

    _, text = await post(demo, "/v1/chat/completions", body, 422)

    assert text == (
        '{"error":"Template error: the demo was asked to refuse","error_type":"template_error"}'
    )


async def test_a_truncated_stream_ends_cleanly_without_its_end(
    demo: aiohttp.ClientSession,
) -> None:
    _, text = await post(demo, "/v1/chat/completions", said("[[truncate after=1]]", stream=True))

    assert text == CHUNK % (CHOICE % ("This", "null"), "null")


async def test_a_cut_stream_delivers_its_tokens_first(demo: aiohttp.ClientSession) -> None:
    body = said("[[cut after=1]]", stream=True)
    async with demo.post("/v1/chat/completions", json=body) as response:
        first = await response.content.readuntil(b"\n\n")
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.read()

    assert b'"content":"This"' in first
    assert await state(demo, "?running=0") == {"running": 0, "started": 1, "aborted": 0}


async def test_a_cut_whole_answer_has_no_status(demo: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await post(demo, "/generate", {"inputs": "[[cut]]"})


async def test_trouble_behind_the_end_of_the_answer_does_not_happen(
    demo: aiohttp.ClientSession,
) -> None:
    _, text = await post(demo, "/generate", {"inputs": "[[fail after=9 tokens=2]]"})

    assert text == '{"generated_text":"This is"}'


async def test_a_long_answer_counts_on_and_unreadable_words_are_ignored(
    demo: aiohttp.ClientSession,
) -> None:
    odd = "[[tokens=18,slow=nan,wait=x,after=,if]] [[]] [[ -f x ]]"

    _, text = await post(demo, "/generate?demo=wait=-1&demo=tokens=x", {"inputs": odd})
    _, counted = await post(demo, "/generate?demo=tokens=18", {"inputs": "hello"})

    assert text.startswith('{"generated_text":"This is the demo model')
    assert counted == generated(HELLO + " 1 2")


async def test_a_quiet_stream_carries_comments() -> None:
    settings = Settings(pace_seconds=0, keep_alive_seconds=0.02)
    async with serving(settings) as demo:
        _, text = await post(demo, "/generate_stream", {"inputs": "[[wait=0.05 tokens=1]]"})

    assert text.startswith(':\n\n:\n\ndata: {"index":1,')


async def test_a_stalled_stream_stays_open_and_ends_after_its_seconds() -> None:
    settings = Settings(pace_seconds=0, keep_alive_seconds=0.02)
    async with serving(settings) as demo:
        stalled = {"inputs": "[[stall=0.03 after=1 slow=0 tokens=1]]"}
        _, text = await post(demo, "/generate_stream", stalled)

    assert [event[:15] for event in text.split("\n\n")] == [
        'data: {"index":',
        ":",
        'data: {"index":',
        "",
    ]


@pytest.mark.parametrize("stream", [True, False])
async def test_a_reader_who_leaves_frees_the_model(
    demo: aiohttp.ClientSession, stream: bool
) -> None:
    body = said("[[stall after=0]]", stream=stream)

    async with asyncio.TaskGroup() as group:
        reader = group.create_task(post(demo, "/v1/chat/completions", body))
        assert await state(demo, "?running=1") == {"running": 1, "started": 1, "aborted": 0}
        reader.cancel()

    after = await state(demo, "?running=0&aborted=1")
    assert after == {"running": 0, "started": 1, "aborted": 1}


async def test_the_state_does_not_wait_for_nonsense(demo: aiohttp.ClientSession) -> None:
    idle = {"running": 0, "started": 0, "aborted": 0}

    assert await state(demo, "?running=x&walking=3&started=99999999999") == idle


async def test_a_full_server_refuses_at_once() -> None:
    async with serving(Settings(pace_seconds=0, max_concurrent_requests=1)) as demo:
        stalled = said("[[stall after=1]]", stream=True)
        async with demo.post("/v1/chat/completions", json=stalled) as response:
            await response.content.readuntil(b"\n\n")
            refused = await post(demo, "/generate", {"inputs": "hi"}, 429)
            in_band = await post(demo, "/v1/completions", {"prompt": "hi", "stream": True})

    assert refused[1] == '{"error":"Model is overloaded","error_type":"overloaded"}'
    assert in_band[1].startswith('data: {"error":{"message":"Model is overloaded",')


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({"temperature": 0}, "`temperature` must be strictly positive"),
        ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"typical_p": 0.0}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 2.5}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"best_of": 3}, "`best_of` must be > 0 and <= 2. Given: 3"),
        ({"stop": ["", "a", "b", "c", "d"]}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        (
            {"max_new_tokens": 131072},
            "`inputs` tokens + `max_new_tokens` must be <= 131072. "
            "Given: 1 `inputs` tokens and 131072 `max_new_tokens`",
        ),
    ],
)
async def test_parameters_are_held_to_the_rules(
    demo: aiohttp.ClientSession, parameters: dict[str, object], rule: str
) -> None:
    _, text = await post(demo, "/generate", {"inputs": "hi", "parameters": parameters}, 422)

    assert text == failure(f"Input validation error: {rule}", "validation")


async def test_inputs_may_be_neither_empty_nor_endless(demo: aiohttp.ClientSession) -> None:
    _, empty = await post(demo, "/generate", {"inputs": " "}, 422)
    _, endless = await post(demo, "/generate", {"inputs": "a " * 131_072}, 422)
    _, blank = await post(demo, "/generate", {"inputs": " " * 1_000_000}, 422)

    assert "`inputs` cannot be empty" in empty
    assert blank == empty
    assert "`inputs` must have less than 131071 tokens. Given: 131072" in endless


@pytest.mark.parametrize(
    ("parameters", "rule"),
    [
        ({"best_of": 2}, "`best_of` != 1 is not supported when streaming tokens"),
        (
            {"decoder_input_details": True},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
    ],
)
async def test_some_rules_hold_for_streams_only(
    demo: aiohttp.ClientSession, parameters: dict[str, object], rule: str
) -> None:
    body = {"inputs": "[[tokens=1]] hi", "parameters": parameters}

    _, text = await post(demo, "/generate_stream", body)
    await post(demo, "/generate", body)

    assert rule in text


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"stop": "a"}, "Expected `array | null`, got `str`"),
        ({"stream_options": None}, "Expected `object`, got `null`"),
        ({"response_format": {"type": "json_schema", "json_schema": {}}}, "field `value`"),
        ({"response_format": {"type": "text", "value": 1}}, "regex"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "duplicate field `max_tokens`"),
    ],
)
async def test_what_openai_allows_and_tgi_does_not_is_plain_text(
    demo: aiohttp.ClientSession, more: dict[str, object], problem: str
) -> None:
    response, text = await post(demo, "/v1/chat/completions", said("hi", **more), 422)

    assert text.startswith("Failed to deserialize the JSON body into the target type: ")
    assert problem in text
    assert response.content_type == "text/plain"


async def test_chat_parameters_are_brought_to_the_native_ones(
    demo: aiohttp.ClientSession,
) -> None:
    greedy = said("[[tokens=1]]", temperature=0, presence_penalty=0, tools=[])
    penalised = said("hi", presence_penalty=-2)
    grammar = {"type": "json_object", "value": {"properties": {}}}
    mixed = said("hi", tools=[{"type": "function"}], response_format=grammar)

    await post(demo, "/v1/chat/completions", greedy)
    _, penalty = await post(demo, "/v1/chat/completions", penalised, 422)
    _, exclusive = await post(demo, "/v1/chat/completions", mixed, 422)
    _, silent = await post(demo, "/v1/chat/completions", {"messages": []}, 422)

    assert "`repetition_penalty` must be strictly positive" in penalty
    assert "Tool error: Grammar and tools are mutually exclusive" in exclusive
    assert "`inputs` cannot be empty" in silent


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"prompt": []}, "prompt: empty array"),
        ({"prompt": "a", "suffix": "b"}, '"error_type":"suffix not supported"'),
        ({"prompt": ["a"] * 5}, '"error_type":"batch size exceeded"'),
    ],
)
async def test_completions_that_tgi_does_not_do_are_422(
    demo: aiohttp.ClientSession, body: dict[str, object], text: str
) -> None:
    assert text in (await post(demo, "/v1/completions", body, 422))[1]


@pytest.mark.parametrize(
    ("body", "content_type", "status", "text"),
    [
        (b"{", "application/json", 400, "Failed to parse the request body as JSON: "),
        (b'{"inputs":"\xff"}', "application/json", 400, "Failed to parse the request body"),
        (
            b'{"x":' + b"[" * 100_000,
            "application/json",
            400,
            "Failed to parse the request body as JSON",
        ),
        (b"{}", "text/plain", 415, "Expected request with `Content-Type: application/json`"),
        (b"{}", "application/x+json", 422, "Failed to deserialize the JSON body into the "),
        (b" " * 2_000_001, "application/json", 413, "Failed to buffer the request body: "),
    ],
)
async def test_bodies_that_are_not_requests_are_plain_text(
    demo: aiohttp.ClientSession, body: bytes, content_type: str, status: int, text: str
) -> None:
    headers = {"content-type": content_type}
    async with demo.post("/generate", data=io.BytesIO(body), headers=headers) as response:
        assert response.status == status
        assert (await response.text()).startswith(text)
        assert response.content_type == "text/plain"


async def test_unknown_routes_and_methods_have_no_body(demo: aiohttp.ClientSession) -> None:
    async with demo.get("/nowhere") as response:
        assert (response.status, await response.read()) == (404, b"")
    async with demo.get("/generate") as response:
        assert (response.status, await response.read()) == (405, b"")


async def test_the_api_key_guards_the_model_and_nothing_else() -> None:
    async with serving(Settings(pace_seconds=0, api_key="Secret")) as demo:
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "Secret"}):
            async with demo.post("/generate", json={"inputs": "a"}, headers=headers) as response:
                assert (response.status, await response.read()) == (401, b"")
        right = {"authorization": "bearer sECRET"}
        async with demo.post("/generate", json={"inputs": "a"}, headers=right) as response:
            assert response.status == 200
        for path in ("/health", "/info", "/v1/models", "/demo/state"):
            async with demo.get(path) as response:
                assert response.status == 200


async def sdk(demo: aiohttp.ClientSession) -> openai.AsyncOpenAI:
    url = await address(demo)
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


async def test_the_openai_client_reads_whole_answers_and_streams(
    demo: aiohttp.ClientSession,
) -> None:
    async with await sdk(demo) as client:
        whole = await client.chat.completions.create(
            model="tgi", messages=[{"role": "user", "content": "hello"}]
        )
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model="tgi",
                messages=[{"role": "user", "content": "hello"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        completion = await client.completions.create(model="tgi", prompt="hello")

    assert whole.choices[0].message.content == completion.choices[0].text == HELLO
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == HELLO
    assert chunks[-1].usage == whole.usage
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason == "stop"


async def test_the_openai_client_sees_errors(demo: aiohttp.ClientSession) -> None:
    async with await sdk(demo) as client:
        with pytest.raises(openai.RateLimitError):
            await client.chat.completions.create(
                model="tgi", messages=[{"role": "user", "content": "[[overload]]"}]
            )
        stream = await client.chat.completions.create(
            model="tgi", messages=[{"role": "user", "content": "[[fail]]"}], stream=True
        )
        with pytest.raises(openai.APIError, match="the demo was asked to fail"):
            _ = [chunk async for chunk in stream]


async def test_the_hugging_face_client_reads_the_native_wire(
    demo: aiohttp.ClientSession,
) -> None:
    async with AsyncInferenceClient(await address(demo), token="none") as client:
        whole = await client.text_generation("hello", details=True, return_full_text=False)
        stream = await client.text_generation("hello", details=True, stream=True)
        steps = [step async for step in stream]
        chat = await client.chat_completion([{"role": "user", "content": "hello"}], stream=True)
        deltas = [chunk.choices[0].delta.content async for chunk in chat]

    assert whole.generated_text == HELLO
    assert whole.details is not None
    assert whole.details.finish_reason == "eos_token"
    assert "".join(step.token.text for step in steps if not step.token.special) == HELLO
    assert steps[-1].details is not None
    assert steps[-1].details.generated_tokens == len(steps)
    assert "".join(delta or "" for delta in deltas) == HELLO


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("overload", OverloadedError),
        ("validation", ValidationError),
        ("fail", GenerationError),
        ("incomplete", IncompleteGenerationError),
    ],
)
async def test_the_hugging_face_client_tells_the_errors_apart(
    demo: aiohttp.ClientSession, word: str, error: type[Exception]
) -> None:
    async with AsyncInferenceClient(await address(demo), token="none") as client:
        with pytest.raises(error):
            await client.text_generation(f"[[{word}]]")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=NEEDS_IPV6)])
async def test_the_process_says_where_it_is_and_ends_on_a_signal(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals, host: str
) -> None:
    source, sink = os.pipe()
    with os.fdopen(source) as lines, os.fdopen(sink, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            group.create_task(run_demo(host, 0, 0.0, None))
            line = await asyncio.to_thread(lines.readline)
            url = line.split()[-1]
            async with aiohttp.ClientSession(url) as session:
                await post(session, "/generate", {"inputs": "hi"})
            os.kill(os.getpid(), number)

    assert re.fullmatch(
        r"penstock demo: a stand-in for TGI, no real model, on http://\S+:\d+\n", line
    )


async def test_an_address_in_use_is_an_os_error() -> None:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    async with server:
        with pytest.raises(OSError, match="address already in use"):
            await run_demo("127.0.0.1", server.sockets[0].getsockname()[1], 0.0, None)
