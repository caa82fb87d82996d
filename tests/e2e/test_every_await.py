"""A request that is cancelled at any of its awaits, one after the other, leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeAlias

import pytest
import uvloop

from proxy.exchange import Exchange
from proxy.reply import Reply
from tests.e2e.frames import DONE, FINISH, ROLE, TOKEN, whole_saying
from tests.e2e.rawclient import post, raw_client
from tests.e2e.replicas import held, until
from tests.e2e.test_traffic import hang_up, two_models
from tests.harness import MODEL, Line, Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Script, Upstream, chunk, response

CHAT = "/v1/chat/completions"
LAST = b"Connection: close\r\n"
HEAD = STREAM_HEAD.removesuffix(b"\r\n") + LAST + b"\r\n"
BIG = TOKEN.replace(b"Hi", b"x" * 500_000)


class Stepped:
    """Awaits a request's coroutine, counts its suspensions, and meddles with one of them."""

    def __init__(self, at: int, meddle: Meddle) -> None:
        self.count = 0
        self.reached = asyncio.Event()  # the one to meddle with, or the end
        self._at = at
        self._meddle = meddle

    async def run(self, exchange: Exchange, coroutine: Coroutine[Any, Any, Reply]) -> Reply:
        try:
            return await _Each(coroutine, lambda future: self._note(exchange, future))
        finally:
            self.reached.set()

    def _note(self, exchange: Exchange, future: asyncio.Future[Any] | None) -> None:
        self.count += 1
        if self.count == self._at:
            self._meddle(exchange, future)
            self.reached.set()


class _Each:
    """Drives a coroutine, and shows what it waits for each time it does."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Reply],
        show: Callable[[asyncio.Future[Any] | None], None],
    ) -> None:
        self._coroutine = coroutine
        self._show = show

    def __await__(self) -> Generator[Any, Any, Reply]:
        steps = self._coroutine.__await__()
        step: Callable[[Any], Any] = steps.send
        value: Any = None
        while True:
            try:
                future = step(value)
            except StopIteration as end:
                reply: Reply = end.value
                return reply
            self._show(future)
            try:
                step, value = steps.send, (yield future)
            except BaseException as error:  # noqa: BLE001 - the coroutine's own to handle
                step, value = steps.throw, error


# Ways to meddle


def cancel(exchange: Exchange, _: object) -> None:
    """The wait is cancelled."""
    exchange._request.task.cancel()


def cancel_when_over(exchange: Exchange, future: asyncio.Future[Any] | None) -> None:
    """The wait is over, and the cancellation comes first: what was granted must be given back."""
    task = exchange._request.task
    if future is None:
        task.cancel()
    else:
        future.add_done_callback(lambda _: task.cancel())


def disconnect(exchange: Exchange, _: object) -> None:
    """The client's connection breaks."""
    assert exchange._request.transport is not None
    exchange._request.transport.abort()


Meddle: TypeAlias = Callable[[Exchange, "asyncio.Future[Any] | None"], None]


# Upstreams; none keeps its connection


class Open:
    """Plays a script, and knows how many connections are open."""

    def __init__(self, script: Script) -> None:
        self._count = 0
        self._script = script

    def __len__(self) -> int:
        return self._count

    async def __call__(self, up: Conversation) -> None:
        self._count += 1
        try:
            with suppress(RuntimeError):  # uvloop's word for writing to who has gone
                await self._script(up)
        finally:
            self._count -= 1


async def streaming(up: Conversation) -> None:
    await up.request()
    await answer_in_pieces(up)


async def answer_in_pieces(up: Conversation) -> None:
    for piece in (HEAD, chunk(ROLE), chunk(TOKEN), chunk(TOKEN)):
        up.send(piece)
        await asyncio.sleep(0.001)  # usually a read of its own
    up.send(chunk(FINISH + DONE) + LAST_CHUNK)
    await up.gone()


async def whole(up: Conversation) -> None:
    await up.request()
    up.send(response(whole_saying(b"hi"), headers=LAST))
    await up.gone()


async def flooding(up: Conversation) -> None:
    await up.request()
    up.send(HEAD + chunk(BIG) * 12 + chunk(FINISH + DONE) + LAST_CHUNK)
    await up.gone()


class FirstHangUp:
    """Breaks the first connection of each round, whichever endpoint it is to."""

    def __init__(self) -> None:
        self.is_first = True

    async def __call__(self, up: Conversation) -> None:
        await up.request()
        if self.is_first:
            self.is_first = False
            up.reset()
        else:
            await answer_in_pieces(up)


first_hang_up = FirstHangUp()


# What is asked of them


