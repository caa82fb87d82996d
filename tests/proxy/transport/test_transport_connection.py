"""One exchange on one connection: its endings, its flags, back-pressure, TLS and unix sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.origin import parse_origin
from proxy.transport import Connection, Pool, TransportError, client_tls
from tests.proxy.transport.recorder import Recorder, ask, closed, exchange, pool_for, start
from tests.scripted import (
    LAST_CHUNK,
    STREAM_HEAD,
    Conversation,
    Upstream,
    chunk,
    make_certificate,
    response,
)

MEGABYTE = 1024 * 1024


async def answer_all(up: Conversation) -> None:
    async for _ in up.requests():
        up.send(response(b"hi"))


# Broken endings


async def test_a_clean_close_within_a_chunk_is_a_truncation() -> None:
    done = await exchange(STREAM_HEAD + b"10\r\nhalf a ch", then="close")

    assert done.receiver.calls == ["head", "data", "end"]
    assert (done.receiver.body, done.ended) == (b"half a ch", "truncated")


async def test_a_clean_close_between_chunks_is_a_truncation() -> None:
    done = await exchange(STREAM_HEAD + chunk(b"data: x\n\n"), then="close")

    assert (done.receiver.body, done.ended) == (b"data: x\n\n", "truncated")


async def test_a_reset_within_a_chunk_is_a_reset() -> None:
    done = await exchange(STREAM_HEAD + b"10\r\nhalf a ch", then="reset")

    assert (done.receiver.body, done.ended) == (b"half a ch", "reset")
    assert isinstance(done.receiver.errors[0], TransportError)


async def test_a_body_shorter_than_its_length_is_a_truncation() -> None:
    done = await exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort", then="close")

    assert (done.receiver.body, done.ended) == (b"short", "truncated")


async def test_a_reset_of_a_body_without_framing_is_not_its_end() -> None:
    done = await exchange(b"HTTP/1.1 200 OK\r\n\r\nhalf", then="reset")

    assert (done.receiver.body, done.ended) == (b"half", "reset")


@pytest.mark.parametrize("head", [b"", b"HT", b"HTTP/1.1 200 OK\r\nX: y\r\n"])
async def test_a_close_before_the_head_is_complete_is_a_truncation(head: bytes) -> None:
    done = await exchange(*[head] if head else [], then="close")

    assert done.receiver.calls == ["end"]
    assert done.ended == "truncated"


async def test_a_close_before_any_byte_shows_in_the_flags() -> None:
    async with Upstream() as upstream:
        connection = await pool_for(upstream.url).acquire()
        up = await upstream.accept()
        receiver = start(connection)
        await up.request()
        up.close()

        assert await receiver.ended() == "truncated"
        assert (connection.reused, connection.response_started) == (False, False)
        assert connection.request_sent


# Our own endings


class Hangup(Recorder):
    """Aborts from within one call."""

    def __init__(self, connection: Connection, call: str) -> None:
        super().__init__()
        self._connection = connection
        self._call = call

    def _note(self, call: str) -> None:
        super()._note(call)
        if call == self._call:
            self._connection.abort()


@pytest.mark.parametrize(
    ("call", "heard"),
    [("head", ["head"]), ("data", ["head", "data"]), ("end", ["head", "data", "end"])],
)
async def test_an_abort_from_within_is_the_last_call(call: str, heard: list[str]) -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        receiver = Hangup(connection, call)
        connection.send(b"GET / HTTP/1.1\r\n\r\n", b"", receiver)
        up = await upstream.accept()
        await up.request()

        up.send(STREAM_HEAD + chunk(b"x") + LAST_CHUNK)
        await up.gone()

        assert receiver.calls == heard
        assert pool.idle == 0


async def test_an_abort_closes_the_upstream_and_calls_nothing() -> None:
    async with Upstream() as upstream:
        connection = await pool_for(upstream.url).acquire()
        up = await upstream.accept()
        receiver = start(connection)
        await up.request()
        up.send(STREAM_HEAD + chunk(b"x"))
        await receiver.told("data")

        connection.abort()
        connection.abort()
        await up.gone()

        assert receiver.calls == ["head", "data"]


async def test_a_request_on_a_connection_that_closed_ends_soon_but_not_at_once() -> None:
    async with Upstream() as upstream:
        connection = await pool_for(upstream.url).acquire()
        up = await upstream.accept()
        up.close()
        await closed(connection)

        receiver = start(connection)

        assert receiver.calls == []
        assert await receiver.ended() == "truncated"
        assert not connection.request_sent


async def test_one_request_at_a_time() -> None:
    async with Upstream() as upstream:
        connection = await pool_for(upstream.url).acquire()
        start(connection)

        with pytest.raises(RuntimeError, match="still being read"):
            start(connection)

        connection.abort()


# Requests


async def test_the_request_arrives_as_written() -> None:
    async with Upstream(answer_all) as upstream:
        connection = await pool_for(upstream.url).acquire()
        receiver = Recorder()
        head = b"POST /v1?q=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n"

        connection.send(head, b"{}", receiver)
        await receiver.ended()

        assert upstream.requests[0].head == head
        assert upstream.requests[0].body == b"{}"


async def test_a_large_request_is_sent_when_the_upstream_has_read_it() -> None:
    body = bytes(8 * MEGABYTE)
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()

        receiver = start(connection, body)
        sent_at_once = connection.request_sent
        assert (await up.request()).body == body
        sent_at_last = connection.request_sent
        up.send(response(b"got it"))

        assert await receiver.ended() == "whole"
        assert (sent_at_once, sent_at_last) == (False, True)
        assert pool.idle == 1


async def test_a_response_that_overtakes_its_request_is_delivered_and_ends_the_connection() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        up_side = upstream.accept()
        connection = await pool.acquire()
        up = await up_side

        receiver = start(connection, bytes(8 * MEGABYTE))
        await up.request_head()
        up.send(response(b"no", status=413))

        assert await receiver.ended() == "whole"
        assert (receiver.status, receiver.body) == (413, b"no")
        assert (pool.idle, pool.distrusted) == (0, False)
        await up.gone()


# Back-pressure


async def test_a_paused_connection_stops_the_upstream_and_loses_nothing() -> None:
    async with Upstream() as upstream:
        connection = await pool_for(upstream.url).acquire()
        up = await upstream.accept()
        receiver = start(connection)
        await up.request()
        up.send(STREAM_HEAD + chunk(b"first"))
        await receiver.told("data")

        connection.pause_reading()
        up.send(chunk(bytes(16 * MEGABYTE)) + LAST_CHUNK)
        for _ in range(100):
            await asyncio.sleep(0)
        assert receiver.reads == [b"first"]

        connection.resume_reading()
        assert await receiver.ended() == "whole"
        assert len(receiver.body) == 16 * MEGABYTE + 5


class PauseAtOnce(Recorder):
    """Pauses at the first data."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        self._connection.pause_reading()


