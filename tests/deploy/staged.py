"""Penstocks in front of model servers that do well and badly, and clients of all kinds.

    async with stage(folder) as play, asyncio.TaskGroup() as group:
        play.begin(group, GOOD)
        ...
        play.end()

`TROUBLES` cause every alert there is, within a few seconds if the rules are hurried.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from proxy.demo import Settings
from tests.deploy.prometheus import free_port
from tests.e2e.demo_server import demo_server
from tests.e2e.program import killed
from tests.e2e.rawclient import raw_client
from tests.harness import Proxy, config_for, penstock, provider
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

CHAT = "/v1/chat/completions"
TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACED = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}

GOOD, LONG, BROKEN, FLAKY, FULL, DEAD = (
    f"{name}::v1::m" for name in ("good", "long", "broken", "flaky", "full", "dead")
)
OBJECTIVES: Mapping[str, Mapping[str, float]] = {
    GOOD: {"firstTokenSeconds": 2, "interTokenSeconds": 0.06, "availability": 0.995},
    BROKEN: {"availability": 0.995},
}
STOPPED_SECONDS, GOING_SECONDS = 0.25, 0.12  # a process, in turn

_JSON = b"Content-Type: application/json\r\n"
_ANSWER = (
    b'{"id":"a","choices":[{"index":0,"message":{"role":"assistant","content":"yes"},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
)
# More than the kernel holds between two sockets, so that a slow reader holds it up.
_LONG_EVENTS = 8000
_LONG_EVENT = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % (
    b"x" * 1000
)
_LONG_END = (
    b'data: {"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    b"data: [DONE]\n\n"
)
# As TGI and vLLM would say it; no server says both.
_ENGINE_PAGE = b"""\
# TYPE tgi_queue_size gauge
tgi_queue_size 4
tgi_batch_current_size 12
tgi_request_failure{err="overloaded"} 1
tgi_request_failure{err="validation"} 2
tgi_request_queue_duration_bucket{le="1"} 3
vllm:num_requests_running{engine="0",model_name="x"} 2.0
vllm:num_requests_running{engine="1",model_name="x"} 3.0
vllm:num_requests_waiting{engine="0",model_name="x"} 1.0
vllm:kv_cache_usage_perc{engine="0",model_name="x"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="x"} 0.75
"""


class Play:
    """What runs, and what is made to happen."""

    def __init__(
        self, main: Proxy, other: Proxy, mute: tuple[Process, str, str], session: Any
    ) -> None:
        self.main = main
        self.other = other  # with another configuration
        self.session: aiohttp.ClientSession = session
        self.process, self.mute_url, self.mute_admin = mute  # nobody reads its log
        self.targets = [main.admin_url, other.admin_url, self.mute_admin]
        self._over = asyncio.Event()

    def begin(self, group: asyncio.TaskGroup, *scenes: Callable[[Play], Awaitable[None]]) -> None:
        """Go on with these until the end."""
        for scene in scenes:
            group.create_task(self._repeat(scene))

    def end(self) -> None:
        """That was all."""
        self._over.set()

    def resume(self) -> None:
        """There is more to begin."""
        self._over.clear()

    async def _repeat(self, scene: Callable[[Play], Awaitable[None]]) -> None:
        over = asyncio.ensure_future(self._over.wait())  # noqa: TID251 - awaited below
        while not self._over.is_set():
            act = asyncio.ensure_future(scene(self))  # noqa: TID251 - awaited below
            await asyncio.wait((act, over), return_when=asyncio.FIRST_COMPLETED)
            if not act.done():
                act.cancel()
            with suppress(asyncio.CancelledError):
                await act
        await over

    async def ask(
        self,
        model: str,
        text: str = "hi",
        *,
        stream: bool = True,
        url: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Ask, and read whatever comes."""
        body = {
            "model": model,
            "stream": stream,
            "messages": [{"role": "user", "content": text}],
        }
        address = (url or self.main.url) + CHAT
        data = msgspec.json.encode(body)
        with suppress(aiohttp.ClientError):
            async with self.session.post(address, data=data, headers=headers) as answer:
                await answer.read()


# -- who asks for what


async def content(play: Play) -> None:
    """A client that gets what it wants."""
    await play.ask(GOOD, "[[tokens=20]]", headers=TRACED)
    await play.ask(GOOD, stream=False)
    await asyncio.sleep(0.02)


async def leaving(play: Play) -> None:
    """A client that hears enough and goes."""
    async with raw_client(play.main.url) as client:
        messages = [{"role": "user", "content": "[[tokens=200]]"}]
        client.ask(CHAT, {"model": GOOD, "stream": True, "messages": messages})
        await client.read_until(b"\n\n")
    await asyncio.sleep(0.1)


async def slow_reader(play: Play) -> None:
    """A client that asks for much and reads it late."""
    async with raw_client(play.main.url, receive_bytes=4096) as client:
        messages = [{"role": "user", "content": "tell me everything"}]
        client.ask(CHAT, {"model": LONG, "stream": True, "messages": messages}, "Connection: close")
        await client.read_until(b"\n\n")
        await asyncio.sleep(1)
        await client.rest()


async def wrong(play: Play) -> None:
    """A client that asks for what is not there."""
    await play.ask("nobody")
    await asyncio.sleep(0.1)


async def broken(play: Play) -> None:
    """An answer that breaks off."""
    await play.ask(BROKEN, "[[cut]]")
    await play.ask(BROKEN, "[[fail]]", stream=False)
    await asyncio.sleep(0.02)