async def ask_a_stream(proxy: Proxy, _: Stepped) -> bytes:
    """The body comes in two pieces, so it is waited for."""
    async with raw_client(proxy.url) as client:
        request = post(CHAT, chat(), "Connection: close")
        client.send(request[:-5])
        await asyncio.sleep(0.005)
        client.send(request[-5:])
        return await client.rest()


async def ask_for_all_at_once(proxy: Proxy, _: Stepped) -> bytes:
    async with raw_client(proxy.url) as client:
        client.ask(CHAT, chat(stream=False), "Connection: close")
        return await client.rest()


async def ask_in_a_queue(proxy: Proxy, stepped: Stepped) -> bytes:
    pool = proxy.service.registry.models[MODEL].pool
    held = pool.take()
    assert held is not None
    async with raw_client(proxy.url) as client:
        client.ask(CHAT, chat(), "Connection: close")
        await until(lambda: len(held.state.line) > 0 or stepped.reached.is_set())
        held.release()
        return await client.rest()


async def ask_and_read_late(proxy: Proxy, stepped: Stepped) -> bytes:
    async with raw_client(proxy.url, receive_bytes=16 * 1024) as client:
        client.ask(CHAT, chat(), "Connection: close")
        try:
            async with asyncio.timeout(0.2):
                await stepped.reached.wait()
        except TimeoutError:
            pass
        return await client.rest()


class Scenario:
    """An endpoint that is asked first, one that is asked then, and how."""

    def __init__(
        self,
        ask: Callable[[Proxy, Stepped], Awaitable[bytes]],
        *scripts: Script,
        fallback: bool = False,
        capped: bool = False,
    ) -> None:
        self.ask = ask
        self.scripts = scripts
        self._fallback = fallback
        self._capped = capped

    def config(self, urls: list[str]) -> dict[str, Any]:
        if self._fallback:
            return two_models(*urls)
        limit = {"maxConcurrent": 1} if self._capped else {}
        settings = {"endpoints": [{"url": url, **limit} for url in urls]}
        rules = {
            "health": {"intervalSeconds": 0, "failures": 100, "faultRate": 1},
            "retries": {"budget": 1, "floorPerSecond": 1000},
        }
        return config_for(urls, settings=settings, penstock=rules)


SCENARIOS = {
    "stream": Scenario(ask_a_stream, streaming),
    "all at once": Scenario(ask_for_all_at_once, whole),
    "retry": Scenario(ask_a_stream, *[first_hang_up] * 2),
    "fallback": Scenario(ask_a_stream, hang_up, streaming, fallback=True),
    "queue": Scenario(ask_in_a_queue, streaming, capped=True),
    "slow reader": Scenario(ask_and_read_late, flooding),
}


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
@pytest.mark.parametrize("meddle", [cancel, cancel_when_over, disconnect])
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_request_cancelled_at_any_await_ends_once_and_leaves_nothing(
    name: str,
    meddle: Meddle,
    loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scenario = SCENARIOS[name]
    scripts = [Open(script) for script in scenario.scripts]
    with asyncio.Runner(loop_factory=loop) as runner:
        answer, lines, page = runner.run(one_by_one(scenario, scripts, meddle, monkeypatch))

    asked = len(lines)
    assert answer.endswith(LAST_CHUNK if b"chunked" in answer else b"}]}")
    # Who leaves in the very moment in which an answer, or a failure, has come may have either.
    assert {line.outcome for line in lines} <= {"client_gone", "complete", "upstream_error"}
    assert (lines[0].outcome, lines[-1].outcome) == ("client_gone", "complete")
    counted = [line for line in page.splitlines() if line.startswith("penstock_requests_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == asked
    assert f"penstock_requests_started_total {asked}.0" in page


async def one_by_one(
    scenario: Scenario, scripts: list[Open], meddle: Meddle, monkeypatch: pytest.MonkeyPatch
) -> tuple[bytes, list[Line], str]:
    """Meddle with the first await, then with the second, until there are no more.

    Gives the answer to the last request, which nobody meddled with.
    """
    run = Exchange.run
    async with Upstream(scripts[0]) as one, Upstream(scripts[-1]) as other:
        urls = [one.url, other.url][: len(scripts)]
        async with penstock(scenario.config(urls)) as proxy:
            asked = 0
            while True:
                asked += 1
                stepped = Stepped(asked, meddle)
                first_hang_up.is_first = True
                monkeypatch.setattr(Exchange, "run", lambda self: stepped.run(self, run(self)))  # noqa: B023 - used within this round
                async with asyncio.timeout(5):
                    answer = await scenario.ask(proxy, stepped)
                lines = await proxy.ended(asked)
                await until(lambda: not any(held(proxy).values()) and not any(map(len, scripts)))
                if stepped.count < asked:
                    return answer, lines, await proxy.metrics()
