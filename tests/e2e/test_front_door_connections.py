"""How long a client may take, how much it may send for nothing, and how often it may come."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import openai
import pytest
from aiohttp import web

from proxy.api.server import NAME, Connection, Server
from tests.e2e.frames import WHOLE, same
from tests.e2e.program import killed
from tests.e2e.rawclient import Answer, RawClient, post, raw_client
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import Upstream, response

CHAT = "/v1/chat/completions"
BODY = msgspec.json.encode(chat(stream=False))
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: penstock\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
LIST = b"GET /v1/models HTTP/1.1\r\nHost: penstock\r\n\r\n"
NOWHERE = "http://127.0.0.1:9"
LATE = 15.0


@asynccontextmanager
async def connected(**block: object) -> AsyncIterator[tuple[Proxy, RawClient]]:
    """A penstock, and a client of it; nothing takes longer than it should."""
    async with (
        asyncio.timeout(LATE),
        penstock(config_for(NOWHERE, penstock=block)) as proxy,
        raw_client(proxy.url) as client,
    ):
        yield proxy, client


def error_of(answer: Answer) -> Any:
    """What an answer in OpenAI's form says is wrong."""
    return msgspec.json.decode(answer.body)["error"]


# -- bodies that prove malformed

BROKEN = {
    "no number": b"zz\r\n",
    "no end of a chunk": b"1\r\naa\r\n",
    "a bare line feed": b"1\na\r\n",
    "a sign": b"+1\r\na\r\n0\r\n\r\n",
    "too long a number": b"11111111111111111\r\n",
    "a bad extension": b"1;\x00\r\na\r\n",
}


async def half_sent(proxy: Proxy, client: RawClient) -> None:
    """The head of a request and the first of its body have come."""
    client.send(CHUNKED + b"2\r\n{ \r\n")
    while not proxy.service.in_flight:  # noqa: ASYNC110 - there is no event for it
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_that_proves_malformed_is_refused_at_once(name: str) -> None:
    async with connected() as (proxy, client):
        await half_sent(proxy, client)
        client.send(BROKEN[name])
        (answer,) = await client.answers()
        (line,) = await proxy.ended()

        assert b"Traceback" not in proxy.written()

    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert error_of(answer)["message"] == "the request's body is malformed"
    assert (line.outcome, line.phase) == ("rejected", "admit")


@pytest.mark.parametrize("name", BROKEN)
async def test_a_body_malformed_from_its_first_byte_is_refused_with_its_head(name: str) -> None:
    async with connected() as (_, client):
        client.send(CHUNKED + BROKEN[name])
        (answer,) = await client.answers()

    assert answer.status == 400


# -- what is no HTTP

UNPARSABLE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "a bad name": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n",
    "a folded line": b"GET /v1/models HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n",
    "no method": b" / HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("listener", ["clients", "operators"])
@pytest.mark.parametrize("name", UNPARSABLE)
async def test_what_is_no_request_is_told_so_in_json(name: str, listener: str) -> None:
    async with (
        penstock(config_for(NOWHERE)) as proxy,
        raw_client(proxy.url if listener == "clients" else proxy.admin_url) as client,
    ):
        client.send(UNPARSABLE[name])
        (answer,) = await client.answers()

    assert answer.status == 400
    assert answer.headers["content-type"].startswith("application/json")
    assert error_of(answer) == {
        "message": "the request is not well-formed HTTP",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
    }


