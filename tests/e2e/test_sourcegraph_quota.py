"""Daily limits through a running penstock: who is counted, what they are told, in each dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from parsers.chat import Operation
from proxy.quota import DAY_SECONDS, Quotas
from tests.e2e.frames import ANSWER, same, stream
from tests.e2e.rawclient import raw_client
from tests.e2e.test_sourcegraph_api import CODE, LLM, STREAM, asking, at, heard, llm
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import Upstream, response

GOOD = same(stream(ANSWER))
CHAT_TEXT = (
    "you exceeded the rate limit for chat_completions, only 1 requests are allowed per day at the"
    " moment to ensure the service stays functional. Current usage: 1. Retry after 86400 s"
)


def limited(url: str, **limits: int) -> dict[str, Any]:
    """A penstock with these limits for everybody."""
    return config_for(url, penstock={"dailyLimits": limits})


async def status_of(proxy: Proxy, path: str, body: object, **kwargs: Any) -> int:
    """The status of an answer."""
    status, _ = await proxy.ask(path, body, **kwargs)
    return status


def stopped(proxy: Proxy) -> list[float]:
    """The proxy's quotas with a clock that stands still; add to its only item to let time pass."""
    now = [0.0]
    proxy.service.quotas = Quotas(clock=lambda: now[0])
    return now


@pytest.mark.parametrize("version", [None, 1, 8])
async def test_one_chat_too_many_is_a_429_that_cody_understands(version: int | None) -> None:
    async with (
        Upstream(GOOD) as upstream,
        penstock(limited(upstream.url, chatRequests=1)) as proxy,
        raw_client(proxy.url) as client,
    ):
        stopped(proxy)
        status, first = await proxy.ask(at(STREAM, version), asking())
        client.ask(at(STREAM, version), asking(), "X-Request-Id: r")
        got = await client.answer()
        lines = await proxy.ended(2)

    assert (status, heard(first, version).text) == (200, "Hi")
    assert (got.status, got.body.decode()) == (429, CHAT_TEXT + "\n")
    assert got.headers == {
        "x-request-id": "r",
        "retry-after": "86400",
        "x-ratelimit-limit": "1",
        "x-ratelimit-remaining": "0",
        "content-type": "text/plain; charset=utf-8",
        "x-content-type-options": "nosniff",
        "content-length": str(len(CHAT_TEXT) + 1),
    }
    assert len(upstream.requests) == 1
    assert (lines[1].outcome, lines[1].status, lines[1].attempts) == ("rejected", 429, 0)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", chat()),
        ("/v1/chat/completions", chat(stream=False)),
        (LLM, llm(stream=True)),
    ],
)
async def test_openais_clients_are_told_in_their_own_way(path: str, body: object) -> None:
    async with (
        Upstream(GOOD) as upstream,
        penstock(limited(upstream.url, chatRequests=1)) as proxy,
    ):
        stopped(proxy)
        await proxy.ask(STREAM, asking())  # the same user, by another route
        async with proxy.post(path, body) as got:
            error = msgspec.json.decode(await got.read())["error"]
            assert got.status == 429
            assert got.headers["content-type"] == "application/json"
            assert got.headers["retry-after"] == "86400"
            assert got.headers["x-ratelimit-limit"] == "1"

    assert error["message"] == CHAT_TEXT
    assert error["code"] == "rate_limit_exceeded"


async def test_every_completion_counts_as_code() -> None:
    async with (
        Upstream(same(response(b'{"choices":[{"index":0,"text":"x"}]}'))) as upstream,
        penstock(limited(upstream.url, codeRequests=1)) as proxy,
    ):
        first = await status_of(proxy, CODE, asking())
        others = [
            await status_of(proxy, path, body)
            for path, body in (
                (CODE, asking()),
                ("/v1/completions", {"model": MODEL, "prompt": "a"}),
                ("/generate", {"inputs": "a"}),
                (f"/models/{MODEL}/generate_stream", {"inputs": "a"}),
            )
        ]
        assert await status_of(proxy, STREAM, asking(stream=False)) == 200  # chat has no limit

    assert (first, others) == (200, [429] * 4)


async def test_a_new_day_begins() -> None:
    async with (
        Upstream(GOOD) as upstream,
        penstock(limited(upstream.url, chatRequests=1)) as proxy,
    ):
        now = stopped(proxy)
        statuses = []
        for seconds in (0, DAY_SECONDS - 0.5, 0.5, 0):
            now[0] += seconds
            async with proxy.post(STREAM, asking()) as got:
                statuses.append((got.status, got.headers.get("retry-after")))

    assert statuses == [(200, None), (429, "1"), (200, None), (429, "86400")]


