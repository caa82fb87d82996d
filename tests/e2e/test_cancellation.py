"""A client that leaves frees its model server at once, in whatever phase."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import pytest

from parsers.events import FaultKind
from proxy.errors import upstream_fault
from proxy.exchange import Exchange
from tests.e2e.frames import DONE, FINISH, ROLE, TOKEN, in_reads
from tests.e2e.rawclient import RawClient, post, raw_client
from tests.harness import Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk

CHAT = "/v1/chat/completions"
AT_ONCE = 0.1  # seconds; what a GPU may go on working for nobody

# Brings a request to the phase in which its client will leave.
Stage: TypeAlias = Callable[[Conversation, RawClient], Awaitable[None]]


async def before_headers(up: Conversation, _: RawClient) -> None:
    await up.request()


async def before_the_first_token(up: Conversation, _: RawClient) -> None:
    await up.request()
    await in_reads(up, [ROLE])


async def in_mid_stream(up: Conversation, client: RawClient) -> None:
    await up.request()
    await in_reads(up, [TOKEN])
    await client.read_until(TOKEN)


async def between_two_reads_of_a_frame(up: Conversation, client: RawClient) -> None:
    await in_mid_stream(up, client)
    up.send(chunk(TOKEN[:20]))
    await up.pause()


async def in_the_body(up: Conversation, _: RawClient) -> None:
    await up.request()
    up.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await up.pause()


async def closed_within(up: Conversation, client: RawClient) -> float:
    """The client hangs up; how long until the upstream sees it."""
    loop = asyncio.get_running_loop()
    left = loop.time()
    client.hang_up()
    await up.gone()
    return loop.time() - left


async def balanced(proxy: Proxy, outcome: str) -> None:
    """One request has ended like this, and nothing is held any more."""
    (line,) = await proxy.ended()
    assert line.outcome == outcome
    page = await proxy.metrics()
    assert "penstock_requests_in_flight 0.0\n" in page
    (endpoint,) = (line for line in page.splitlines() if line.startswith("penstock_endpoint_in"))
    assert endpoint.endswith(" 0.0")
    ends = [line for line in page.splitlines() if line.startswith("penstock_requests_total")]
    assert len(ends) == 1
    assert f'outcome="{outcome}"' in ends[0]
    assert ends[0].endswith(" 1.0")
    assert len(proxy.service.sweep) == 0


@pytest.mark.parametrize(
    ("stage", "stream"),
    [
        (before_headers, True),
        (before_the_first_token, True),
        (in_mid_stream, True),
        (between_two_reads_of_a_frame, True),
        (before_headers, False),
        (in_the_body, False),
    ],
)
async def test_leaving_closes_the_upstream_connection_at_once(stage: Stage, stream: bool) -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat(stream=stream))
        up = await upstream.accept()
        await stage(up, client)

        assert await closed_within(up, client) < AT_ONCE
        await balanced(proxy, "client_gone")


async def test_leaving_ends_a_connection_attempt() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url.replace("http:", "https:"))) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()  # the handshake is never answered

        assert await closed_within(up, client) < AT_ONCE
        await balanced(proxy, "client_gone")


async def test_leaving_before_the_request_is_whole_reaches_no_upstream() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.send(post(CHAT, chat())[:-5])
        while "penstock_requests_in_flight 1.0\n" not in await proxy.metrics():
            pass  # a request that has come in is no event
        client.hang_up()

        await balanced_without_endpoint(proxy)
        assert upstream.connections == 0


async def balanced_without_endpoint(proxy: Proxy) -> None:
    (line,) = await proxy.ended()
    assert (line.outcome, line.phase, line.attempts) == ("client_gone", "admit", 0)
    assert "penstock_requests_in_flight 0.0\n" in await proxy.metrics()


async def test_leaving_right_after_the_end_mark_is_complete() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.ask(CHAT, chat())
        up = await upstream.accept()
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN) + chunk(FINISH + DONE))  # and no last chunk
        await client.read_until(DONE)

        assert await closed_within(up, client) < AT_ONCE
        await balanced(proxy, "complete")


async def test_leaving_one_stream_leaves_the_others_alone() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as leaver,
        raw_client(proxy.url) as stayer,
    ):
        leaver.ask(CHAT, chat())
        gone = await upstream.accept()
        await in_mid_stream(gone, leaver)
        stayer.ask(CHAT, chat())
        up = await upstream.accept()
        await in_mid_stream(up, stayer)

        assert await closed_within(gone, leaver) < AT_ONCE
        up.send(chunk(FINISH + DONE) + LAST_CHUNK)
        assert (await stayer.read_until(DONE)).endswith(FINISH + DONE)
        lines = await proxy.ended(2)
        assert [line.outcome for line in lines] == ["client_gone", "complete"]


async def test_a_drain_does_not_rewrite_an_ending_that_is_settled() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        async with asyncio.TaskGroup() as group:
            asked = group.create_task(proxy.ask(CHAT, chat()))
            await (await upstream.accept()).request()
            (running,) = proxy.service._running
            assert isinstance(running, Exchange)
            assert running._attempts is not None
            assert running._attempts.relay is not None

            running._attempts.relay.fail(upstream_fault(FaultKind.OVERLOADED, "full"))
            running.drain()  # before the handler has heard of it
        (line,) = await proxy.ended()

    assert (asked.result()[0], line.outcome) == (503, "upstream_error")


async def test_a_request_is_let_go_once_it_was_answered() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        tracemalloc.start()
        try:
            client.ask(CHAT, chat("x" * 4_000_000))
            up = await upstream.accept()
            await up.request()
            await in_reads(up, [TOKEN])
            await client.read_until(TOKEN)
            ours = tracemalloc.Filter(True, "*/proxy/*")
            held = tracemalloc.take_snapshot().filter_traces([ours]).traces
        finally:
            tracemalloc.stop()

    assert max(trace.size for trace in held) < 1_000_000


async def test_an_abandoned_connection_serves_nobody_else() -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as leaver,
        raw_client(proxy.url) as next_one,
    ):
        leaver.ask(CHAT, chat("first"))
        up = await upstream.accept()
        await up.request()
        leaver.hang_up()
        await up.gone()

        next_one.ask(CHAT, chat("second"))
        fresh = await upstream.accept()
        assert b"second" in (await fresh.request()).body
        fresh.send(STREAM_HEAD + chunk(TOKEN + FINISH + DONE) + LAST_CHUNK)
        assert (await next_one.answer()).body == TOKEN + FINISH + DONE
        assert upstream.connections == 2
        await proxy.ended(2)
