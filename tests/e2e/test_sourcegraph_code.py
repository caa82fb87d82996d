"""Failures of code completions, streamed and whole, as Cody reads them; for each api-version."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.frames import in_reads, same, stream
from tests.e2e.rawclient import raw_client
from tests.e2e.test_sourcegraph_api import (
    CODE,
    IN_STREAM,
    REFUSED,
    TEXT,
    VERSIONS,
    asking,
    at,
    listened,
    says_nothing,
)
from tests.harness import config_for, penstock
from tests.scripted import Conversation, Script, Upstream, response

WORD = b'data: {"id":"x","choices":[{"index":0,"text":"de","finish_reason":null}]}\n\n'
MORE = b'data: {"id":"x","choices":[{"index":0,"text":"f","finish_reason":null}]}\n\n'
WAITS = {"timeouts": {"headersSeconds": 0.15, "idleSeconds": 0.15, "firstTokenSeconds": 0.15}}


async def falls_silent(up: Conversation) -> None:
    """Says two words, then nothing."""
    await up.request()
    await in_reads(up, [WORD, MORE])
    await up.gone()


async def hangs_up(up: Conversation) -> None:
    """Says two words, then breaks the connection off."""
    await up.request()
    await in_reads(up, [WORD, MORE])
    up.reset()


async def begins_and_waits(up: Conversation) -> None:
    """A head, and no word."""
    await up.request()
    await in_reads(up, [])
    await up.gone()


async def never_answers(up: Conversation) -> None:
    """Closes the connection instead."""
    await up.request()
    up.reset()


FAILURES: dict[str, tuple[Script, str, str, str]] = {
    # Before the first event.
    "refused": (
        same(response(REFUSED, status=400)),
        "",
        "message content cannot be empty",
        "rejected",
    ),
    "failed": (same(response(b"oops", status=500)), "", "oops", "upstream_error"),
    "wrong key": (same(response(b"{}", status=401)), "", "status 401", "upstream_error"),
    "gone": (never_answers, "", "closed the connection", "upstream_error"),
    "early": (same(stream(IN_STREAM)), "", "out of memory", "upstream_error"),
    "silent before": (says_nothing, "", "context deadline exceeded: ", "timeout_headers"),
    "silent at first": (begins_and_waits, "", "context deadline", "timeout_first_token"),
    "empty": (same(stream(b"")), "", "", "truncated"),
    "a page": (
        same(response(b"<html>", headers=b"Content-Type: text/html\r\n")),
        "",
        "",
        "upstream_error",
    ),
    # After some text.
    "late": (same(stream(WORD, MORE, IN_STREAM)), "def", "out of memory", "upstream_error"),
    "named": (
        same(stream(WORD, MORE, b"event: error\n" + IN_STREAM)),
        "def",
        "out of memory",
        "upstream_error",
    ),
    "silent after": (falls_silent, "def", "context deadline exceeded: ", "timeout_idle"),
    "truncated": (same(stream(WORD, MORE)), "def", "", "truncated"),
    "half an event": (same(stream(WORD, MORE, MORE[:-9])), "def", "", "truncated"),
    "broken": (hangs_up, "def", "broke off", "truncated"),
    "no json": (same(stream(WORD, MORE, b"data: {\n\n")), "def", "", "upstream_error"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_streamed_completion_that_fails_ends_in_error_and_done(
    failure: str, version: int | None
) -> None:
    script, text, error, outcome = FAILURES[failure]
    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, penstock=WAITS)) as proxy,
    ):
        got = await listened(proxy, CODE, version)
        (line,) = await proxy.ended()

    assert (got.text, got.stop_reason, got.usage, got.model) == (text, "", None, None)
    assert got.error is not None
    assert error in got.error
    assert (line.outcome, line.status) == (outcome, 200)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("begun", [True, False])
async def test_a_drain_ends_streamed_completions_in_error_and_done(
    version: int | None, begun: bool
) -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        asyncio.TaskGroup() as group,
        raw_client(proxy.url) as client,
    ):
        asked = group.create_task(listened(proxy, CODE, version))
        up = await upstream.accept()
        await up.request()
        if begun:
            client.ask(at(CODE, version), asking(stream=True))  # tells when a word is through
            second = await upstream.accept()
            await second.request()
            await in_reads(up, [WORD])
            await in_reads(second, [WORD])
            await client.read_until(b"de")
        await proxy.service.drain(0)
        got = await asked

    assert (got.text, got.error) == ("de" if begun else "", "the proxy is shutting down")


async def broken_whole(up: Conversation) -> None:
    """Half of an answer."""
    await up.request()
    up.send(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"choices":[')
    up.reset()


WHOLE: dict[str, tuple[Script, int, str]] = {
    "refused": (same(response(REFUSED, status=400)), 503, "message content cannot be empty"),
    "failed": (same(response(b"oops", status=500)), 503, "oops"),
    "limited": (same(response(b"slow down", status=429)), 429, "slow down"),
    "a gateway's": (same(response(b"late", status=504)), 504, "late"),
    "gone": (never_answers, 503, "closed the connection"),
    "silent": (says_nothing, 504, "context deadline exceeded: "),
    "in a 200": (same(response(b'{"error":{"message":"out of memory"}}')), 503, "out of memory"),
    "empty": (same(response(b"")), 503, ""),
    "no json": (same(response(b"{")), 503, ""),
    "broken": (broken_whole, 503, "broke off"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("failure", WHOLE)
async def test_a_whole_completion_that_fails_has_a_status_and_a_line(
    failure: str, version: int | None
) -> None:
    script, status, error = WHOLE[failure]
    async with (
        Upstream(script) as upstream,
        penstock(config_for(upstream.url, penstock=WAITS)) as proxy,
        proxy.post(at(CODE, version), asking()) as got,
    ):
        text = await got.text()
        assert (got.status, got.headers["content-type"]) == (status, TEXT)

    assert error in text
    assert text.endswith("\n")
    assert text.count("\n") == 1


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_drain_ends_whole_completions_with_a_503(version: int | None) -> None:
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        asked = group.create_task(proxy.ask(at(CODE, version), asking()))
        up = await upstream.accept()
        await up.request()
        await proxy.service.drain(0)
        answer = await asked

    assert answer == (503, b"the proxy is shutting down\n")
