"""Clients that leave at random moments, in every phase of a request."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from random import Random
from typing import Any

import pytest

from tests.e2e.frames import ROLE, TOKEN
from tests.e2e.rawclient import raw_client
from tests.e2e.replicas import CHAT, held, until
from tests.e2e.soak import short_or
from tests.e2e.test_clocks import BIG
from tests.e2e.test_traffic import hang_up
from tests.harness import Proxy, chat, config_for, penstock, provider
from tests.scripted import STREAM_HEAD, Conversation, Upstream, chunk

AT_ONCE_SECONDS = 0.2
CLIENTS = short_or(210, long=1050)
TOGETHER = 10
LONGEST_STAY_SECONDS = 0.04
# The provider that is asked in each phase; what the others need is in the script.
PROVIDERS = {
    "queue": "narrow",
    "connect": "deaf",
    "headers": "lab",
    "token": "lab",
    "stream": "lab",
    "retry": "shaky",
    "reader": "lab",
}
_PLAN = re.compile(rb"phase=(\w+) id=(\d+)")


class Server:
    """Holds its answer in the phase that the prompt names, until its client has gone."""

    def __init__(self) -> None:
        self.open = 0
        self.gone_at: dict[int, float] = {}

    async def __call__(self, up: Conversation) -> None:
        self.open += 1
        try:
            request = await up.request()
            plan = _PLAN.search(request.body)
            assert plan is not None
            if plan[1] in (b"token", b"stream", b"reader"):
                up.send(STREAM_HEAD + chunk(ROLE))
            if plan[1] == b"stream":
                up.send(chunk(TOKEN) * 3)
            if plan[1] == b"reader":
                up.send(chunk(BIG) * 20)
            await up.gone()
            self.gone_at[int(plan[2])] = asyncio.get_running_loop().time()
        finally:
            self.open -= 1


async def deaf(up: Conversation) -> None:
    """Takes the connection, and never shakes hands."""
    await up.gone()


def config(url: str, shaky: list[str], deaf: str) -> dict[str, Any]:
    rules = {"retries": {"attempts": 10, "budget": 1, "floorPerSecond": 1000}}
    found = config_for(url, penstock=rules)
    block = found["modelConfiguration"]
    narrow = provider(
        url, name="narrow", settings={"endpoints": [{"url": url, "maxConcurrent": 1}]}
    )
    others = [
        narrow,
        provider(shaky, name="shaky"),
        provider(deaf.replace("http:", "https:"), name="deaf"),
    ]
    block["providerOverrides"] += others
    block["modelOverrides"] += [
        {"modelRef": f"{each['id']}::v1::model", "capabilities": ["chat"]} for each in others
    ]
    return found


class Leavers:
    """Clients one after the other, each of which leaves."""

    def __init__(self, proxy: Proxy, seed: int) -> None:
        self._proxy = proxy
        self._random = Random(seed)
        self.left_at: dict[int, float] = {}
        self.numbers = iter(range(CLIENTS))

    async def run(self) -> None:
        for number in self.numbers:  # shared: each takes the next one
            phase = list(PROVIDERS)[number % len(PROVIDERS)]
            body = {**chat(f"phase={phase} id={number}"), "model": f"{PROVIDERS[phase]}::v1::model"}
            kernel = 16 * 1024 if phase == "reader" else None
            async with raw_client(self._proxy.url, receive_bytes=kernel) as client:
                client.ask(CHAT, body)
                await asyncio.sleep(self._random.uniform(0.0, LONGEST_STAY_SECONDS))
                client.hang_up()
                self.left_at[number] = asyncio.get_running_loop().time()


class Lag:
    """By how much the loop was late at most: the machine's doing, not penstock's."""

    def __init__(self) -> None:
        self.worst_seconds = 0.0

    async def watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.worst_seconds = max(self.worst_seconds, loop.time() - due)


@pytest.mark.timeout(120)
async def test_clients_that_leave_at_any_moment_free_everything_at_once() -> None:
    server, lag = Server(), Lag()
    async with (
        Upstream(server) as upstream,
        Upstream(hang_up) as one,
        Upstream(hang_up) as other,
        Upstream(deaf) as silent,
        penstock(config(upstream.url, [one.url, other.url], silent.url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        holder = proxy.service.registry.models["narrow::v1::model"].pool.take()
        assert holder is not None
        for _ in range(10):
            await asyncio.sleep(0)  # its background tasks begin others
        leavers, tasks = Leavers(proxy, seed=1), len(asyncio.all_tasks())
        watching = group.create_task(lag.watch())
        async with asyncio.TaskGroup() as leaving:
            for _ in range(TOGETHER):
                leaving.create_task(leavers.run())
        await until(lambda: proxy.service.in_flight == 0 and server.open == 0)
        watching.cancel()
        holder.release()
        await until(lambda: not any(held(proxy).values()))
        await until(lambda: len(asyncio.all_tasks()) <= tasks)
        lines, page = proxy.lines(), await proxy.metrics()

    late = {
        number: at - leavers.left_at[number]
        for number, at in server.gone_at.items()
        if at - leavers.left_at[number] > AT_ONCE_SECONDS + lag.worst_seconds
    }
    assert late == {}
    assert len(server.gone_at) > CLIENTS // 4
    outcomes = Counter(line.outcome for line in lines)
    assert set(outcomes) <= {"client_gone", "upstream_error"}
    assert outcomes["client_gone"] > CLIENTS // 2
    assert f"penstock_requests_started_total {len(lines)}.0" in page
    counted = [line for line in page.splitlines() if line.startswith("penstock_requests_total{")]
    assert sum(float(line.rpartition(" ")[2]) for line in counted) == len(lines)
    gauges = [line for line in page.splitlines() if line.startswith("penstock_endpoint_in_flight{")]
    assert {line.rpartition(" ")[2] for line in gauges} == {"0.0"}
