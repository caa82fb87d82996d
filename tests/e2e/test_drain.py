"""How penstock leaves: nothing that runs is lost, nothing new is kept, and it goes in time."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.e2e.frames import ANSWER, DONE, FINISH, TOKEN, same, stream
from tests.e2e.program import run, serving
from tests.e2e.rawclient import raw_client
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

CHAT = "/v1/chat/completions"
DRAINED = (
    b'data: {"error":{"message":"the proxy is shutting down","type":"server_error",'
    b'"param":null,"code":"drained"}}\n\n'
)
NOWHERE = "http://127.0.0.1:9"
EX_UNAVAILABLE = 69


def leaving(grace: float, deadline: float = 20, **block: object) -> dict[str, object]:
    """A penstock block that says how to leave."""
    return {"drain": {"graceSeconds": grace, "deadlineSeconds": deadline}, **block}


@asynccontextmanager
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        yield client


async def order(url: str, path: str = "/drain", **headers: str) -> tuple[int, Any]:
    """What the admin listener answers to a POST."""
    async with session() as client, client.post(url + path, headers=headers) as answer:
        body = await answer.read()
        return answer.status, msgspec.json.decode(body) if body.startswith(b"{") else body


async def begun(up: Conversation) -> None:
    """A stream that has begun to answer."""
    await up.request()
    up.send(STREAM_HEAD + chunk(TOKEN))
    await up.pause()


def finish(up: Conversation) -> None:
    """The rest of a stream."""
    up.send(chunk(FINISH + DONE) + LAST_CHUNK)


# -- what runs


async def test_a_hundred_streams_outlive_the_signal_and_the_program_them_by_no_second() -> None:
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url)) as program,
        session() as client,
        asyncio.TaskGroup() as group,
    ):

        async def read() -> bytes:
            body = msgspec.json.encode(chat())
            async with client.post(program.url + CHAT, data=body) as answer:
                return await answer.read()

        bodies = [group.create_task(read()) for _ in range(100)]
        streams = [await upstream.accept() for _ in bodies]
        for up in streams:
            await begun(up)
        program.tell(signal.SIGTERM)
        assert (await program.logged("draining"))["in_flight"] == 100
        for up in streams:
            up.send(chunk(TOKEN))
            finish(up)
        answers = [await each for each in bodies]
        last = asyncio.get_running_loop().time()
        finished = await program.ended()
        took = asyncio.get_running_loop().time() - last

    assert answers == [TOKEN + TOKEN + FINISH + DONE] * 100
    assert finished == (0, "", "")
    assert took < 1
    assert [line["outcome"] for line in program.requests()] == ["complete"] * 100


async def test_a_slow_reader_gets_its_last_byte_before_the_program_leaves() -> None:
    many = TOKEN * 20_000  # more than sockets hold
    async with (
        Upstream(same(stream(many, FINISH + DONE))) as upstream,
        serving(config_for(upstream.url)) as program,
        raw_client(program.url, receive_bytes=4096) as client,
    ):
        client.ask(CHAT, chat())
        got = await client.read_until(TOKEN)
        program.tell(signal.SIGTERM)
        piece = got
        while piece and not program.requests():  # until all has come from the model server
            piece = await client.read_some()
            got += piece
        await asyncio.sleep(1.5)  # it reads slowly
        got += await client.rest()
        finished = await program.ended()

    assert got.endswith(FINISH + DONE + b"\r\n" + LAST_CHUNK)
    assert finished == (0, "", "")


async def test_endless_streams_are_told_at_the_deadline_of_a_drain_that_was_asked_for() -> None:
    config = leaving(grace=0, deadline=0.3)
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=config)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await begun(up)
        await order(proxy.admin_url)
        answer = await client.answer()
        await up.gone()
        (line,) = await proxy.ended()

        assert answer.body == TOKEN + DRAINED
        assert line.outcome == "drained"
        assert (await proxy.status())["in_flight"] == 0  # and it is still there to say so


async def test_who_waits_for_room_is_served_in_the_drain() -> None:
    one_at_a_time = leaving(grace=0, admission={"maxConcurrent": 1})
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=one_at_a_time)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(proxy.ask(CHAT, chat()))
        up = await upstream.accept()
        await begun(up)
        second = group.create_task(proxy.ask(CHAT, chat()))
        await waiting(proxy, 1)
        await order(proxy.admin_url)
        finish(up)
        again = up
        await begun(again)  # the connection is kept
        finish(again)

    assert [first.result(), second.result()] == [(200, TOKEN + FINISH + DONE)] * 2


async def test_who_still_waits_for_room_at_the_deadline_is_told() -> None:
    config = leaving(grace=0, deadline=0.3, admission={"maxConcurrent": 1})
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=config)) as proxy,
        raw_client(proxy.url) as waiter,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(proxy.ask(CHAT, chat()))
        await begun(await upstream.accept())
        waiter.ask(CHAT, chat())
        await waiting(proxy, 1)
        await order(proxy.admin_url)
        refused = await waiter.answer()
        lines = await proxy.ended(2)
        await waiting(proxy, 0)

    assert first.result() == (200, TOKEN + DRAINED)
    assert (refused.status, refused.headers["retry-after"]) == (503, "1")
    assert b'"code":"drained"' in refused.body
    assert [line.outcome for line in lines] == ["drained"] * 2


async def waiting(proxy: Proxy, count: int) -> None:
    """Until so many requests wait for room."""
    while (await proxy.status())["endpoints"][0]["waiting"] != count:  # noqa: ASYNC110 - a page tells
        await asyncio.sleep(0.01)


async def test_a_request_between_two_attempts_is_told_at_the_deadline() -> None:
    busy = response(b'{"error":{"message":"busy"}}', status=503, headers=b"Retry-After: 4\r\n")
    config = leaving(grace=0, deadline=0.3)
    async with (
        Upstream(same(busy)) as one,
        Upstream(same(busy)) as other,
        penstock(config_for([one.url, other.url], penstock=config)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        while not (one.requests and other.requests):  # noqa: ASYNC110 - a list is no event
            await asyncio.sleep(0.01)
        await order(proxy.admin_url)
        answer = await client.answer()
        (line,) = await proxy.ended()

    assert (answer.status, line.outcome, line.attempts) == (503, "drained", 2)


# -- what comes


async def test_new_requests_are_served_for_the_grace_each_as_the_last_on_its_connection() -> None:
    async with (
        Upstream(same(stream(ANSWER))) as upstream,
        penstock(config_for(upstream.url, penstock=leaving(grace=20))) as proxy,
        raw_client(proxy.url) as kept,
        raw_client(proxy.url) as lister,
        raw_client(proxy.url) as prober,
    ):
        kept.ask(CHAT, chat())
        before = await kept.answer()
        await order(proxy.admin_url)
        kept.ask(CHAT, chat())
        lister.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        prober.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        answers = [await each.answer() for each in (kept, lister, prober)]
        rest = [await each.rest() for each in (kept, lister, prober)]

    assert "connection" not in before.headers
    assert [answer.status for answer in answers] == [200, 200, 503]
    assert answers[0].body == ANSWER
    assert [answer.headers["connection"] for answer in answers] == ["close"] * 3
    assert rest == [b""] * 3


async def test_a_stream_that_had_begun_is_the_last_on_its_connection() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=leaving(grace=20))) as proxy,
        raw_client(proxy.url) as begun_before,
        raw_client(proxy.url) as headless,
    ):
        begun_before.ask(CHAT, chat())
        first = await upstream.accept()
        await begun(first)
        await begun_before.read_until(TOKEN)
        headless.ask(CHAT, chat())
        second = await upstream.accept()
        await second.request()
        await order(proxy.admin_url)
        finish(first)
        second.send(stream(ANSWER))

        assert (await begun_before.rest()).endswith(LAST_CHUNK)
        answer = await headless.answer()
        assert (answer.body, answer.headers["connection"]) == (ANSWER, "close")
        assert await headless.rest() == b""


DIALECTS: tuple[tuple[str, object, bytes], ...] = (
    (
        CHAT,
        chat(),
        b'{"error":{"message":"the proxy is shutting down","type":"server_error","param":null,'
        b'"code":"drained"}}',
    ),
    (
        "/generate_stream",
        {"inputs": "hi"},
        b'{"error":"the proxy is shutting down","error_type":"overloaded"}',
    ),
    (
        "/v1/messages",
        {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]},
        b'"type":"overloaded_error"',
    ),
)


@pytest.mark.parametrize(("path", "body", "words"), DIALECTS)
async def test_after_the_grace_new_requests_are_refused_in_their_dialect(
    path: str, body: object, words: bytes
) -> None:
    async with (
        penstock(config_for(NOWHERE, penstock=leaving(grace=0))) as proxy,
        raw_client(proxy.url) as client,
    ):
        await order(proxy.admin_url)
        client.ask(path, body, "anthropic-version: 2023-06-01")
        answer = await client.answer()
        rest = await client.rest()
        (line,) = await proxy.ended()
        page = await proxy.metrics()

    assert answer.status in (503, 529)  # the latter is Anthropic's own word
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["connection"] == "close"
    assert words in answer.body
    assert rest == b""
    assert (line.outcome, line.phase, line.attempts) == ("drained", "admit", 0)
    assert 'outcome="drained"} 1.0' in page


async def test_a_drain_is_told_to_whoever_asks() -> None:
    async with penstock(config_for(NOWHERE, penstock=leaving(grace=20))) as proxy:
        before, quiet = await proxy.status(), await proxy.metrics()
        status, told = await order(proxy.admin_url)
        again = (await order(proxy.admin_url))[1]
        pages = {}
        for path in ("/readyz", "/livez"):
            async with proxy.get_admin(path) as page:
                pages[path] = page.status
        loud = await proxy.metrics()

    assert (before["draining"], before["drain"], before["in_flight"]) == (False, None, 0)
    assert (status, told["draining"], told["in_flight"]) == (202, True, 0)
    assert (told["drain"]["reason"], told["drain"]["refusing"]) == ("POST /drain", False)
    assert 19 < told["drain"]["seconds_left"] <= 20
    assert again["drain"]["since"] == told["drain"]["since"]  # the first word counts
    assert pages == {"/readyz": 503, "/livez": 200}
    assert "penstock_draining 0.0\n" in quiet
    assert "penstock_draining 1.0\n" in loud


async def test_who_watches_is_told_of_a_drain_when_it_begins() -> None:
    async with (
        penstock(config_for(NOWHERE)) as proxy,
        proxy.get_admin("/events") as feed,
    ):
        states: list[dict[str, Any]] = []
        for act in (None, "/reload", "/drain", None):
            if act is not None:
                await order(proxy.admin_url, act)
            elif states:
                break
            line = b""
            while not line.startswith(b"data: "):
                line = await feed.content.readline()
            states.append(msgspec.json.decode(line[6:]))

    assert [state["draining"] for state in states] == [False, False, True]
    assert [state["config"]["reason"] for state in states] == ["start"] + ["POST /reload"] * 2


# -- the program


async def test_a_signal_after_the_order_waits_for_the_grace_and_no_longer() -> None:
    async with (
        Upstream(same(stream(ANSWER))) as upstream,
        serving(config_for(upstream.url, penstock=leaving(grace=1.5))) as program,
        session() as client,
    ):
        loop = asyncio.get_running_loop()
        await order(program.admin_url)
        began = loop.time()
        program.tell(signal.SIGTERM)
        await asyncio.sleep(0.2)  # for the signal to have come
        body = msgspec.json.encode(chat())
        async with client.post(program.url + CHAT, data=body) as answer:
            served = answer.status, await answer.read()
        finished = await program.ended()
        took = loop.time() - began

    assert served == (200, ANSWER)
    assert 1.3 < took < 3
    assert finished == (0, "", "")


async def test_a_signal_after_a_finished_drain_ends_the_program_at_once() -> None:
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url, penstock=leaving(grace=0, deadline=0.3))) as program,
        raw_client(program.url) as client,
        session() as watcher,
        watcher.get(f"{program.admin_url}/events") as feed,
    ):
        await feed.content.readline()
        client.ask(CHAT, chat())
        await begun(await upstream.accept())
        await order(program.admin_url)
        answer = await client.answer()
        assert program.process.returncode is None  # who was not told to stop stays
        told = asyncio.get_running_loop().time()
        program.tell(signal.SIGTERM)
        finished = await program.ended()
        took = asyncio.get_running_loop().time() - told

    assert answer.body == TOKEN + DRAINED
    assert finished == (0, "", "")
    assert took < 1
    assert [line["reason"] for line in program.events if line["event"] == "draining"] == [
        "POST /drain"
    ]


async def test_the_command_line_wins_over_the_deadline_of_the_file() -> None:
    config = config_for(NOWHERE, penstock=leaving(grace=0, deadline=20))
    async with serving(config, "--drain-seconds", "7") as program:
        _, told = await order(program.admin_url)

    assert 6 < told["drain"]["seconds_left"] <= 7


async def test_reloads_in_the_drain_change_nothing_of_it() -> None:
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url, penstock=leaving(grace=0))) as program,
        raw_client(program.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await begun(up)
        await order(program.admin_url)
        for _ in range(20):
            program.tell(signal.SIGHUP)
        program.tell(signal.SIGTERM)
        finish(up)
        answer = await client.answer()
        finished = await program.ended()

    assert answer.body == TOKEN + FINISH + DONE
    assert finished == (0, "", "")


# -- penstock drain


async def test_the_command_returns_once_penstock_was_told() -> None:
    async with penstock(config_for(NOWHERE)) as proxy:
        finished = await run("drain", "--admin", proxy.admin_url)
        status = await proxy.status()

    assert finished == (0, "", "")
    assert status["draining"]


async def test_the_command_waits_until_nothing_runs() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=leaving(grace=0))) as proxy,
        raw_client(proxy.url) as client,
        asyncio.TaskGroup() as group,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await begun(up)
        command = group.create_task(run("drain", "--admin", proxy.admin_url, "--wait"))
        while not proxy.service.draining:  # noqa: ASYNC110 - nor is another process
            await asyncio.sleep(0.01)
        assert not command.done()
        finish(up)

    assert command.result() == (0, "", "")


async def test_the_command_waits_no_longer_than_it_is_told_to() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=leaving(grace=0))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        await begun(await upstream.accept())
        finished = await run("drain", "--admin", proxy.admin_url, "--wait", "0.1")

    assert finished == (1, "", "penstock drain: 1 requests still run\n")


async def test_the_command_waits_no_longer_than_the_deadline() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=leaving(grace=0, deadline=0.5))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        await begun(await upstream.accept())
        finished = await run("drain", "--admin", proxy.admin_url, "--wait")

    assert finished == (0, "", "")


async def test_a_penstock_that_left_meanwhile_has_drained() -> None:
    async with (
        Upstream() as upstream,
        serving(config_for(upstream.url)) as program,
        raw_client(program.url) as client,
        asyncio.TaskGroup() as group,
    ):
        client.ask(CHAT, chat())
        await begun(await upstream.accept())
        command = group.create_task(run("drain", "--admin", program.admin_url, "--wait"))
        await program.logged("draining")
        program.process.kill()

    assert command.result() == (0, "", "")


async def test_a_penstock_that_cannot_be_told_is_an_error() -> None:
    async with penstock(config_for(NOWHERE)) as proxy:
        gone, other, odd = await asyncio.gather(
            run("drain", "--admin", NOWHERE),
            run("drain", "--admin", proxy.url),  # the clients' address
            run("drain", "--admin", "localhost:9090"),
        )

        clients = proxy.url

    assert (gone.status, gone.out) == (EX_UNAVAILABLE, "")
    assert gone.err == f"penstock drain: {NOWHERE} was not told: connection refused\n"
    assert (other.status, other.err) == (
        EX_UNAVAILABLE,
        f"penstock drain: {clients} was not told: it answered 404\n",
    )
    assert odd.status == 2
    assert "--admin: the URL must begin with http://" in odd.err


# -- pages in browsers

ORDERS = ("/drain", "/reload")


@pytest.mark.parametrize("path", ORDERS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},  # a sandboxed frame, or a redirect
        {"Origin": "http://127.0.0.1:9090", "Sec-Fetch-Site": "same-origin"},
        {"Host": "evil.example", "Origin": "http://evil.example"},  # rebound to this address
        {"Host": "evil.example:9090"},
        {"Host": "localhost.evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "[::1].evil.example"},
        {"Host": ""},
    ],
)
async def test_a_page_in_a_browser_gives_no_orders(path: str, headers: dict[str, str]) -> None:
    async with penstock(config_for(NOWHERE)) as proxy:
        status, _ = await order(proxy.admin_url, path, **headers)
        state = await proxy.status()

    assert status == 403
    assert (state["draining"], state["config"]["reason"]) == (False, "start")


@pytest.mark.parametrize("path", ORDERS)
async def test_an_order_is_never_a_link_nor_an_image(path: str) -> None:
    async with penstock(config_for(NOWHERE)) as proxy, proxy.get_admin(path) as answer:
        assert answer.status == 405


async def test_a_page_that_rebinds_its_name_reads_nothing() -> None:
    async with penstock(config_for(NOWHERE)) as proxy:
        for path in ("/status", "/metrics", "/events", "/readyz"):
            async with proxy.get_admin(path, headers={"Host": "evil.example"}) as answer:
                assert answer.status == 403


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:9090", "127.0.0.1", "[::1]:9090", "10.1.2.3:9090"]
)
async def test_operators_and_probes_are_served(host: str) -> None:
    async with penstock(config_for(NOWHERE)) as proxy:
        async with proxy.get_admin("/readyz", headers={"Host": host}) as answer:
            assert answer.status == 200
        assert (await order(proxy.admin_url, "/reload", Host=host))[0] == 200


async def test_a_client_of_http_1_0_needs_no_host() -> None:
    async with penstock(config_for(NOWHERE)) as proxy, raw_client(proxy.admin_url) as client:
        client.send(b"GET /livez HTTP/1.0\r\n\r\n")

        assert (await client.answer()).status == 200
