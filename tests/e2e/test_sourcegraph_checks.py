"""What a Cody request is refused for before anybody looks into its body."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.e2e.frames import ANSWER, same, stream, whole_saying
from tests.e2e.test_sourcegraph_api import CODE, LLM, STREAM, TEXT, asking, llm
from tests.harness import chat, config_for, penstock
from tests.scripted import Upstream, response

OFF = {"cody.enabled": False}
FILTERS = {"cody.contextFilters": {"exclude": [{"repoNamePattern": ".*secret.*"}]}}


@pytest.mark.parametrize("path", [STREAM, CODE, STREAM + "?api-version=0"])
async def test_a_cody_that_is_switched_off_is_told_so_before_all_else(path: str) -> None:
    async with Upstream() as upstream, penstock({**config_for(upstream.url), **OFF}) as proxy:
        for body in (asking(), b"bogus"):
            async with proxy.post(path, body) as got:
                assert (got.status, got.headers["content-type"]) == (401, TEXT)
                assert await got.text() == "cody is not enabled: cody is disabled\n"
        assert upstream.connections == 0


async def test_a_key_is_asked_for_before_that() -> None:
    keys = {"clients": [{"name": "a", "key": "key-of-a"}]}
    async with penstock({**config_for("http://h.example/v1", penstock=keys), **OFF}) as proxy:
        assert await proxy.ask(STREAM, asking()) == (401, b"Unauthorized\n")


async def test_a_cody_that_is_switched_off_has_no_features() -> None:
    async with penstock({**config_for("http://h.example/v1"), **OFF}) as proxy:
        async with proxy.get("/.api/client-config") as got:
            told = msgspec.json.decode(await got.read())
        status, body = await proxy.ask(LLM, llm())

    switches = ("codyEnabled", "chatEnabled", "autoCompleteEnabled", "customCommandsEnabled")
    assert [told[switch] for switch in switches] == [False] * 4
    error = msgspec.json.decode(body)["error"]
    assert (status, error["message"]) == (401, "cody is not enabled: cody is disabled")


@pytest.mark.parametrize(
    ("given", "on"),
    [
        (None, {"chat", "autoComplete", "customCommands"}),
        ({}, set()),
        ({"chat": True, "chatVision": True}, {"chat"}),
        ({"autoComplete": True, "commands": True}, {"autoComplete", "customCommands"}),
    ],
)
async def test_features_that_the_site_has_not_switched_on_are_off(
    given: dict[str, bool] | None, on: set[str]
) -> None:
    config = {**config_for("http://h.example/v1"), "configFeatures": given}
    async with penstock(config) as proxy, proxy.get("/.api/client-config") as got:
        told = msgspec.json.decode(await got.read())

    assert told["codyEnabled"]
    switches = ("chat", "autoComplete", "customCommands")
    assert {each for each in switches if told[f"{each}Enabled"]} == on


async def test_everybody_else_is_still_served() -> None:
    async with (
        Upstream(same(response(whole_saying(b"Hi")))) as upstream,
        penstock({**config_for(upstream.url), **OFF}) as proxy,
    ):
        status, _ = await proxy.ask("/v1/chat/completions", chat(stream=False))

    assert status == 200


REQUIRED = '"client-{}" query param is required.'
OLD = (
    'Cody for {} version "{}" doesn\'t match version constraint ">= {}".'
    " Please upgrade your client."
)
ODD = 'Cody for {} version "{}" doesn\'t follow semver spec.'

# The original's own cases: checkClientCodyIgnoreCompatibility.
INCOMPATIBLE = [
    ({}, 406, REQUIRED.format("name")),
    ({"client-version": "1.1.1"}, 406, REQUIRED.format("name")),
    ({"client-name": "vscode"}, 406, REQUIRED.format("version")),
    ({"client-name": "sublime"}, 406, REQUIRED.format("version")),
    *(
        ({"client-name": name, "client-version": version}, 400, ODD.format(name, version))
        for name, version in (
            ("sublime", "banana"),
            ("vscode", "dev"),
            ("vscode", "."),
            ("vscode", "1.2.3-"),
            ("vscode", "1.2.3-a^1"),
            ("vscode", "1.2.3-alpha+"),
            ("vscode", "1.2.3\u0661"),
            ("vscode", "9" * 19),
        )
    ),
    *(
        ({"client-name": name, "client-version": version}, 406, OLD.format(name, version, least))
        for name, version, least in (
            ("vscode", "0.1", "1.20.0"),
            ("vscode", "1.2", "1.20.0"),
            ("vscode", "v1", "1.20.0"),
            ("vscode", "1.19.0", "1.20.0"),
            ("vscode", "1.15.1815730510", "1.20.0"),
            ("vscode", "2.3.11-alpha", "1.20.0"),
            ("vscode", "2.3.11-beta+exp.sha.5114f85a", "1.20.0"),
            ("jetbrains", "1.14.0", "6.0.0"),
            ("jetbrains", "6.0-localbuild", "6.0.0"),
        )
    ),
]
COMPATIBLE = [
    ("vscode", "1.20.0"),
    ("vscode", "2"),
    ("vscode", "v2"),
    ("vscode", "2.0.0+20130313144700"),
    ("jetbrains", "6.0.0"),
    ("sublime", "1.1.0"),
    ("sublime", "1.2.0-M1"),
    ("sublime", "0.0.0-0"),
    ("web", ""),
    ("web", "dev"),
]


@pytest.mark.parametrize(("query", "status", "text"), INCOMPATIBLE)
async def test_context_filters_keep_old_clients_out(
    query: dict[str, str], status: int, text: str
) -> None:
    async with Upstream() as upstream, penstock({**config_for(upstream.url), **FILTERS}) as proxy:
        for path in (STREAM, CODE):
            async with proxy.post(path, b"bogus", params=query) as got:
                assert (got.status, got.headers["content-type"]) == (status, TEXT)
                assert await got.text() == f"ClientCodyIgnoreCompatibilityError: {text}\n"
        assert upstream.connections == 0


@pytest.mark.parametrize(("name", "version"), COMPATIBLE)
async def test_context_filters_let_recent_clients_in(name: str, version: str) -> None:
    query = {"client-name": name, "client-version": version, "api-version": "8"}
    async with (
        Upstream(same(stream(ANSWER))) as upstream,
        penstock({**config_for(upstream.url), **FILTERS}) as proxy,
        proxy.post(STREAM, asking(), params=query) as got,
    ):
        assert (got.status, b"deltaText" in await got.read()) == (200, True)


async def test_the_api_version_is_checked_before_the_clients() -> None:
    async with penstock({**config_for("http://h.example/v1"), **FILTERS}) as proxy:
        status, body = await proxy.ask(STREAM + "?api-version=0", asking())

    assert (status, body) == (406, b"Unsupported API Version (Please update your client)\n")


@pytest.mark.parametrize("query", [{}, {"client-name": "vscode", "client-version": "0.1"}])
async def test_without_context_filters_no_client_is_too_old(query: dict[str, Any]) -> None:
    async with (
        Upstream(same(stream(ANSWER))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        proxy.post(STREAM, asking(), params=query) as got,
    ):
        assert got.status == 200
