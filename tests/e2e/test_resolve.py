"""`resolve: "all"`: each address behind a name is an endpoint of its own."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.frames import DONE, FINISH, TOKEN, WHOLE, same
from tests.e2e.replicas import CHAT, Replica, until
from tests.e2e.test_traffic import hang_up
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import (
    LAST_CHUNK,
    STREAM_HEAD,
    Conversation,
    Script,
    Upstream,
    chunk,
    make_certificate,
    response,
)

NAME = "models.test"
IN_TURN = {"balance": "roundRobin"}
SOON = {**IN_TURN, "health": {"intervalSeconds": 0, "failures": 1, "ejectSeconds": 60}}
WHOLE_ANSWER = (200, WHOLE)


class Names:
    """What the name leads to; nothing means that it is not known."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.asked = 0

    async def ask(
        self, host: str, port: int, *, type: int = 0, **_: object
    ) -> list[tuple[Any, ...]]:
        """As `loop.getaddrinfo`."""
        if host != NAME:
            return socket.getaddrinfo(host, port, type=type)
        self.asked += 1
        if not self.addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        kind = socket.SOCK_STREAM
        return [(socket.AF_INET, kind, 6, "", (each, port)) for each in self.addresses]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    names = Names("127.0.0.1", "127.0.0.2")
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.ask)
    monkeypatch.setattr("proxy.resolver.INTERVAL_SECONDS", 0.0)  # at each look
    return names


class ByAddress:
    """One server at all addresses of this machine, each with a script of its own."""

    def __init__(self, usual: Script) -> None:
        self.asked: Counter[str] = Counter()
        self._usual = usual
        self._others: dict[str, Script] = {}

    def at(self, address: str, script: Script) -> ByAddress:
        """Play this one at that address."""
        self._others[address] = script
        return self

    async def __call__(self, up: Conversation) -> None:
        """Play the script of the address that was asked."""
        address = up._writer.get_extra_info("sockname")[0]
        self.asked[address] += 1
        await self._others.get(address, self._usual)(up)


@asynccontextmanager
async def behind_a_name(
    script: Script, rules: Mapping[str, object], *, resolve: str = "all", host: str = "0.0.0.0"
) -> AsyncIterator[tuple[Proxy, int]]:
    """A penstock before a server that is known by a name; gives the port too."""
    async with Upstream(script, host=host) as upstream:
        url = f"http://{NAME}:{upstream.port}"
        settings = {"endpoints": [{"url": url, "resolve": resolve}]}
        async with penstock(config_for(url, settings=settings, penstock=rules)) as proxy:
            yield proxy, upstream.port


async def known(proxy: Proxy, port: int, *addresses: str) -> None:
    """Until the pool has an endpoint at each of these addresses, and no others."""
    wanted = [f"{NAME}:{port} at {address}" for address in addresses]
    while (await proxy.status())["models"][0]["endpoints"] != wanted:  # noqa: ASYNC110 - no event tells
        await asyncio.sleep(0.01)


async def ask(proxy: Proxy, times: int) -> list[tuple[int, bytes]]:
    return [await proxy.ask(CHAT, chat(stream=False)) for _ in range(times)]


async def test_each_address_is_an_endpoint_with_a_name_of_its_own(names: Names) -> None:
    server = ByAddress(same(response(WHOLE)))
    async with behind_a_name(server, IN_TURN) as (proxy, port):
        await known(proxy, port, "127.0.0.1", "127.0.0.2")
        answers = await ask(proxy, 4)
        status, page = await proxy.status(), await proxy.metrics()

    assert answers == [WHOLE_ANSWER] * 4
    assert server.asked == {"127.0.0.1": 1, "127.0.0.2": 1}  # and their connections are kept
    held = {each["name"] for each in status["endpoints"] if "at" in each["name"]}
    assert held == {f"{NAME}:{port} at 127.0.0.1", f"{NAME}:{port} at 127.0.0.2"}
    for address in ("127.0.0.1", "127.0.0.2"):
        name = f"{NAME}:{port} at {address}"
        series = f'{{endpoint="{name}",model="{MODEL}",verdict="success"}} 2.0'
        assert f"penstock_upstream_attempts_total{series}" in page
        assert f'penstock_endpoint_in_flight{{endpoint="{name}",provider="lab"}} 0.0' in page