KEYS = {
    "clients": [
        {"name": "ide", "key": "key-of-ide"},
        {"name": "ci", "key": "key-of-ci", "dailyLimits": {"chatRequests": 2}},
        {"name": "boss", "key": "key-of-boss", "dailyLimits": {"chatRequests": 0}},
    ],
    "dailyLimits": {"chatRequests": 1},
}


def as_client(name: str) -> Mapping[str, str]:
    """The headers of a client."""
    return {"Authorization": f"token key-of-{name}"}


async def test_each_client_has_its_own_limit_and_its_own_count() -> None:
    async with (
        Upstream(GOOD) as upstream,
        penstock(config_for(upstream.url, penstock=KEYS)) as proxy,
    ):
        got = {
            name: [
                await status_of(proxy, STREAM, asking(), headers=as_client(name)) for _ in range(3)
            ]
            for name in ("ide", "ci", "boss")
        }

    assert got == {"ide": [200, 429, 429], "ci": [200, 200, 429], "boss": [200, 200, 200]}


async def test_a_reload_keeps_the_counts_and_brings_the_new_limits() -> None:
    async with (
        Upstream(GOOD) as upstream,
        penstock(limited(upstream.url, chatRequests=2)) as proxy,
    ):
        statuses = [await status_of(proxy, STREAM, asking()) for _ in range(2)]
        for limit in (2, 3, 1, 0):
            assert await proxy.reload(limited(upstream.url, chatRequests=limit)) == 200
            statuses.append(await status_of(proxy, STREAM, asking()))

    assert statuses == [200, 200, 429, 200, 429, 200]


async def test_the_older_keys_count_too() -> None:
    async with Upstream(GOOD) as upstream:
        config = config_for(upstream.url)
        config["completions"] = {"perUserDailyLimit": 1}
        async with penstock(config) as proxy:
            statuses = [await status_of(proxy, STREAM, asking()) for _ in range(2)]

    assert statuses == [200, 429]


async def test_what_is_refused_before_is_not_counted() -> None:
    async with (
        Upstream(GOOD) as upstream,
        penstock(limited(upstream.url, chatRequests=1)) as proxy,
    ):
        for path, body in (
            (STREAM, b"bogus"),
            (STREAM, asking(model="nope")),
            (STREAM + "?api-version=0", asking()),
            ("/v1/chat/completions", chat(model="nope")),
        ):
            assert await status_of(proxy, path, body) in (400, 404, 406)
        assert len(proxy.service.quotas) == 0
        assert await status_of(proxy, STREAM, asking()) == 200


async def test_a_request_that_failed_upstream_was_one() -> None:
    async with (
        Upstream(same(response(b"oops", status=500))) as upstream,
        penstock(limited(upstream.url, codeRequests=1)) as proxy,
    ):
        statuses = [await status_of(proxy, CODE, asking()) for _ in range(2)]

    assert statuses == [503, 429]


async def test_without_limits_nobody_is_counted() -> None:
    async with Upstream(GOOD) as upstream, penstock(config_for(upstream.url)) as proxy:
        await proxy.ask(STREAM, asking())

        assert len(proxy.service.quotas) == 0
        assert proxy.service.registry.config.daily.limit("anonymous", Operation.CHAT) == 0


@pytest.mark.parametrize(
    ("trusted", "statuses"),
    [
        (["127.0.0.0/8"], [200, 200, 429, 429]),
        (["10.0.0.0/8"], [200, 429, 429, 429]),  # whoever asks, it is one address to us
        ([], [200, 429, 429, 429]),
    ],
)
async def test_proxies_that_are_trusted_say_who_asks(
    trusted: list[str], statuses: list[int]
) -> None:
    async with Upstream(GOOD) as upstream:
        config = limited(upstream.url, chatRequests=1)
        config["penstock"]["listen"] = {"trustedProxies": trusted}
        async with penstock(config) as proxy:
            stopped(proxy)
            told = ("203.0.113.1", "203.0.113.2", "203.0.113.2", "203.0.113.9, 203.0.113.1")
            found = [
                await status_of(proxy, STREAM, asking(), headers={"X-Forwarded-For": each})
                for each in told
            ]

            assert found == statuses
            assert b"203.0.113" not in proxy.written()
