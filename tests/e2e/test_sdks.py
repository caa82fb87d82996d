"""Other people's clients through a penstock: texts, order, usage, errors, early ends.

The server behind is the demo model server, called on its OpenAI routes or on its native ones.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import huggingface_hub.errors as hf
import msgspec
import openai
import pytest
import text_generation
import urllib3
from huggingface_hub import AsyncInferenceClient, InferenceClient
from openai.types.chat import ChatCompletionChunk
from sseclient import SSEClient
from text_generation import errors as tg

from tests.e2e.demo_server import HELLO, HELLO_TOKENS, Demo, before_demo
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk

BOTH = pytest.mark.parametrize("dialect", ["openai", "tgi"])
CURL = shutil.which("curl")
NEEDS_CURL = pytest.mark.skipif(CURL is None, reason="curl is not installed")
# text-generation 0.7 speaks pydantic 1 to pydantic 2, and leaves its sockets to the collector.
OLD_CLIENT = pytest.mark.filterwarnings(
    "ignore::pydantic.warnings.PydanticDeprecatedSince20", "ignore:unclosed:ResourceWarning"
)
LONG = "[[tokens=10000 slow=0.02]] hello"  # minutes: whoever waits for its end fails
FIRST_WORDS = "This is the"  # what comes before the demo's troubles


@asynccontextmanager
async def sdk(proxy: Proxy, key: str = "none") -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=key, max_retries=0) as client:
        yield client


async def opened(
    client: openai.AsyncOpenAI, prompt: str, *, usage: bool = False
) -> openai.AsyncStream[ChatCompletionChunk]:
    return await client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": prompt}],
        stream=True,
        stream_options={"include_usage": True} if usage else openai.omit,
    )


async def asked(
    client: openai.AsyncOpenAI, prompt: str, *, model: str = MODEL
) -> openai.types.chat.ChatCompletion:
    return await client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": prompt}]
    )


async def freed(demo: Demo) -> bool:
    """Whether the one generation that ran was ended by the loss of its reader."""
    state = await demo.state(running=0, aborted=1)
    return (state.running, state.started, state.aborted) == (0, 1, 1)


# -- openai


@BOTH
async def test_openai_streams_every_token_in_order(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        chunks = [each async for each in await opened(client, "hello")]

    choices = [each.choices[0] for each in chunks]
    words = [choice.delta.content for choice in choices if choice.delta.content]
    assert "".join(words) == HELLO
    assert len(words) == HELLO_TOKENS - 1
    assert [c.finish_reason for c in choices if c.finish_reason] == ["stop"]
    assert choices[0].delta.role == "assistant"
    assert {each.usage for each in chunks} == {None}


@BOTH
async def test_openai_is_told_the_usage_it_asked_for(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        *_, last = [each async for each in await opened(client, "hello", usage=True)]
        (line,) = await proxy.ended()

    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (1, HELLO_TOKENS)
    assert (line.input_tokens, line.output_tokens) == (1, HELLO_TOKENS)


@BOTH
async def test_openai_gets_a_whole_answer(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        answer = await asked(client, "hello")

    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content == HELLO
    assert choice.finish_reason == "stop"


@BOTH
async def test_openai_finds_the_usage_in_a_whole_answer(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        answer = await asked(client, "hello")
        (line,) = await proxy.ended()

    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (1, HELLO_TOKENS)
    assert (line.input_tokens, line.output_tokens) == (1, HELLO_TOKENS)


@BOTH
async def test_openai_text_completions_stream_and_come_whole(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        whole = await client.completions.create(model=MODEL, prompt="hello", max_tokens=2)
        stream = await client.completions.create(model=MODEL, prompt="hello", stream=True)
        texts = [each.choices[0].text async for each in stream]

    assert whole.choices[0].text == "This is"
    assert whole.choices[0].finish_reason == "length"
    assert "".join(texts) == HELLO


@BOTH
async def test_openai_in_a_thread_streams_the_same(dialect: str) -> None:
    def ask(url: str) -> str:
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "hello"}], stream=True
            ) as stream,
        ):
            return "".join(each.choices[0].delta.content or "" for each in stream)

    async with before_demo(dialect) as (proxy, _):
        text = await asyncio.to_thread(ask, proxy.url)

    assert text == HELLO


@BOTH
async def test_openai_lists_the_models(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        listed = [model.id async for model in client.models.list()]
        one = await client.models.retrieve(MODEL)
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("nobody")

    assert listed == [MODEL]
    assert one.id == MODEL


@BOTH
@pytest.mark.parametrize(
    ("prompt", "error", "status"),
    [
        ("[[overload]]", openai.RateLimitError, 429),
        ("[[validation]]", openai.BadRequestError, 400),
        ("[[fail]]", openai.InternalServerError, 502),
        ("[[incomplete]]", openai.InternalServerError, 502),
        ("[[cut]]", openai.InternalServerError, 502),
    ],
)
async def test_openai_raises_its_own_exception_for_a_failed_answer(
    dialect: str, prompt: str, error: type[openai.APIStatusError], status: int
) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        with pytest.raises(error) as raised:
            await asked(client, prompt)

    assert raised.value.status_code == status
    assert raised.value.request_id  # `x-request-id`: what to look for in the log


@BOTH
@pytest.mark.parametrize(
    ("prompt", "error", "status"),
    [
        ("[[overload]]", openai.InternalServerError, 503),
        ("[[validation]]", openai.BadRequestError, 400),
        ("[[fail after=0]]", openai.InternalServerError, 502),
        ("[[incomplete after=0]]", openai.InternalServerError, 502),
        ("[[truncate after=0]]", openai.InternalServerError, 502),
        ("[[cut after=0]]", openai.InternalServerError, 502),
    ],
)
async def test_a_stream_that_fails_before_its_first_token_has_a_real_status(
    dialect: str, prompt: str, error: type[openai.APIStatusError], status: int
) -> None:
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        with pytest.raises(error) as raised:
            await opened(client, prompt)

    assert raised.value.status_code == status


@BOTH
@pytest.mark.parametrize("trouble", ["fail", "incomplete", "truncate", "cut"])
async def test_openai_raises_when_a_stream_breaks_after_some_tokens(
    dialect: str, trouble: str
) -> None:
    words = []
    async with before_demo(dialect) as (proxy, _), sdk(proxy) as client:
        stream = await opened(client, f"[[{trouble}]]")
        with pytest.raises(openai.APIError) as raised:  # noqa: PT012 - the words before it count
            async for each in stream:
                words.append(each.choices[0].delta.content or "")  # noqa: PERF401 - it raises
        await stream.close()

    assert "".join(words) == FIRST_WORDS
    assert type(raised.value) is openai.APIError  # its exception for an error event
    assert raised.value.message


async def test_openai_raises_for_keys_models_and_requests_that_are_refused() -> None:
    clients = [
        {"name": "all", "key": "key-all"},
        {"name": "few", "key": "key-few", "models": ["lab::v1::other"]},
    ]
    config = config_for("http://127.0.0.1:9", penstock={"clients": clients})
    models = config["modelConfiguration"]["modelOverrides"]
    models.append({**models[0], "modelRef": "lab::v1::other"})
    async with penstock(config) as proxy:
        async with sdk(proxy, "wrong") as client:
            with pytest.raises(openai.AuthenticationError) as unknown:
                await asked(client, "hello")
        async with sdk(proxy, "key-few") as client:
            with pytest.raises(openai.PermissionDeniedError) as forbidden:
                await asked(client, "hello")
        async with sdk(proxy, "key-all") as client:
            with pytest.raises(openai.NotFoundError) as missing:
                await asked(client, "hello", model="nobody")
            with pytest.raises(openai.BadRequestError) as bad:
                await client.chat.completions.create(
                    model=MODEL, messages=[], extra_body={"stream": "often"}
                )

    assert [each.value.status_code for each in (unknown, forbidden, missing, bad)] == [
        401,
        403,
        404,
        400,
    ]
    assert unknown.value.code == "invalid_api_key"
    assert missing.value.code == "model_not_found"


async def test_openai_is_told_that_the_model_server_is_gone_or_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        dead = f"http://127.0.0.1:{server.getsockname()[1]}"
    async with penstock(config_for(dead)) as proxy, sdk(proxy) as client:
        with pytest.raises(openai.InternalServerError) as gone:
            await asked(client, "hello")

    async def say_nothing(up: Conversation) -> None:
        await up.request()
        await up.gone()

    limits = {"timeouts": {"headersSeconds": 0.1}}
    async with (
        Upstream(say_nothing) as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
        sdk(proxy) as client,
    ):
        with pytest.raises(openai.InternalServerError) as silent:
            await asked(client, "hello")

    assert (gone.value.status_code, gone.value.code) == (502, "upstream_unreachable")
    assert (silent.value.status_code, silent.value.code) == (504, "timeout_headers")


# -- openai, leaving early: what frees the GPU


@BOTH
async def test_closing_an_openai_stream_frees_the_model_server(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, demo), sdk(proxy) as client:
        stream = await opened(client, LONG)
        async for each in stream:
            if each.choices[0].delta.content:
                break
        await stream.close()

        assert await freed(demo)
        (line,) = await proxy.ended()
        assert line.outcome == "client_gone"


@BOTH
async def test_leaving_a_synchronous_openai_stream_frees_the_model_server(dialect: str) -> None:
    def leave(url: str) -> None:
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
            client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": LONG}], stream=True
            ) as stream,
        ):
            next(stream)

    async with before_demo(dialect) as (proxy, demo):
        await asyncio.to_thread(leave, proxy.url)

        assert await freed(demo)


@BOTH
@pytest.mark.parametrize("stream", [True, False])
async def test_cancelling_before_anything_came_frees_the_model_server(
    dialect: str, stream: bool
) -> None:
    async with before_demo(dialect) as (proxy, demo), sdk(proxy) as client:
        call = opened if stream else asked
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call(client, "[[wait=600]] hello"))
            await demo.state(running=1)
            task.cancel()

        assert await freed(demo)
        (line,) = await proxy.ended()
        assert (line.outcome, line.status) == ("client_gone", 0)


# -- huggingface_hub


@BOTH
async def test_huggingface_hub_generates_text(dialect: str) -> None:
    async with (
        before_demo(dialect) as (proxy, _),
        AsyncInferenceClient(proxy.url, token="none") as client,
    ):
        text = await client.text_generation("hello", return_full_text=False)
        detailed = await client.text_generation(
            "hello", return_full_text=False, details=True, max_new_tokens=2
        )

    assert text == HELLO
    assert detailed.generated_text == "This is"
    assert detailed.details is not None
    assert detailed.details.finish_reason == "length"
    assert detailed.details.generated_tokens == 2


# TGI's own `POST /` repeats the prompt unless told not to; ours repeats it only when told to.
@pytest.mark.parametrize(("dialect", "answer"), [("openai", HELLO), ("tgi", "hello" + HELLO)])
async def test_huggingface_hub_generates_text_without_being_told_how(
    dialect: str, answer: str
) -> None:
    async with (
        before_demo(dialect) as (proxy, _),
        AsyncInferenceClient(proxy.url, token="none") as client,
    ):
        text = await client.text_generation("hello")

    assert text == answer


@BOTH
async def test_huggingface_hub_streams_text(dialect: str) -> None:
    async with (
        before_demo(dialect) as (proxy, _),
        AsyncInferenceClient(proxy.url, token="none") as client,
    ):
        stream = await client.text_generation(
            "hello", stream=True, details=True, return_full_text=False
        )
        events = [each async for each in stream]

    texts = [each.token.text for each in events if not each.token.special]
    assert "".join(texts) == HELLO
    assert len(texts) == HELLO_TOKENS - 1
    assert [each.index for each in events] == list(range(1, HELLO_TOKENS + 1))
    assert events[-1].generated_text == HELLO
    assert events[-1].details is not None
    assert events[-1].details.finish_reason == "eos_token"
    assert events[-1].details.generated_tokens == HELLO_TOKENS
    assert events[-1].details.input_length == 1


@BOTH
async def test_huggingface_hub_reaches_a_named_model(dialect: str) -> None:
    async with (
        before_demo(dialect) as (proxy, _),
        AsyncInferenceClient(f"{proxy.url}/models/{MODEL}", token="none") as client,
    ):
        text = await client.text_generation("hello", return_full_text=False)

    assert text == HELLO


@BOTH
async def test_huggingface_hub_chats(dialect: str) -> None:
    async with (
        before_demo(dialect) as (proxy, _),
        AsyncInferenceClient(base_url=proxy.url, api_key="none") as client,
    ):
        turns = [{"role": "user", "content": "hello"}]
        whole = await client.chat_completion(turns, model=MODEL)
        stream = await client.chat_completion(turns, model=MODEL, stream=True)
        deltas = [each.choices[0].delta.content or "" async for each in stream]

    assert whole.choices[0].message.content == HELLO
    assert whole.choices[0].finish_reason == "stop"
    assert "".join(deltas) == HELLO


@BOTH
async def test_huggingface_hub_in_a_thread_streams_the_same(dialect: str) -> None:
    def ask(url: str) -> str:
        client = InferenceClient(url, token="none")
        return "".join(client.text_generation("hello", stream=True)).removesuffix("</s>")

    async with before_demo(dialect) as (proxy, _):
        text = await asyncio.to_thread(ask, proxy.url)

    assert text == HELLO


@BOTH
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("[[overload]]", hf.OverloadedError),
        ("[[validation]]", hf.ValidationError),
        ("[[fail after=0]]", hf.GenerationError),
        ("[[incomplete after=0]]", hf.IncompleteGenerationError),
    ],
)
async def test_huggingface_hub_raises_its_own_exceptions(
    dialect: str, prompt: str, error: type[Exception], stream: bool
) -> None:
    async with (
        before_demo(dialect) as (proxy, _),
        AsyncInferenceClient(proxy.url, token="none") as client,
    ):
        with pytest.raises(error):
            await client.text_generation(prompt, return_full_text=False, stream=stream)


@BOTH
@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ("fail", hf.GenerationError),
        ("incomplete", hf.IncompleteGenerationError),
        ("truncate", hf.IncompleteGenerationError),
        ("cut", hf.IncompleteGenerationError),
    ],
)
async def test_huggingface_hub_raises_when_a_stream_breaks_after_some_tokens(
    dialect: str, trouble: str, error: type[Exception]
) -> None:
    words = []
    async with (
        before_demo(dialect) as (proxy, _),
        AsyncInferenceClient(proxy.url, token="none") as client,
    ):
        stream = await client.text_generation(f"[[{trouble}]]", stream=True)
        with pytest.raises(error):  # noqa: PT012 - the words before it count
            async for word in stream:
                words.append(word)  # noqa: PERF401 - it raises

    assert "".join(words) == FIRST_WORDS


@BOTH
async def test_closing_huggingface_hub_frees_the_model_server(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, demo):
        async with AsyncInferenceClient(proxy.url, token="none") as client:
            async for _ in await client.text_generation(LONG, stream=True):
                break

        assert await freed(demo)


# -- text-generation, TGI's own client


@OLD_CLIENT
@BOTH
async def test_text_generation_generates_and_streams(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _):
        client = text_generation.Client(proxy.url)
        whole = await asyncio.to_thread(client.generate, "hello", max_new_tokens=50)
        events = await asyncio.to_thread(
            lambda: list(client.generate_stream("hello", max_new_tokens=50))
        )

    assert whole.generated_text == HELLO
    assert whole.details.finish_reason == "eos_token"
    assert whole.details.generated_tokens == HELLO_TOKENS
    assert "".join(e.token.text for e in events if not e.token.special) == HELLO
    assert events[-1].generated_text == HELLO
    assert events[-1].details.finish_reason == "eos_token"
    assert events[-1].details.generated_tokens == HELLO_TOKENS


@OLD_CLIENT
async def test_text_generation_chats_with_the_default_model() -> None:
    turns = [{"role": "user", "content": "hello"}]
    async with before_demo("openai") as (proxy, _):
        client = text_generation.Client(proxy.url)
        # It always names the model "tgi", TGI's word for the one that is there.
        answer = await asyncio.to_thread(client.chat, turns)

    assert answer.choices[0].message.content == HELLO


@OLD_CLIENT
@BOTH
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("[[overload]]", tg.OverloadedError),
        ("[[validation]]", tg.ValidationError),
        ("[[fail after=2]]", tg.GenerationError),
        ("[[incomplete after=2]]", tg.IncompleteGenerationError),
    ],
)
async def test_text_generation_raises_its_own_exceptions(
    dialect: str, prompt: str, error: type[Exception], stream: bool
) -> None:
    async with before_demo(dialect) as (proxy, _):
        client = text_generation.Client(proxy.url)
        call = client.generate_stream if stream else client.generate

        with pytest.raises(error):
            await asyncio.to_thread(lambda: list(call(prompt)))


@OLD_CLIENT
@BOTH
@pytest.mark.parametrize("trouble", ["truncate", "cut"])
async def test_text_generation_raises_when_a_stream_is_cut(dialect: str, trouble: str) -> None:
    words = []

    def read(client: text_generation.Client) -> None:
        for event in client.generate_stream(f"[[{trouble}]]"):
            words.append(event.token.text)  # noqa: PERF401 - it raises

    async with before_demo(dialect) as (proxy, _):
        with pytest.raises(tg.IncompleteGenerationError):
            await asyncio.to_thread(read, text_generation.Client(proxy.url))

    assert "".join(words) == FIRST_WORDS


# -- sseclient-py


@BOTH
async def test_sseclient_reads_whole_events_in_order(dialect: str) -> None:
    def read(url: str) -> list[str]:
        with (
            urllib3.PoolManager() as pool,
            pool.request(
                "POST",
                f"{url}/v1/chat/completions",
                body=msgspec.json.encode(chat("hello")),
                preload_content=False,
            ) as response,
        ):
            return [event.data for event in SSEClient(response.stream()).events()]

    async with before_demo(dialect) as (proxy, _):
        *events, last = await asyncio.to_thread(read, proxy.url)

    chunks = [msgspec.json.decode(event, type=ChunkText) for event in events]
    assert "".join(each.choices[0].delta.content for each in chunks) == HELLO
    assert last == "[DONE]"


class DeltaText(msgspec.Struct, frozen=True):
    content: str = ""


class ChoiceText(msgspec.Struct, frozen=True):
    delta: DeltaText


class ChunkText(msgspec.Struct, frozen=True):
    choices: list[ChoiceText]


# -- curl


async def curl(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        cast("str", CURL), "-sS", "-N", *arguments, stdout=asyncio.subprocess.PIPE
    )


@NEEDS_CURL
async def test_curl_shows_each_event_as_it_comes() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        process = await curl(
            f"{proxy.url}/v1/chat/completions", "-d", msgspec.json.encode(chat()).decode()
        )
        assert process.stdout is not None
        up = await upstream.accept()
        await up.request()
        up.send(STREAM_HEAD)
        shown = []
        for word in ("one", "two", "three"):
            event = b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % word.encode()
            up.send(chunk(event))
            shown.append(await process.stdout.readexactly(len(event)) == event)
        end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        end += b"data: [DONE]\n\n"
        up.send(chunk(end) + LAST_CHUNK)

        assert shown == [True, True, True]
        assert await process.stdout.read() == end
        assert await process.wait() == 0


@NEEDS_CURL
@BOTH
async def test_curl_sees_the_error_event_and_no_end_mark(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, _):
        body = msgspec.json.encode(chat("[[fail]]")).decode()
        process = await curl(f"{proxy.url}/v1/chat/completions", "-d", body)
        out, _ = await process.communicate()

    assert process.returncode == 0  # the body itself is whole
    assert out.rstrip().splitlines()[-1].startswith(b'data: {"error":{"message":"Request failed')
    assert b"[DONE]" not in out


@NEEDS_CURL
async def test_curl_is_told_to_go_on_where_it_asks_first() -> None:
    """As it does by itself for a body over 1 MB; it would then wait for a second, or for this."""
    waiting = ("-H", "Expect: 100-continue", "--expect100-timeout", "600")
    async with before_demo("openai") as (proxy, _):
        body = msgspec.json.encode(chat("hello", stream=False)).decode()
        process = await curl(*waiting, f"{proxy.url}/v1/chat/completions", "-d", body)
        try:
            async with asyncio.timeout(10):
                out, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    assert HELLO in out.decode()


@NEEDS_CURL
async def test_curl_fails_on_a_refusal() -> None:
    async with before_demo("openai") as (proxy, _):
        body = msgspec.json.encode(chat("[[validation]]", stream=False)).decode()
        process = await curl("--fail", f"{proxy.url}/v1/chat/completions", "-d", body)
        await process.communicate()

    assert process.returncode == 22


@NEEDS_CURL
@BOTH
async def test_killing_curl_frees_the_model_server(dialect: str) -> None:
    async with before_demo(dialect) as (proxy, demo):
        body = msgspec.json.encode({"inputs": LONG}).decode()
        process = await curl(f"{proxy.url}/generate_stream", "-d", body)
        assert process.stdout is not None
        await process.stdout.readline()
        process.kill()
        await process.wait()

        assert await freed(demo)