async def test_addresses_may_change_and_no_request_notices(names: Names) -> None:
    go_on = asyncio.Event()

    async def slow(up: Conversation) -> None:
        await up.request()
        up.send(STREAM_HEAD + chunk(TOKEN))
        await go_on.wait()
        up.send(chunk(FINISH + DONE) + LAST_CHUNK)

    server = ByAddress(same(response(WHOLE))).at("127.0.0.1", slow)
    names.addresses = ["127.0.0.1"]
    async with (
        behind_a_name(server, IN_TURN) as (proxy, port),
        asyncio.TaskGroup() as group,
    ):
        await known(proxy, port, "127.0.0.1")
        old = group.create_task(proxy.ask(CHAT, chat()))
        await until(lambda: bool(server.asked))
        names.addresses = ["127.0.0.3", "127.0.0.2"]
        await known(proxy, port, "127.0.0.2", "127.0.0.3")
        assert await ask(proxy, 4) == [WHOLE_ANSWER] * 4
        go_on.set()
        assert await old == (200, TOKEN + FINISH + DONE)
        live = proxy.service.live
        await until(lambda: "127.0.0.1" not in [state.address for state in live.states()])

    assert server.asked == {"127.0.0.1": 1, "127.0.0.2": 1, "127.0.0.3": 1}


async def test_changes_under_load_fail_nothing(names: Names) -> None:
    server = ByAddress(Replica(0.005, response(WHOLE)))
    changed = asyncio.Event()
    async with behind_a_name(server, IN_TURN) as (proxy, port):

        async def load() -> list[tuple[int, bytes]]:
            answers: list[tuple[int, bytes]] = []
            while not changed.is_set():
                answers += await ask(proxy, 1)
            return answers

        async with asyncio.TaskGroup() as group:
            loads = [group.create_task(load()) for _ in range(10)]
            for last in range(1, 6):
                names.addresses = [f"127.0.0.{last}", f"127.0.0.{last + 1}"]
                await known(proxy, port, *names.addresses)
            changed.set()
        answers = [answer for each in loads for answer in each.result()]
        lines = await proxy.ended(len(answers))

    assert set(answers) == {WHOLE_ANSWER}
    assert {(line.outcome, line.attempts) for line in lines} == {("complete", 1)}
    assert len(server.asked) > 3


async def test_a_name_that_is_not_known_for_a_while_keeps_its_addresses(names: Names) -> None:
    server = ByAddress(same(response(WHOLE)))
    async with behind_a_name(server, IN_TURN) as (proxy, port):
        await known(proxy, port, "127.0.0.1", "127.0.0.2")
        names.addresses = []
        before = names.asked
        await until(lambda: names.asked >= before + 2)
        await known(proxy, port, "127.0.0.1", "127.0.0.2")

        assert await ask(proxy, 4) == [WHOLE_ANSWER] * 4


async def test_a_name_that_is_not_known_yet_is_asked_for_until_it_is(names: Names) -> None:
    names.addresses = []
    server = ByAddress(same(response(WHOLE)))
    async with behind_a_name(server, IN_TURN) as (proxy, port):
        assert [status for status, _ in await ask(proxy, 1)] == [502]
        names.addresses = ["127.0.0.2"]
        await known(proxy, port, "127.0.0.2")

        assert await ask(proxy, 1) == [WHOLE_ANSWER]


