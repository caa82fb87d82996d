"""When a connection serves again, and when it must not."""

from __future__ import annotations

import asyncio

import pytest

from proxy.origin import parse_origin
from proxy.transport import Connection, Pool, Reuse, TransportError
from tests.proxy.transport.recorder import ask, closed, pool_for, start
from tests.scripted import Conversation, Upstream, response


class Clock:
    """Monotonic seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def answer_all(up: Conversation) -> None:
    async for _ in up.requests():
        up.send(response(b"hi"))


async def turn() -> None:
    """Let the loop read what the kernel holds."""
    for _ in range(3):
        await asyncio.sleep(0)


async def three_at_once(pool: Pool) -> list[Connection]:
    """Three connections that served one request each, in the order of their return."""
    connections = [await pool.acquire() for _ in range(3)]
    for connection in connections:
        await start(connection).ended()
    return connections


# Reuse


async def test_a_thousand_requests_need_one_connection() -> None:
    async with Upstream(answer_all) as upstream:
        pool = pool_for(upstream.url)

        for _ in range(1000):
            assert (await ask(pool)).body == b"hi"

        assert upstream.connections == 1
        pool.close()


async def test_the_last_one_in_is_the_first_one_out() -> None:
    async with Upstream(answer_all) as upstream:
        pool = pool_for(upstream.url)
        first, second, third = await three_at_once(pool)

        assert [await pool.acquire() for _ in range(3)] == [third, second, first]
        assert pool.idle == 0
        for connection in (first, second, third):
            assert connection.reused
            connection.abort()


async def test_fresh_means_new() -> None:
    async with Upstream(answer_all) as upstream:
        pool = pool_for(upstream.url)
        await ask(pool)

        connection = await pool.acquire(fresh=True)

        assert not connection.reused
        assert (upstream.connections, pool.idle) == (2, 1)
        connection.abort()
        pool.close()


# Age and number


async def test_a_connection_idle_for_too_long_is_not_handed_out() -> None:
    clock = Clock()
    async with Upstream(answer_all) as upstream:
        pool = Pool(parse_origin(upstream.url), clock=clock)
        await ask(pool)
        clock.now += 3.9
        await ask(pool)
        assert upstream.connections == 1

        clock.now += 4.0
        await ask(pool)

        assert (upstream.connections, pool.idle) == (2, 1)
        pool.close()


async def test_a_sweep_closes_the_old_and_spares_the_young() -> None:
    clock = Clock()
    async with Upstream(answer_all) as upstream:
        pool = Pool(parse_origin(upstream.url), clock=clock)
        old, young = await pool.acquire(), await pool.acquire()
        await start(old).ended()
        clock.now += 2
        await start(young).ended()

        pool.sweep(clock.now + 2)

        assert (old.closed, young.closed) == (True, False)
        pool.sweep(clock.now + 4)
        assert (young.closed, pool.idle) == (True, 0)


async def test_beyond_its_bound_the_pool_closes_the_oldest() -> None:
    async with Upstream(answer_all) as upstream:
        pool = Pool(parse_origin(upstream.url), reuse=Reuse(idle_connections=2))

        first, second, third = await three_at_once(pool)

        assert pool.idle == 2
        assert [c.closed for c in (first, second, third)] == [True, False, False]
        pool.close()


async def test_a_closed_pool_lets_requests_finish_and_keeps_nothing() -> None:
    async with Upstream(answer_all) as upstream:
        pool = pool_for(upstream.url)
        idle, busy = await pool.acquire(), await pool.acquire()
        await start(idle).ended()
        receiver = start(busy)

        pool.close()

        assert idle.closed
        assert await receiver.ended() == "whole"
        assert (busy.closed, pool.idle) == (True, 0)


# Stale connections


async def close_after_each(up: Conversation) -> None:
    await up.request()
    up.send(response(b"hi"))


async def test_a_connection_that_the_upstream_closed_leaves_the_pool() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()
        receiver = start(connection)
        await up.request()
        up.send(response())
        await receiver.ended()

        up.close()
        await closed(connection)

        assert (pool.idle, pool.distrusted) == (0, False)


async def test_a_close_that_the_loop_has_not_seen_yet_is_seen_by_the_kernel() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()
        receiver = start(connection)
        await up.request()
        up.send(response())
        await receiver.ended()

        up.reset()
        await asyncio.sleep(0)
        was_open = not connection.closed
        other = await pool.acquire()

        assert was_open
        assert other is not connection
        other.abort()


async def test_an_upstream_that_closes_after_each_answer_costs_no_request() -> None:
    async with Upstream(close_after_each) as upstream:
        pool = pool_for(upstream.url)
        stale = 0

        for _ in range(200):
            connection = await pool.acquire()
            receiver = start(connection)
            if await receiver.ended() != "whole":
                stale += 1  # the race that no check can close: then the flags allow a retry
                assert connection.reused
                assert not connection.response_started
                receiver = await ask(pool, fresh=True)
            assert receiver.body == b"hi"

        assert upstream.connections >= 200 - stale
        assert not pool.distrusted


async def test_a_stale_connection_says_that_the_request_may_be_sent_again() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()
        receiver = start(connection)
        await up.request()
        up.send(response())
        await receiver.ended()

        receiver = start(await pool.acquire())  # it is sent, then the upstream closes
        up.close()

        assert await receiver.ended() in {"truncated", "reset"}
        assert (connection.reused, connection.response_started) == (True, False)


async def test_a_reused_connection_that_answered_a_byte_says_that_it_may_not() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()
        receiver = start(connection)
        await up.request()
        up.send(response())
        await receiver.ended()

        receiver = start(await pool.acquire())
        await up.request()
        up.send(b"H")
        await up.pause()
        up.close()

        assert await receiver.ended() == "truncated"
        assert (connection.reused, connection.response_started) == (True, True)


async def test_a_refused_connection_is_an_error_and_the_next_one_may_succeed() -> None:
    async with Upstream(answer_all) as upstream:
        pool = pool_for(upstream.url)
        await ask(pool)
        await upstream.stop()

        with pytest.raises(TransportError):
            await pool.acquire(fresh=True)

        assert (await ask(pool)).body == b"hi"  # the kept one is as good as ever
        pool.close()


# Unasked-for bytes


async def idle_pair(upstream: Upstream, pool: Pool) -> tuple[Connection, Conversation]:
    """A kept connection and its other end."""
    connection = await pool.acquire()
    up = await upstream.accept()
    receiver = start(connection)
    await up.request()
    up.send(response())
    await receiver.ended()
    return connection, up


async def test_bytes_while_idle_close_the_connection_and_all_its_kin() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        first, second = await pool.acquire(), await pool.acquire()
        ups = [await upstream.accept() for _ in range(2)]
        for connection, up in zip((first, second), ups, strict=True):
            receiver = start(connection)
            await up.request()
            up.send(response())
            await receiver.ended()
        assert pool.idle == 2

        ups[0].send(b"x")
        await ups[0].gone()

        assert (first.closed, second.closed, pool.idle) == (True, True, 0)
        assert pool.distrusted


async def test_bytes_that_the_loop_has_not_read_yet_are_never_an_answer() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection, up = await idle_pair(upstream, pool)

        up.send(response(b"evil"))
        other = await pool.acquire()  # the loop had no time to read

        assert other is not connection
        await turn()
        assert pool.distrusted
        other.abort()


async def test_a_distrusted_endpoint_gets_a_new_connection_for_each_request_until_it_passes() -> (
    None
):
    clock = Clock()
    surplus = b"x"

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(response(b"hi") + surplus)

    async with Upstream(script) as upstream:
        pool = Pool(parse_origin(upstream.url), clock=clock, reuse=Reuse(distrust_seconds=300))
        await ask(pool)
        surplus = b""
        for _ in range(3):
            await ask(pool)
        assert (upstream.connections, pool.idle) == (4, 0)

        clock.now += 300
        for _ in range(3):
            await ask(pool)

        assert (upstream.connections, pool.idle) == (5, 1)
        pool.close()


async def test_bytes_before_the_request_are_not_its_answer() -> None:
    async with Upstream() as upstream:
        pool = pool_for(upstream.url)
        connection = await pool.acquire()
        up = await upstream.accept()
        up.send(response(b"evil"))
        await up.gone()

        receiver = start(connection)

        assert await receiver.ended() == "truncated"
        assert receiver.body == b""
        assert pool.distrusted
