"""The five waits for a model server, and the one for a client that does not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import msgspec
import pytest

from tests.e2e.frames import DONE, FINISH, ROLE, TOKEN, in_reads
from tests.e2e.rawclient import post, raw_client
from tests.harness import Line, Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk

CHAT = "/v1/chat/completions"
SOON = 0.2  # what a test waits for
LATE = 5.0  # what it must not have waited for


def timed(url: str, **seconds: float) -> dict[str, Any]:
    """A configuration with these waits, the others out of the way."""
    return config_for(url, penstock={"timeouts": {f"{k}Seconds": v for k, v in seconds.items()}})


async def asked(
    upstream_url: str, *, stream: bool = True, **seconds: float
) -> tuple[int, bytes, Line]:
    async with asyncio.timeout(LATE), penstock(timed(upstream_url, **seconds)) as proxy:
        status, body = await proxy.ask(CHAT, chat(stream=stream))
        (line,) = await proxy.ended()
    return status, body, line


def code(body: bytes) -> object:
    return msgspec.json.decode(body)["error"]["code"]


# Before the first byte: a real status


@contextmanager
def deaf() -> Iterator[str]:
    """An address whose queue of connections is full, so that the kernel ignores who comes."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()
        queued = [socket.socket() for _ in range(4)]
        for each in queued:
            each.setblocking(False)
            each.connect_ex(address)
        try:
            yield f"http://127.0.0.1:{address[1]}"
        finally:
            for each in queued:
                each.close()


async def test_a_connection_that_is_never_made_times_out() -> None:
    with deaf() as url:
        status, body, line = await asked(url, connect=SOON)

    assert (status, code(body)) == (504, "timeout_connect")
    assert (line.outcome, line.phase, line.status) == ("timeout_connect", "connect", 504)


async def test_a_handshake_that_never_comes_times_out() -> None:
    async with Upstream() as upstream:
        status, body, line = await asked(upstream.url.replace("http:", "https:"), connect=SOON)

        await (await upstream.accept()).gone()
        assert (status, code(body), line.outcome) == (504, "timeout_connect", "timeout_connect")


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_that_never_comes_times_out(stream: bool) -> None:
    async with Upstream() as upstream:
        status, body, line = await asked(upstream.url, stream=stream, headers=SOON)

        await (await upstream.accept()).gone()
        assert (status, code(body)) == (504, "timeout_headers")
        assert (line.outcome, line.phase, line.attempts) == ("timeout_headers", "connect", 1)


async def test_role_chunks_and_comments_are_no_first_token() -> None:
    async def chatty(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD)
        while True:
            up.send(chunk(ROLE) + chunk(b": still here\n\n"))
            await up.pause()

    async with Upstream(chatty) as upstream:
        status, body, line = await asked(upstream.url, firstToken=SOON, idle=60.0)

    assert (status, code(body)) == (504, "timeout_first_token")
    assert (line.outcome, line.phase) == ("timeout_first_token", "stream")


@pytest.mark.parametrize("stream", [True, False])
async def test_the_total_wait_runs_before_the_first_byte_too(stream: bool) -> None:
    async with Upstream() as upstream:
        status, body, line = await asked(upstream.url, stream=stream, total=SOON)

        assert (status, code(body), line.outcome) == (504, "timeout_total", "timeout_total")


async def test_the_total_wait_runs_while_a_connection_is_made() -> None:
    with deaf() as url:
        status, body, line = await asked(url, total=SOON, connect=60.0)

    assert (status, code(body), line.outcome) == (504, "timeout_total", "timeout_total")


# After it: an error frame


def told_after(sent: bytes, body: bytes) -> object:
    """The code of the one error frame that follows what was sent."""
    assert body.startswith(sent)
    frame = body.removeprefix(sent)
    assert frame.startswith(b"data: ")
    assert frame.count(b"\n\n") == 1
    return code(frame.removeprefix(b"data: "))


async def test_a_stream_that_falls_silent_times_out() -> None:
    async def silent(up: Conversation) -> None:
        await up.request()
        await in_reads(up, [TOKEN])
        await up.gone()

    async with Upstream(silent) as upstream:
        status, body, line = await asked(upstream.url, idle=SOON, firstToken=60.0)

    assert (status, told_after(TOKEN, body)) == (200, "timeout_idle")
    assert (line.outcome, line.phase, line.status) == ("timeout_idle", "stream", 200)


