"""`penstock ask` against the demo server, and against servers that speak badly."""

import asyncio
import io
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import NamedTuple

import pytest
from aiohttp import web

from proxy.ask import ask
from proxy.demo import Settings, build_app

HELLO = "This is the demo model of penstock. It does not think, it repeats. You said: hello\n"
SSE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
STOP = b'data: {"choices":[{"delta":{"content":"yes"},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Said(NamedTuple):
    status: int
    out: str
    err: str


async def say(
    url: str, prompt: str = "hello", key: str | None = None, model: str | None = "m", **more: bool
) -> Said:
    out, err = io.StringIO(), io.StringIO()
    status = await asyncio.to_thread(ask, url, key, model, prompt, out, err, **more)
    return Said(status, out.getvalue(), err.getvalue().removeprefix("penstock ask: "))


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[str]:
    runner = web.AppRunner(build_app(settings), handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def demo() -> AsyncIterator[str]:
    async with serving(Settings(pace_seconds=0)) as url:
        yield url


@asynccontextmanager
async def answering(*pieces: bytes | asyncio.Event) -> AsyncIterator[str]:
    """A server that gives these bytes to everybody, and waits where an event stands."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST"):
                await reader.readuntil(b"}]")  # the messages: the body has been sent
            for piece in pieces:
                if isinstance(piece, asyncio.Event):
                    await piece.wait()
                else:
                    writer.write(piece)
                    await writer.drain()
        except ConnectionError:
            pass  # a client that has seen enough
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}"


async def test_an_answer_is_streamed_and_complete(demo: str) -> None:
    assert await say(f"{demo}/") == Said(0, HELLO, "")


async def test_without_a_model_the_first_one_listed_is_asked(demo: str) -> None:
    assert await say(demo, model=None) == Said(0, HELLO, "")


async def test_usage_and_the_token_limit_are_told_on_err(demo: str) -> None:
    said = await say(demo, "[[tokens=2]] hello", usage=True)

    assert said == Said(0, "This is\n", "2 prompt tokens, 3 answer tokens\n")


async def test_a_missing_usage_and_a_full_answer_are_told_too() -> None:
    full = b'data: {"choices":[{"delta":{"content":"yes\\n"},"finish_reason":"length"}]}\n\n'
    async with answering(SSE, full, DONE) as url:
        said = await say(url, usage=True)

    assert said == Said(
        0,
        "yes\n",
        "the answer reached its token limit\npenstock ask: the server reported no usage\n",
    )


async def test_tokens_show_as_they_arrive() -> None:
    class Screen(io.StringIO):
        def flush(self) -> None:
            loop.call_soon_threadsafe(shown.set)

    loop, shown, out = asyncio.get_running_loop(), asyncio.Event(), Screen()
    first = b'data: {"choices":[{"delta":{"role":"assistant","content":"y"}}]}\n\n'
    async with answering(SSE, first, shown, STOP, DONE) as url:
        status = await asyncio.to_thread(ask, url, None, "m", "hello", out, io.StringIO())

    assert (status, out.getvalue()) == (0, "yyes\n")


@pytest.mark.parametrize(
    ("prompt", "out", "err"),
    [
        ("[[overload]]", "", "the server broke off: Model is overloaded\n"),
        (
            "[[fail after=1]]",
            "This\n",
            "the server broke off: Request failed during generation: Server error: "
            "the demo was asked to fail\n",
        ),
        ("[[cut after=1]]", "This\n", "the connection was cut: the body ended too early\n"),
        (
            "[[truncate after=1]]",
            "This\n",
            "the stream ended without [DONE]; the answer may be incomplete\n",
        ),
        (
            "[[template]]",
            "",
            f"422 {HTTPStatus(422).phrase}: Template error: the demo was asked to refuse\n",
        ),
    ],
)
async def test_a_failed_answer_is_status_1_and_said_plainly(
    demo: str, prompt: str, out: str, err: str
) -> None:
    assert await say(demo, prompt) == Said(1, out, err)


async def test_the_key_opens_the_door() -> None:
    async with serving(Settings(pace_seconds=0, api_key="secret")) as url:
        assert await say(url, key="secret") == Said(0, HELLO, "")
        assert await say(url) == Said(1, "", "401 Unauthorized\n")


async def test_a_server_that_is_not_there_is_status_69() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    said = await say(f"http://127.0.0.1:{port}")

    assert said == Said(
        69,
        "",
        f"cannot reach http://127.0.0.1:{port}: connection refused; "
        "start the proxy with `penstock serve`, or the demo model with `penstock demo`\n",
    )


async def test_tls_to_a_plain_server_is_status_69(demo: str) -> None:
    said = await say(demo.replace("http:", "https:"))

    assert said.status == 69


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8080",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:70000",
        "http://host:0",
        "http://us er",
        "http://me:secret@host",
        "http://host/?q",
        "http://[host",
    ],
)
async def test_a_url_that_cannot_be_asked_is_status_2(url: str) -> None:
    said = await say(url)

    assert said == Said(2, "", "--url wants http://host:port or https://host:port\n")


@pytest.mark.parametrize("key", ["se\r\ncret", "secrét"])
async def test_an_unusable_key_is_not_repeated(demo: str, key: str) -> None:
    said = await say(demo, key=key)

    assert said == Said(2, "", "--key has characters that no header may have\n")


async def test_prompts_and_names_must_be_text(demo: str) -> None:
    assert await say(demo, " ") == Said(2, "", "the prompt is empty\n")
    assert await say(demo, "\udcff") == Said(2, "", "the prompt is not valid UTF-8\n")
    named = await say(demo, model="\udcff")
    assert named == Said(2, "", "the model name is not valid UTF-8\n")


@pytest.mark.parametrize(
    ("stream", "out", "err"),
    [
        (DONE, "", "the answer ended without a finish reason; it may be incomplete\n"),
        (STOP, "yes\n", "the stream ended without [DONE]; the answer may be incomplete\n"),
        (b"", "", "the stream ended without [DONE]; the answer may be incomplete\n"),
        (STOP + b"data: {\n\n", "yes\n", "unreadable event in the stream: {\n"),
        (b"data: \xff\n\n", "", "the stream is not valid UTF-8\n"),
        (b'data: {"error":"no\x1b[2J more"}\n\n', "", "unreadable event in the stream: "),
        (b'data: {"error":"no \\u001b[2Jmore"}\n\n', "", "the server broke off: no [2Jmore\n"),
        (b'data: {"error":{"code":1}}\n\n', "", "the server broke off: no reason given\n"),
        (b'event: error\ndata: {"error":{"message":"m"}}\n\n', "", "the server broke off: m\n"),
    ],
)
async def test_a_bad_stream_is_status_1(stream: bytes, out: str, err: str) -> None:
    async with answering(SSE, stream) as url:
        said = await say(url)

    assert (said.status, said.out) == (1, out)
    assert said.err.startswith(err)


async def test_odd_but_complete_streams_are_read() -> None:
    odd = (
        b": hello\n\nid: 7\nretry: 1\n\n"
        b'data: {"choices":null,"usage":null}\n\ndata: {"choices":[]}\n\n'
        b'data: {"choices":[{"delta":null,"finish_reason":""}]}\r\n\r\n'
        b'data:{"choices":[{"delta":{"content":null},"finish_reason":null}]}\n\n'
    )
    async with answering(SSE, odd, STOP, DONE, b"data: after the end\n\n") as url:
        said = await say(url)

    assert said == Said(0, "yes\n", "")


async def test_an_answer_cannot_steer_the_terminal() -> None:
    sneaky = b'data: {"choices":[{"delta":{"content":"a\\u001b]0;\\u0007\\u009b\\tb\\r\\n"}}]}\n\n'
    async with answering(SSE, sneaky, STOP, DONE) as url:
        said = await say(url)

    assert said == Said(0, "a]0;\tb\nyes\n", "")


async def test_an_endless_event_is_given_up() -> None:
    async with answering(SSE, b"data: " + b"x" * 8 * 1024 * 1024) as url:
        said = await say(url)

    assert said == Said(1, "", "an event is larger than 8388608 bytes\n")


@pytest.mark.parametrize(
    ("response", "err"),
    [
        (b"", "no answer from the server: Remote end closed connection without response\n"),
        (b"nonsense\r\n\r\n", "no answer from the server: nonsense\n"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n<html>",
            "the server answered with text/html, not with a stream: <html>\n",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n",
            "the server answered with application/json, not with a stream\n",
        ),
        (
            b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 35\r\n\r\n"
            b'{"error":{"message":"slow\\n down"}}',
            "429 Too Many Requests: slow down\n",
        ),
        (
            b'HTTP/1.1 503 \r\n\r\n{"object":"error","message":"m"}',
            '503: {"object":"error","message":"m"}\n',
        ),
        (
            b"HTTP/1.1 500 Oops\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab",
            "the connection was cut: the body ended too early\n",
        ),
        (b"HTTP/1.1 500 Oops\r\n\r\n" + b"x" * 1001, f"500 Oops: {'x' * 990}…\n"),
    ],
)
async def test_what_is_not_a_stream_is_reported(response: bytes, err: str) -> None:
    async with answering(response) as url:
        assert await say(url) == Said(1, "", err)


@pytest.mark.parametrize("models", [b"<html>", b'{"data":[]}', b'{"data":[{}]}', b"\xff"])
async def test_a_server_without_models_wants_a_name(models: bytes) -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n", models) as url:
        said = await say(url, model=None)

    assert said == Said(1, "", "the server lists no models; name one with --model\n")
