"""Small answers are fetched on connections that then belong to everybody."""

from __future__ import annotations

import asyncio

from proxy.endpoints import Endpoint, LiveState
from proxy.upstream import Upstream as Calls
from tests.scripted import Conversation, Upstream, response

GET = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


async def healthy(up: Conversation) -> None:
    async for _ in up.requests():
        up.send(response(b"ok"))


async def test_a_connection_is_let_go_of_before_somebody_else_has_it() -> None:
    """One who asks in the very moment in which the answer is there gets the same connection."""
    calls = Calls()
    async with Upstream(healthy) as upstream:
        state = LiveState().state_of("lab", Endpoint("x", upstream.url))
        pool = calls._pool_of(state)
        async with asyncio.TaskGroup() as group:
            fetching = group.create_task(calls.fetch(GET, state, seconds=5))
            while (taken := pool.kept()) is None:  # noqa: ASYNC110 - the very moment
                await asyncio.sleep(0)
        fetched = fetching.result()

        assert (fetched.status, fetched.body) == (200, b"ok")
        assert not taken.closed
        taken.abort()


async def test_what_is_larger_than_the_limit_is_cut() -> None:
    calls = Calls()
    async with Upstream(healthy) as upstream:
        state = LiveState().state_of("lab", Endpoint("x", upstream.url))
        fetched = await calls.fetch(GET, state, seconds=5, limit_bytes=1)
        calls.close()

    assert fetched.body == b"o"
