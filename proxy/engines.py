"""Reads the metrics of self-hosted servers, so that they can be shown by model and endpoint."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from time import monotonic

import msgspec

from proxy.endpoints import Endpoint, EndpointState
from proxy.metrics.engines import MAX_PAGE_BYTES, Reading, values_in
from proxy.providers.base import Provider
from proxy.registry import Registry
from proxy.transport import TransportError
from proxy.upstream import Upstream

SHARED = "shared"  # in the place of a model, for an endpoint that serves several
TICK_SECONDS = 0.25  # how late a reading may be

_PATH = "/metrics"
_AT_ONCE = 8  # endpoints asked at the same time
_PATIENCE_SECONDS = 5.0  # with one of them

_logger = logging.getLogger(__name__)


class Engine(msgspec.Struct, frozen=True):
    """An endpoint that may tell its metrics."""

    provider: Provider
    model: str
    endpoint: Endpoint
    state: EndpointState


class Engines:
    """Reads the endpoints of whichever registry serves; `run` until cancelled."""

    def __init__(self, registry: Callable[[], Registry], upstream: Upstream) -> None:
        self._registry = registry
        self._upstream = upstream
        self.readings: tuple[Reading, ...] = ()  # the latest; none of those that did not answer

    async def run(self) -> None:
        """Read them all as often as the configuration says."""
        due = monotonic()
        while True:
            seconds = self._registry().config.site.penstock.metrics.engine_seconds
            if seconds is None:
                self.readings = ()
            elif monotonic() >= due:
                due = monotonic() + seconds
                self.readings = await self._read_all(engines(self._registry()))
            await asyncio.sleep(TICK_SECONDS)

    async def _read_all(self, found: Iterable[Engine]) -> tuple[Reading, ...]:
        room = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._read(engine, room)) for engine in found]
        readings = (task.result() for task in tasks)
        return tuple(reading for reading in readings if reading is not None)

    async def _read(self, engine: Engine, room: asyncio.Semaphore) -> Reading | None:
        head = engine.provider.check_head(engine.endpoint, _PATH)
        async with room:
            try:
                answer = await self._upstream.fetch(
                    head, engine.state, seconds=_PATIENCE_SECONDS, limit_bytes=MAX_PAGE_BYTES
                )
            except TransportError:
                return None
            except Exception:  # a bug here must not stop all readings
                _logger.exception("an endpoint's metrics could not be read")
                return None
        if answer.status != 200:
            return None
        return Reading(engine.model, engine.endpoint.name, values_in(answer.body))


def engines(registry: Registry) -> list[Engine]:
    """The self-hosted endpoints, each once."""
    found: dict[EndpointState, Engine] = {}
    for model in registry.models.values():
        if model.provider.checks is None:
            continue
        for member in model.pool.members:
            label = SHARED if member.state in found else model.label
            found[member.state] = Engine(model.provider, label, member.endpoint, member.state)
    return list(found.values())