async def test_comments_do_not_keep_a_stream_alive() -> None:
    async def chatty(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN))
        while True:
            up.send(chunk(b": still here\n\n"))
            await up.pause()

    async with Upstream(chatty) as upstream:
        status, body, line = await asked(upstream.url, idle=SOON)

    assert status == 200
    assert body.endswith(b"\n\n")
    *_, last, _ = body.split(b"\n\n")
    assert code(last.removeprefix(b"data: ")) == "timeout_idle"
    assert line.outcome == "timeout_idle"


async def test_a_stream_that_never_ends_times_out() -> None:
    async def endless(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD)
        while True:
            up.send(chunk(TOKEN))
            await up.pause()

    async with Upstream(endless) as upstream:
        status, body, line = await asked(upstream.url, total=SOON)

    tokens = body.count(TOKEN)
    assert tokens > 1
    assert (status, told_after(TOKEN * tokens, body)) == (200, "timeout_total")
    assert line.outcome == "timeout_total"


# A client that does not read

BIG = TOKEN.replace(b"Hi", b"x" * 200_000)
COUNT = 320  # 64 MB: no kernel's buffers hold that


class Flood:
    """An upstream that sends as fast as it is let, and counts."""

    def __init__(self) -> None:
        self.sent = 0
        self.left = False

    async def __call__(self, up: Conversation) -> None:
        await up.request()
        try:
            up.send(STREAM_HEAD)
            while self.sent < COUNT:
                up.send(chunk(BIG))
                await up.pause()
                self.sent += 1
            up.send(chunk(FINISH + DONE) + LAST_CHUNK)
            await up.gone()
        finally:
            self.left = True

    async def stuck(self) -> None:
        """Until nothing more can be sent; being stuck has no event, so time must tell."""
        before = -1
        while self.sent != before:
            before = self.sent
            await asyncio.sleep(0.3)


@asynccontextmanager
async def flooding(flood: Flood) -> AsyncIterator[str]:
    async with Upstream(flood) as upstream:
        yield upstream.url


async def test_a_client_that_stops_reading_stops_the_model_server_and_can_go_on() -> None:
    flood = Flood()
    async with (
        flooding(flood) as url,
        penstock(timed(url, idle=SOON)) as proxy,
        raw_client(proxy.url, receive_bytes=16 * 1024) as client,
    ):
        client.ask(CHAT, chat())
        await flood.stuck()
        held = flood.sent * len(BIG)
        got = await client.answer()
        (line,) = await proxy.ended()

    assert 0 < held < 16 * 1024 * 1024  # what two sockets' buffers take in, and no more
    assert got.body == BIG * COUNT + FINISH + DONE
    assert line.outcome == "complete"


async def test_a_client_that_never_reads_again_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.reply.SLOW_READER_SECONDS", SOON)
    flood = Flood()
    async with (
        flooding(flood) as url,
        penstock(timed(url)) as proxy,
        raw_client(proxy.url, receive_bytes=16 * 1024) as client,
    ):
        client.ask(CHAT, chat())
        (line,) = await proxy.ended()
        await flood.stuck()

        assert line.outcome == "client_gone"
        assert flood.left
        assert not (await client.rest()).endswith(b"0\r\n\r\n")


async def test_what_a_client_never_reads_is_not_kept_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.reply.SLOW_READER_SECONDS", SOON)
    flood = Flood()
    async with (
        flooding(flood) as url,
        penstock(timed(url)) as proxy,
        raw_client(proxy.url, receive_bytes=16 * 1024) as client,
    ):
        client.ask(CHAT, chat())
        await proxy.ended()

        await without_connections(proxy)


async def test_a_client_that_asks_and_asks_and_reads_nothing_is_not_answered_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.reply.SLOW_READER_SECONDS", SOON)
    async with (
        Upstream() as upstream,
        penstock(timed(upstream.url)) as proxy,
        raw_client(proxy.url, receive_bytes=4 * 1024) as client,
    ):
        client.send(post(CHAT, b"{") * 50_000)

        await without_connections(proxy)
        answered = len(proxy.lines())

    assert 0 < answered < 50_000


async def without_connections(proxy: Proxy) -> None:
    """Until no client is connected any more."""
    server = proxy.penstock.clients.server
    assert server is not None
    async with asyncio.timeout(LATE):
        while server.connections:  # noqa: ASYNC110 - there is no event for it
            await asyncio.sleep(0.01)
