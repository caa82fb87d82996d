"""Asks again and again which addresses are behind the names that stand for all of them.

A name that cannot be resolved for a while keeps the addresses it had: DNS fails more often than
all of a model's servers go away at once.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence

from proxy.endpoints import Endpoint
from proxy.origin import parse_origin
from proxy.registry import Registry

INTERVAL_SECONDS = 5.0
_PATIENCE_SECONDS = 5.0


class Resolver:
    """Keeps the pools of whichever registry serves up to date; `run` until cancelled."""

    def __init__(self, registry: Callable[[], Registry]) -> None:
        self._registry = registry

    async def run(self) -> None:
        """Resolve every few seconds, and soon after a reload."""
        seen: Registry | None = None
        waited = 0.0
        while True:
            registry = self._registry()
            if registry is not seen or waited >= INTERVAL_SECONDS:
                await self._resolve(registry)
                seen, waited = registry, 0.0
            del registry
            await asyncio.sleep(0.25)
            waited += 0.25

    async def _resolve(self, registry: Registry) -> None:
        models = [model for model in registry.models.values() if model.pool.groups]
        groups = {group: endpoint for model in models for endpoint, group in model.pool.groups}
        found = await asyncio.gather(*(addresses_of(each) for each in groups.values()))
        for group, addresses in zip(groups, found, strict=True):
            group.addresses = tuple(addresses) or group.addresses
        for model in models:
            model.pool.refresh()
            model.shared.line.wake()  # there may be room at a new address


async def addresses_of(endpoint: Endpoint) -> Sequence[str]:
    """The addresses behind an endpoint's name, sorted; none where it cannot be resolved."""
    origin = parse_origin(endpoint.url)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            infos = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return ()
    return sorted({str(info[4][0]) for info in infos})
