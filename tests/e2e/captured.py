"""Captures of a penstock under test: where it writes them, and what is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from proxy.capture import CaptureFile, read_capture
from tests.harness import Proxy, config_for


def capturing(
    url: str | Sequence[str],
    directory: Path,
    settings: Mapping[str, object] | None = None,
    **capture: object,
) -> dict[str, Any]:
    """A configuration whose captures go to this directory."""
    block = {"capture": {"directory": str(directory), **capture}}
    return config_for(url, settings=settings, penstock=block)


async def files(directory: Path, count: int = 1) -> list[bytes]:
    """The captures, oldest first, once there are this many."""
    while len(found := sorted(directory.glob("*.capture"))) < count:  # noqa: ASYNC110 - no event
        await asyncio.sleep(0.005)
    return [each.read_bytes() for each in found]


async def captures(directory: Path, count: int = 1) -> list[CaptureFile]:
    """The same, read."""
    return [read_capture(each) for each in await files(directory, count)]


async def counted(proxy: Proxy, result: str, count: int) -> None:
    """Until so many captures were written, dropped or have failed."""
    while proxy.service.captures.counts[result] < count:  # noqa: ASYNC110 - a thread counts
        await asyncio.sleep(0.005)


async def debug(proxy: Proxy, method: str, order: object = None) -> tuple[int, Any]:
    """What the admin listener answers to an order."""
    data = None if order is None else msgspec.json.encode(order)
    url = f"{proxy.admin_url}/debug"
    async with proxy._session.request(method, url, data=data) as got:
        return got.status, msgspec.json.decode(await got.read())