async def test_no_answer_says_what_penstock_is_made_of() -> None:
    asked = [
        *UNPARSABLE.values(),
        *(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/v1/models", b"/nowhere")),
        *(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/livez", b"/status")),
        b"PUT /v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a@b\r\n\r\n",
        post(CHAT, b"{"),
    ]
    found: list[Answer] = []
    async with penstock(config_for(NOWHERE)) as proxy:
        for url in (proxy.url, proxy.admin_url):
            for raw in asked:
                async with raw_client(url) as client:
                    client.send(raw)
                    found.append(await client.answer())

    assert {answer.headers.get("server", NAME) for answer in found} == {NAME}
    assert [a.head for a in found if b"aiohttp" in (a.head + a.body).lower()] == []


async def test_a_handler_that_breaks_is_nobodys_business_but_the_logs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(_: web.BaseRequest) -> web.StreamResponse:
        raise ValueError("canary")

    runner = web.ServerRunner(Server(broken))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with raw_client(f"http://{host}:{port}") as client:
        client.send(LIST)
        (answer,) = await client.answers()
    await runner.cleanup()

    assert (answer.status, error_of(answer)["message"]) == (500, "internal error")
    assert "canary" in caplog.text


def test_aiohttp_still_has_what_the_server_takes_from_it() -> None:
    names = {name for each in web.RequestHandler.__mro__ for name in vars(each)}

    assert {"_messages", "_waiter", "_current_request"} <= names
    assert {"connected", "force_close", "finish_response", "handle_error"} <= names
    assert Connection.__slots__  # no dictionary for each connection


# -- bodies nobody wants


@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_what_was_refused_may_not_be_pushed_on(framing: str) -> None:
    most = 512 * 1024 * 1024
    async with connected(limits={"maxBodyBytes": 1024}) as (proxy, _):
        host, port = proxy.url.removeprefix("http://").split(":")
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (host, int(port)))
        if framing == "length":
            await loop.sock_sendall(sock, HEAD + b"Content-Length: %d\r\n\r\n" % most)
        else:
            await loop.sock_sendall(sock, CHUNKED + b"%x\r\n" % most)
        sent = 0
        piece = b" " * 1024 * 1024
        try:
            while sent < most:
                await loop.sock_sendall(sock, piece)
                sent += len(piece)
        except ConnectionError:
            pass
        finally:
            sock.close()
        (line,) = await proxy.ended()

    assert line.status == 413
    assert sent < 64 * 1024 * 1024  # what is dropped, and what the kernel's buffers hold


async def test_a_client_that_sends_all_before_it_reads_is_told() -> None:
    async with connected(clients=[{"name": "a", "key": "good"}]) as (proxy, _):
        sdk = openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="bad", max_retries=0)
        picture = "a" * 16 * 1024 * 1024
        async with sdk:
            with pytest.raises(openai.AuthenticationError):
                await sdk.chat.completions.create(
                    model=MODEL, messages=[{"role": "user", "content": picture}]
                )


async def test_who_still_sends_gets_to_read_why_that_is_in_vain() -> None:
    async with connected(limits={"maxBodyBytes": 1024}) as (_, client):
        client.send(HEAD + b"Content-Length: 50000\r\n\r\n")
        answer = await client.answer()
        client.send(b" " * 50_000)
        rest = await client.rest()

    assert (answer.status, rest) == (413, b"")


# -- heads that do not come

SOON = 0.2


