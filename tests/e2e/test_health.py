"""Active checks of self-hosted servers, against scripted ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.frames import ANSWER, stream
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import Conversation, Script, Upstream, response

CHAT = "/v1/chat/completions"
SOON = {"intervalSeconds": 0.05, "timeoutSeconds": 0.2, "failures": 2}
IN_TURN = {"balance": "roundRobin", "health": SOON}


def server(health: Callable[[], bytes] = response, limits: bytes = response(status=404)) -> Script:
    """A model server; what it says of its health may change."""

    async def script(up: Conversation) -> None:
        async for request in up.requests():
            if request.target == "/health":
                up.send(health())
            elif request.method == "GET":
                up.send(limits)
            else:
                up.send(stream(ANSWER))

    return script


async def health_is(proxy: Proxy, *wanted: str) -> list[dict[str, Any]]:
    """The endpoints, once their health is this."""
    while True:
        endpoints: list[dict[str, Any]] = (await proxy.status())["endpoints"]
        if [each["health"] for each in endpoints] == list(wanted):
            return endpoints
        await asyncio.sleep(0.01)


async def test_a_server_that_answers_is_up() -> None:
    async with (
        Upstream(server()) as upstream,
        penstock(config_for(upstream.url, penstock=IN_TURN)) as proxy,
    ):
        await health_is(proxy, "up")
        assert upstream.requests[0].target == "/health"


@pytest.mark.parametrize("status", [404, 405, 401, 302])
async def test_a_server_without_such_a_route_is_taken_for_alive(status: int) -> None:
    async with (
        Upstream(server(lambda: response(status=status))) as upstream,
        penstock(config_for(upstream.url, penstock=IN_TURN)) as proxy,
    ):
        await health_is(proxy, "up")


async def test_a_server_that_refuses_connections_is_starting_and_gets_nothing() -> None:
    async with Upstream() as gone, Upstream(server()) as other:
        await gone.stop()
        async with penstock(config_for([gone.url, other.url], penstock=IN_TURN)) as proxy:
            await health_is(proxy, "starting", "up")
            for _ in range(4):
                assert await proxy.ask(CHAT, chat()) == (200, ANSWER)
            lines = await proxy.ended(4)
            assert [line.attempts for line in lines] == [1, 1, 1, 1]


async def test_a_server_that_says_it_is_ill_is_left_out_until_it_is_well() -> None:
    well = True
    one = server(lambda: response() if well else response(b"{}", status=503))
    async with (
        Upstream(one) as moody,
        Upstream(server()) as other,
        penstock(config_for([moody.url, other.url], penstock=IN_TURN)) as proxy,
    ):
        await health_is(proxy, "up", "up")
        well = False
        await health_is(proxy, "down", "up")
        before = len([r for r in moody.requests if r.method == "POST"])
        for _ in range(4):
            await proxy.ask(CHAT, chat())
        assert len([r for r in moody.requests if r.method == "POST"]) == before
        well = True
        await health_is(proxy, "up", "up")


async def test_a_server_that_does_not_answer_its_checks_is_down() -> None:
    async def silent(up: Conversation) -> None:
        await up.request()
        await up.gone()

    async with (
        Upstream(silent) as upstream,
        penstock(config_for(upstream.url, penstock=IN_TURN)) as proxy,
    ):
        await health_is(proxy, "down")


async def test_when_all_are_down_they_are_asked_all_the_same() -> None:
    ill = server(lambda: response(status=503))
    async with (
        Upstream(ill) as one,
        Upstream(ill) as other,
        penstock(config_for([one.url, other.url], penstock=IN_TURN)) as proxy,
    ):
        await health_is(proxy, "down", "down")
        assert await proxy.ask(CHAT, chat()) == (200, ANSWER)


async def test_checks_are_made_beside_v1_with_the_endpoints_own_key() -> None:
    async with Upstream(server()) as upstream:
        settings = {"endpoints": [{"url": f"{upstream.url}/base/v1", "accessToken": "sesame"}]}

        async with penstock(config_for("", settings=settings, penstock=IN_TURN)):
            while not upstream.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    assert upstream.requests[0].target == "/base/health"
    assert upstream.requests[0].headers["authorization"] == "Bearer sesame"


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("huggingface-tgi", "/info", b'{"model_id":"m","max_concurrent_requests":1}'),
        ("openaicompatible", "/props", b'{"total_slots":1}'),
    ],
)
async def test_what_a_server_says_it_can_take_is_all_it_gets(
    kind: str, path: str, body: bytes
) -> None:
    held = asyncio.Event()

    async def script(up: Conversation) -> None:
        async for request in up.requests():
            if request.method == "GET":
                up.send(response(body if request.target == path else b""))
            else:
                await held.wait()
                up.send(stream(ANSWER))

    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, kind=kind, penstock=IN_TURN)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        await health_is(proxy, "up")
        asked = [group.create_task(proxy.ask(CHAT, chat())) for _ in range(3)]
        while (await proxy.status())["endpoints"][0]["waiting"] < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        (endpoint,) = (await proxy.status())["endpoints"]
        assert (endpoint["in_flight"], endpoint["limit"]) == (1, 1)
        held.set()
    assert [task.result() for task in asked] == [(200, ANSWER)] * 3


async def test_a_reload_without_checks_ends_them() -> None:
    async with (
        Upstream(server()) as upstream,
        penstock(config_for(upstream.url, penstock=IN_TURN)) as proxy,
    ):
        await health_is(proxy, "up")
        assert await proxy.reload(config_for(upstream.url)) == 200
        await asyncio.sleep(0.3)  # the last check that was under way
        before = len(upstream.requests)
        await asyncio.sleep(0.3)
        assert len(upstream.requests) == before


# Readiness


async def ready(proxy: Proxy) -> tuple[int, str]:
    async with proxy.get_admin("/readyz") as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("policy", "one_up", "none_up"), [("config", 200, 200), ("any", 200, 503), ("all", 503, 503)]
)
async def test_readiness_follows_the_policy(policy: str, one_up: int, none_up: int) -> None:
    well = True
    moody = server(lambda: response() if well else response(status=503))
    async with Upstream(moody) as one, Upstream(server(lambda: response(status=503))) as other:
        config = config_for(one.url, penstock={**IN_TURN, "readiness": policy})
        block = config["modelConfiguration"]
        second = {**block["providerOverrides"][0], "id": "other"}
        second["serverSideConfig"] = {
            **second["serverSideConfig"],
            "endpoints": [{"url": other.url}],
        }
        block["providerOverrides"].append(second)
        block["modelOverrides"].append({"modelRef": "other::v1::m", "capabilities": ["chat"]})
        async with penstock(config) as proxy:
            await health_is(proxy, "up", "down")
            assert (await ready(proxy))[0] == one_up
            well = False
            await health_is(proxy, "down", "down")
            assert (await ready(proxy))[0] == none_up


async def test_who_waits_for_a_first_check_is_not_ready() -> None:
    async def silent(up: Conversation) -> None:
        await up.request()
        await up.gone()

    slow = {**SOON, "timeoutSeconds": 30}
    async with (
        Upstream(silent) as upstream,
        penstock(config_for(upstream.url, penstock={"readiness": "any", "health": slow})) as proxy,
    ):
        assert await ready(proxy) == (503, f"no endpoint is known to be up: {MODEL}\n")
