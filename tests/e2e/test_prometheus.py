"""The metrics page as Prometheus's own linter sees it."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT
from typing import cast

import pytest

from tests.e2e.demo_server import before_demo
from tests.harness import chat, config_for, penstock

PROMTOOL = shutil.which("promtool")
NEEDS_PROMTOOL = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


async def linted(page: str) -> tuple[int, str]:
    """The exit status of `promtool check metrics`, and what it found."""
    process = await asyncio.create_subprocess_exec(
        cast("str", PROMTOOL), "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    out, _ = await process.communicate(page.encode())
    return process.returncode or 0, out.decode()


@NEEDS_PROMTOOL
async def test_the_linter_finds_nothing_before_the_first_request() -> None:
    async with before_demo("openai") as (proxy, _):
        page = await proxy.metrics()

    assert await linted(page) == (0, "")


@NEEDS_PROMTOOL
async def test_the_linter_finds_nothing_after_answers_failures_and_refusals() -> None:
    async with before_demo("openai") as (proxy, _):
        for prompt in ("hello", "[[fail]]", "[[overload]]"):
            for stream in (True, False):
                await proxy.ask("/v1/chat/completions", chat(prompt, stream=stream))
        await proxy.ask("/generate", b"{")
        page = await proxy.metrics()

    assert "penstock_tokens_total" in page
    assert await linted(page) == (0, "")


async def test_endpoints_behind_one_address_are_one_series() -> None:
    async with penstock(config_for(["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"])) as proxy:
        page = await proxy.metrics()

    assert page.count("penstock_endpoint_in_flight{") == 1


@NEEDS_PROMTOOL
async def test_the_linter_is_awake() -> None:
    status, found = await linted("# TYPE penstock_requests counter\npenstock_requests 1\n")

    assert status == 3
    assert "_total" in found