async def flaky(play: Play) -> None:
    """One of two endpoints fails every second request."""
    await play.ask(FLAKY, stream=False)
    await asyncio.sleep(0.02)


async def crowded(play: Play) -> None:
    """One of more than the model server takes at once, and than may wait."""
    await play.ask(FULL, "[[tokens=5 slow=0.05]]")
    await asyncio.sleep(0.05)


async def unserved(play: Play) -> None:
    """A model of which no server answers; another takes its place."""
    await play.ask(DEAD, stream=False)
    await asyncio.sleep(0.05)


async def starved(play: Play) -> None:
    """A process that gets too little of the CPU, while somebody asks it."""
    play.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(STOPPED_SECONDS)
    play.process.send_signal(signal.SIGCONT)
    await asyncio.sleep(GOING_SECONDS)


async def asking_the_starved(play: Play) -> None:
    """Somebody asks it."""
    await play.ask(GOOD, "[[tokens=50 slow=0.01]]", url=play.mute_url)


async def refused(play: Play) -> None:
    """A configuration with a mistake, and a drain without an end."""
    if not play.other.service.draining:
        play.other.config.write_bytes(b"{")
        for order in ("/reload", "/drain"):
            async with play.session.post(play.other.admin_url + order) as answer:
                await answer.read()
    await asyncio.sleep(1)


GOODS = (content, leaving, slow_reader, wrong)
TROUBLES = (broken, flaky, *(12 * (crowded,)), unserved, starved, asking_the_starved, refused)


# -- the stage


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Play]:
    """Everything that is asked; nobody asks yet."""
    async with (
        demo_server(Settings(pace_seconds=0.005)) as good,
        demo_server(Settings(pace_seconds=0.005, max_concurrent_requests=2)) as full,
        Upstream(_flaky()) as flaky,
        Upstream(_steady) as steady,
        Upstream(_long) as long,
        penstock(_config(good.url, long.url, full.url, flaky.url, steady.url)) as main,
        penstock(config_for("http://127.0.0.1:9")) as other,
        _mute(folder, good.url) as mute,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session,
    ):
        yield Play(main, other, mute, session)


def _config(good: str, long: str, full: str, flaky: str, steady: str) -> dict[str, Any]:
    kinds: dict[str, list[str]] = {
        "good": [good],
        "long": [long],
        "broken": [good],
        "flaky": [flaky, steady],
        "full": [full],
        "dead": ["http://127.0.0.1:1"],
    }
    return {
        "modelConfiguration": {
            "sourcegraph": None,
            "providerOverrides": [
                provider(urls, name=name, kind="huggingface-tgi") for name, urls in kinds.items()
            ],
            "modelOverrides": [{"modelRef": f"{name}::v1::m"} for name in kinds],
            "defaultModels": {"chat": GOOD, "fastChat": GOOD, "codeCompletion": GOOD},
        },
        "penstock": {
            "health": {"intervalSeconds": 0.3, "ejectSeconds": 60},
            "readiness": "all",
            "metrics": {"genAi": True, "engineSeconds": 0.5},
            "providers": {
                "flaky": {
                    "retries": {"budget": 1, "floorPerSecond": 1000},
                    "health": {"faultRate": 1},
                },
                "full": {"admission": {"maxQueue": 6, "maxWaitSeconds": 2}},
            },
            "models": {
                **{model: {"slo": objectives} for model, objectives in OBJECTIVES.items()},
                DEAD: {"fallbacks": [GOOD]},
            },
        },
    }


async def _long(up: Conversation) -> None:
    async for request in up.requests():
        if request.method == "GET":
            up.send(_answer(request.target))
            continue
        up.send(STREAM_HEAD)
        for _ in range(_LONG_EVENTS // 100):
            up.send(chunk(_LONG_EVENT * 100))
            await up.pause()
        up.send(chunk(_LONG_END) + LAST_CHUNK)


async def _steady(up: Conversation) -> None:
    async for request in up.requests():
        up.send(_answer(request.target))


def _flaky() -> Callable[[Conversation], Awaitable[None]]:
    turn = count()

    async def answer(up: Conversation) -> None:
        async for request in up.requests():
            failing = request.method == "POST" and next(turn) % 2
            up.send(response(status=500) if failing else _answer(request.target))

    return answer


def _answer(target: str) -> bytes:
    if target == "/metrics":
        return response(_ENGINE_PAGE, headers=b"Content-Type: text/plain\r\n")
    if target == "/info":
        return response(b'{"max_concurrent_requests":64}', headers=_JSON)
    return response(_ANSWER, headers=_JSON)


@asynccontextmanager
async def _mute(folder: Path, url: str) -> AsyncIterator[tuple[Process, str, str]]:
    """A penstock of its own process that cannot write its log; its addresses."""
    config = folder / "mute.jsonc"
    config.write_bytes(msgspec.json.encode(_config(url, url, url, url, "http://127.0.0.1:9")))
    client, admin = free_port(), free_port()
    ports = ("--port", str(client), "--admin-port", str(admin))
    full = os.open("/dev/full", os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "proxy", "serve", "--config", str(config), *ports),
        stdout=full,
        stderr=DEVNULL,
    )
    os.close(full)
    try:
        await _listening(client)
        yield process, f"http://127.0.0.1:{client}", f"http://127.0.0.1:{admin}"
    finally:
        await killed(process)


async def _listening(port: int) -> None:
    for _ in range(400):
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    pytest.fail("penstock does not listen")