async def test_a_connection_is_not_kept_paused() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()
        receiver = PauseAtOnce(connection)
        connection.send(b"GET / HTTP/1.1\r\n\r\n", b"", receiver)
        await up.request()
        up.send(response(b"x"))
        await receiver.ended()
        connection.pause_reading()  # too late: nothing happens
        connection.resume_reading()

        up.close()
        await closed(connection)

        assert pool.idle == 0


# Sockets


def client_sockets(port: int) -> Iterator[socket.socket]:
    """This process's own ends of connections to that port."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as sock:
            if sock.getpeername()[1:2] == (port,):
                yield sock


async def test_small_writes_are_not_held_back() -> None:
    async with Upstream() as upstream:
        connection = await pool_for(upstream.url).acquire()

        nodelay = [
            sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for sock in client_sockets(upstream.port)
        ]

        assert len(nodelay) == 1
        assert nodelay[0] != 0
        connection.abort()


async def test_ipv6_and_names_are_reached() -> None:
    async with Upstream(answer_all, host="::1") as upstream:
        assert (await ask(pool_for(upstream.url))).body == b"hi"
    async with Upstream(answer_all) as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")
        assert (await ask(pool_for(url))).body == b"hi"


async def test_unix_sockets_are_reached_and_kept(tmp_path: Path) -> None:
    async with Upstream(answer_all, uds=tmp_path / "model.sock") as upstream:
        pool = pool_for(upstream.url)

        assert (await ask(pool)).body == b"hi"
        assert (await ask(pool)).body == b"hi"

        assert upstream.connections == 1
        pool.close()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "unix:/nowhere/model.sock", "http://no-such-host.invalid"]
)
async def test_what_cannot_be_reached_is_unreachable(url: str) -> None:
    with pytest.raises(TransportError, match="cannot connect") as caught:
        await pool_for(url).acquire()

    assert caught.value.kind == "unreachable"


async def test_a_wait_for_a_connection_can_be_limited() -> None:
    async with Upstream() as upstream:
        pool = Pool(parse_origin(upstream.url.replace("http:", "https:")))  # says no hello

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await pool.acquire()

        await (await upstream.accept()).gone()


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


async def test_tls_connections_speak_http_1_1_and_are_kept(
    certificate: tuple[ssl.SSLContext, str],
) -> None:
    server, trusted = certificate
    server.set_alpn_protocols(["h2", "http/1.1"])
    protocols: list[str | None] = []

    async def script(up: Conversation) -> None:
        protocols.append(up.alpn)
        await answer_all(up)

    async with Upstream(script, tls=server) as upstream:
        pool = Pool(parse_origin(upstream.url), tls=client_tls(trusted))
        answers = [(await ask(pool)).body for _ in range(3)]
        pool.close()

    assert answers == [b"hi"] * 3
    assert protocols == ["http/1.1"]


async def test_an_unknown_certificate_is_unreachable(
    certificate: tuple[ssl.SSLContext, str],
) -> None:
    async with Upstream(answer_all, tls=certificate[0]) as upstream:
        with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED") as caught:
            await pool_for(upstream.url).acquire()

    assert caught.value.kind == "unreachable"


async def test_a_certificate_for_another_name_is_unreachable(
    certificate: tuple[ssl.SSLContext, str],
) -> None:
    server, trusted = certificate
    async with Upstream(answer_all, tls=server, host="127.0.0.2") as upstream:
        with pytest.raises(TransportError, match="CERTIFICATE_VERIFY_FAILED"):
            await Pool(parse_origin(upstream.url), tls=client_tls(trusted)).acquire()


async def test_a_tls_connection_closed_within_a_body_is_a_truncation(
    certificate: tuple[ssl.SSLContext, str],
) -> None:
    server, trusted = certificate

    async def script(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD + chunk(b"x"))

    async with Upstream(script, tls=server) as upstream:
        pool = Pool(parse_origin(upstream.url), tls=client_tls(trusted))
        receiver = start(await pool.acquire())

        assert await receiver.ended() == "truncated"
        assert receiver.body == b"x"


async def test_a_large_body_over_tls_is_whole(certificate: tuple[ssl.SSLContext, str]) -> None:
    server, trusted = certificate

    async def script(up: Conversation) -> None:
        async for request in up.requests():
            up.send(response(request.body))

    async with Upstream(script, tls=server) as upstream:
        pool = Pool(parse_origin(upstream.url), tls=client_tls(trusted))
        receiver = start(await pool.acquire(), bytes(4 * MEGABYTE))

        assert await receiver.ended() == "whole"
        assert len(receiver.body) == 4 * MEGABYTE
        assert pool.idle == 1
        pool.close()