@pytest.mark.parametrize(
    "sent",
    [b"", b"G", b"GET /v1/models HTTP/1.1\r\nHost: penstock\r\nX-A: "],
    ids=["nothing", "a letter", "half a head"],
)
@pytest.mark.parametrize("listener", ["clients", "operators"])
async def test_a_head_that_does_not_come_is_not_waited_for(
    sent: bytes, listener: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.api.server.HEAD_SECONDS", SOON)
    async with (
        asyncio.timeout(LATE),
        penstock(config_for(NOWHERE)) as proxy,
        raw_client(proxy.url if listener == "clients" else proxy.admin_url) as client,
    ):
        client.send(sent)

        assert await client.rest() == b""


async def test_a_head_that_drips_in_gets_no_more_time_than_one_that_does_not_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.api.server.HEAD_SECONDS", SOON)
    async with connected() as (_, client), asyncio.TaskGroup() as group:
        dripping = group.create_task(drip(client))

        assert await client.rest() == b""
        dripping.cancel()


async def drip(client: RawClient) -> None:
    """A head without an end, byte by byte."""
    client.send(b"GET /v1/models HTTP/1.1\r\nHost: penstock\r\nX-A: ")
    while True:
        client.send(b"a")
        await asyncio.sleep(SOON / 20)


async def test_the_next_head_on_a_connection_gets_no_more_time_than_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.api.server.HEAD_SECONDS", SOON)
    async with connected() as (_, client), asyncio.TaskGroup() as group:
        client.send(LIST)
        first = await client.answer()
        dripping = group.create_task(drip(client))
        rest = await client.rest()
        dripping.cancel()

    assert (first.status, rest) == (200, b"")


async def test_a_connection_between_two_requests_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.api.server.HEAD_SECONDS", SOON)
    async with connected() as (_, client):
        client.send(LIST)
        first = await client.answer()
        await asyncio.sleep(3 * SOON)  # nothing is to happen, and that has no event
        client.send(LIST)
        second = await client.answer()

    assert (first.status, second.status) == (200, 200)


async def test_a_model_may_take_longer_than_a_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.api.server.HEAD_SECONDS", SOON)
    async with (
        asyncio.timeout(LATE),
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, BODY)
        up = await upstream.accept()
        await up.request()
        await asyncio.sleep(3 * SOON)  # as above
        up.send(response(WHOLE))

        assert (await client.answer()).status == 200


async def test_a_thousand_that_say_nothing_keep_nobody_from_asking() -> None:
    async with (
        asyncio.timeout(60),
        Upstream(same(response(WHOLE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        AsyncExitStack() as stack,
    ):
        for number in range(1000):
            client = await stack.enter_async_context(raw_client(proxy.url))
            client.send(b"POST / HTTP/1.1\r\n"[: number % 18])
        statuses = {(await proxy.ask(CHAT, BODY))[0] for _ in range(50)}

    assert statuses == {200}


# -- how many


async def test_a_connection_serves_so_many_requests_and_says_which_is_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.api.server.MAX_REQUESTS", 3)
    async with connected() as (_, client):
        client.send(LIST * 5)
        found = await client.answers()

    assert [answer.status for answer in found] == [200, 200, 200]
    assert [answer.headers.get("connection") for answer in found] == [None, None, "close"]


async def test_the_last_answer_of_a_model_says_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.api.server.MAX_REQUESTS", 2)
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.send(post(CHAT, BODY) * 3)
        found = await client.answers()

    assert [answer.headers.get("connection") for answer in found] == [None, "close"]


FILES = 264  # of which clients get a hundred
LIMITED = f"""
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({FILES}, {FILES}))
sys.argv[0] = "penstock"
runpy.run_module("proxy", run_name="__main__")
"""


async def test_more_clients_than_files_cost_a_line_a_second_and_no_probe(tmp_path: Path) -> None:
    config = tmp_path / "config.jsonc"
    config.write_bytes(msgspec.json.encode(config_for(NOWHERE)))
    ports = ("--port", "0", "--admin-port", "0")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LIMITED, "serve", "--config", str(config), *ports), stdout=PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        stack.push_async_callback(killed, process)
        events = await listening(process.stdout)
        clients = [
            await stack.enter_async_context(raw_client(events[-1]["clients"])) for _ in range(300)
        ]
        refused = [await client.answer() for client in clients[100:]]
        clients[0].send(LIST)
        served = await clients[0].answer()
        probe = await stack.enter_async_context(raw_client(events[-1]["admin"]))
        probe.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        alive = await probe.answer()
        process.terminate()
        events += [msgspec.json.decode(line) async for line in process.stdout]

    assert {(answer.status, answer.headers["connection"]) for answer in refused} == {(503, "close")}
    assert error_of(refused[0])["code"] == "overloaded"
    assert (served.status, alive.status) == (200, 200)
    words = [event for event in events if event["event"] == "full"]
    assert 1 <= len(words) < 20
    assert words[0]["connections"] == (FILES - 64) // 2


async def listening(log: asyncio.StreamReader) -> list[dict[str, Any]]:
    """What it logs until it listens."""
    events = []
    async for line in log:
        events.append(msgspec.json.decode(line))
        if events[-1]["event"] == "listening":
            break
    return events


# -- a penstock that leaves


@pytest.mark.parametrize("kept", [False, True], ids=["new connection", "kept connection"])
async def test_who_comes_after_the_deadline_of_a_drain_is_told_and_booked_as_drained(
    kept: bool,
) -> None:
    drain = {"graceSeconds": 0, "deadlineSeconds": 0.05}
    async with connected(drain=drain) as (proxy, client):
        if kept:
            client.send(LIST)
            await client.answer()
        await proxy.service.drain()  # nothing runs, so that only the deadline is to be waited for
        await asyncio.sleep(0.1)
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY))
        (answer,) = await client.answers()
        (line,) = await proxy.ended()

    assert (answer.status, answer.headers["connection"]) == (503, "close")
    assert (line.outcome, line.phase, line.status) == ("drained", "admit", 503)


async def test_who_comes_while_the_listener_closes_is_no_client_that_went() -> None:
    drain = {"graceSeconds": 0, "deadlineSeconds": 0.05}
    async with connected(drain=drain) as (proxy, client):
        client.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY))
        while not proxy.service.in_flight:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.005)
        await proxy.penstock.drain()
        (answer,) = await client.answers()
        (line,) = await proxy.ended()

    assert answer.status == 503
    assert (line.outcome, line.phase, line.status) == ("drained", "admit", 503)


# -- guessing keys


async def test_guessing_keys_does_not_fill_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.service.WRONG_KEYS_PER_SECOND", 3)
    async with connected(clients=[{"name": "a", "key": "good"}]) as (proxy, _):
        guesses = [{"x-api-key": f"guess-{number}"} for number in range(20)]
        statuses = [(await proxy.ask(CHAT, BODY, headers=each))[0] for each in guesses]
        page = await proxy.metrics()
        lines = proxy.lines()

        assert b"guess" not in proxy.written()

    assert statuses == [401] * 20
    assert 3 <= len(lines) < 20  # three in each second that it took
    assert (
        'penstock_faults_total{kind="unauthenticated",origin="client",phase="admit"} 20.0' in page
    )


async def test_who_failed_to_guess_must_connect_anew() -> None:
    async with connected(clients=[{"name": "a", "key": "good"}]) as (_, client):
        client.send(post(CHAT, BODY, "X-Api-Key: guess") + post(CHAT, BODY, "X-Api-Key: good"))
        (answer,) = await client.answers()

    assert (answer.status, answer.headers["connection"]) == (401, "close")