async def test_an_address_that_fails_is_left_out_and_the_others_are_not(names: Names) -> None:
    server = ByAddress(same(response(WHOLE))).at("127.0.0.2", hang_up)
    async with behind_a_name(server, SOON) as (proxy, port):
        await known(proxy, port, "127.0.0.1", "127.0.0.2")
        answers = await ask(proxy, 6)
        status = await proxy.status()

    assert answers == [WHOLE_ANSWER] * 6
    assert server.asked["127.0.0.2"] == 1
    circuits = {each["name"][-9:]: each["circuit"] for each in status["endpoints"]}
    assert (circuits["127.0.0.1"], circuits["127.0.0.2"]) == ("closed", "open")


async def test_a_reload_keeps_what_is_known_of_each_address(names: Names) -> None:
    server = ByAddress(same(response(WHOLE))).at("127.0.0.2", hang_up)
    async with behind_a_name(server, SOON) as (proxy, port):
        await known(proxy, port, "127.0.0.1", "127.0.0.2")
        await ask(proxy, 2)
        url = f"http://{NAME}:{port}"
        settings = {"endpoints": [{"url": url, "resolve": "all"}], "usage": "off"}
        assert await proxy.reload(config_for(url, settings=settings, penstock=SOON)) == 200
        await known(proxy, port, "127.0.0.1", "127.0.0.2")

        assert await ask(proxy, 4) == [WHOLE_ANSWER] * 4
    assert server.asked["127.0.0.2"] == 1


async def test_who_waits_is_let_in_at_a_new_address(names: Names) -> None:
    held = asyncio.Event()

    async def busy(up: Conversation) -> None:
        await up.request()
        await held.wait()
        up.send(response(WHOLE))

    names.addresses = ["127.0.0.1"]
    server = ByAddress(same(response(WHOLE))).at("127.0.0.1", busy)
    async with Upstream(server, host="0.0.0.0") as upstream:
        url = f"http://{NAME}:{upstream.port}"
        settings = {"endpoints": [{"url": url, "resolve": "all", "maxConcurrent": 1}]}
        async with (
            penstock(config_for(url, settings=settings)) as proxy,
            asyncio.TaskGroup() as group,
        ):
            await known(proxy, upstream.port, "127.0.0.1")
            first = group.create_task(proxy.ask(CHAT, chat(stream=False)))
            await until(lambda: bool(server.asked))
            second = group.create_task(proxy.ask(CHAT, chat(stream=False)))
            names.addresses = ["127.0.0.1", "127.0.0.2"]
            async with asyncio.timeout(5):
                assert await second == WHOLE_ANSWER
            assert not first.done()
            held.set()


async def test_tls_checks_the_name_whatever_the_address(
    names: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The certificate is for localhost; 127.0.0.2 is not in it."""
    server_tls, certificate = make_certificate(tmp_path)
    told: list[str | None] = []
    server_tls.sni_callback = lambda _, name, __: told.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", certificate)
    monkeypatch.setattr("tests.e2e.test_resolve.NAME", "localhost")
    names.addresses = ["127.0.0.2"]
    server = ByAddress(same(response(WHOLE)))
    async with Upstream(server, host="0.0.0.0", tls=server_tls) as upstream:
        url = f"https://localhost:{upstream.port}"
        settings = {"endpoints": [{"url": url, "resolve": "all"}]}
        async with penstock(config_for(url, settings=settings)) as proxy:
            await known(proxy, upstream.port, "127.0.0.2")
            answers = await ask(proxy, 1)

    assert answers == [WHOLE_ANSWER]
    assert upstream.requests[0].headers["host"] == f"localhost:{upstream.port}"
    assert server.asked == {"127.0.0.2": 1}
    assert told == ["localhost"]


async def test_one_is_one_endpoint_that_reaches_whichever_address_answers(names: Names) -> None:
    """Nothing listens at the first."""
    async with behind_a_name(same(response(WHOLE)), IN_TURN, resolve="one", host="127.0.0.2") as (
        proxy,
        port,
    ):
        answers = await ask(proxy, 2)
        status = await proxy.status()
        lines = await proxy.ended(2)

    assert answers == [WHOLE_ANSWER] * 2
    assert [each["name"] for each in status["endpoints"]] == [f"{NAME}:{port}"]
    assert [line.attempts for line in lines] == [1, 1]
