"""What is read from the state itself at each scrape, so that it cannot drift from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from time import monotonic
from types import MappingProxyType

import msgspec
from prometheus_client.core import Metric

from proxy import __version__
from proxy.endpoints import EndpointState, Health
from proxy.metrics import families
from proxy.outcome import Account
from proxy.reload import ReloadStatus
from proxy.traffic.breaker import Circuit

_BEGUN = 200  # what the client of a stream was told when it began
_CIRCUITS = MappingProxyType({Circuit.CLOSED: 0, Circuit.HALF_OPEN: 1, Circuit.OPEN: 2})


class Sources(msgspec.Struct, frozen=True):
    """Where the state is; asked in another thread than the one that changes it."""

    running: Callable[[], Sequence[Account]] = tuple
    endpoints: Callable[[], Iterable[EndpointState]] = tuple
    draining: Callable[[], bool] = bool
    ready: Callable[[], bool] = bool
    lag_seconds: Callable[[], float] = float
    log_dropped: Callable[[], int] = int
    captures: Callable[[], Mapping[str, int]] = dict


def process_gauges(sources: Sources) -> Iterator[Metric]:
    """How the process is."""
    running = sources.running()
    yield families.IN_FLIGHT.at(len(running))
    yield families.STREAMS_ACTIVE.of(_streams(running).items())
    yield families.READY.at(sources.ready())
    yield families.DRAINING.at(sources.draining())
    yield families.LOOP_LAG.at(sources.lag_seconds())
    yield families.LOG_DROPPED.at(sources.log_dropped())
    captures = sources.captures()
    yield families.CAPTURES.of([((result,), count) for result, count in captures.items()])
    yield families.BUILD.of([((__version__,), 1)])


def _streams(running: Iterable[Account]) -> Mapping[tuple[str, str], int]:
    return Counter(
        (account.model, account.endpoint)
        for account in running
        if account.stream and account.status == _BEGUN
    )


def config_gauges(status: ReloadStatus, warnings: int) -> Iterator[Metric]:
    """What serves, and how the last attempt to replace it went."""
    yield families.CONFIG_GENERATION.at(status.generation)
    yield families.CONFIG_OK.at(status.ok)
    yield families.CONFIG_TIME.at(status.loaded_at)
    yield families.CONFIG_HASH.at(int(status.digest[:12], 16))  # what a double holds exactly
    yield families.CONFIG_WARNINGS.at(warnings)


def endpoint_gauges(states: Iterable[EndpointState]) -> Iterator[Metric]:
    """How the endpoints are. Two that differ in their paths alone are one series: the worse."""
    held: dict[tuple[str, str], float] = {}
    up: dict[tuple[str, str], float] = {}
    circuits: dict[tuple[str, str], float] = {}
    limits: dict[tuple[str, str], float] = {}
    waiting: dict[tuple[str], float] = {}
    depths: dict[tuple[str, str], float] = {}
    now = monotonic()
    for state in states:
        key = (state.provider, state.endpoint_name)
        held[key] = held.get(key, 0) + state.inflight
        if state.health is not Health.UNKNOWN:
            up[key] = min(up.get(key, 1), state.health is Health.UP)
        circuits[key] = max(circuits.get(key, 0), _CIRCUITS[state.breaker.circuit(now)])
        if state.told_limit is not None:
            limits[key] = limits.get(key, 0) + state.told_limit
        if (state.provider,) not in waiting:
            waiting[state.provider,] = len(state.line)
            for priority, model in state.line.waiting():
                depths[model, str(priority)] = depths.get((model, str(priority)), 0) + 1
    yield families.ENDPOINT_IN_FLIGHT.of(held.items())
    yield families.ENDPOINT_UP.of(up.items())
    yield families.ENDPOINT_CIRCUIT.of(circuits.items())
    yield families.ENDPOINT_LIMIT.of(limits.items())
    yield families.QUEUE_LENGTH.of(waiting.items())
    yield families.QUEUE_DEPTH.of(depths.items())
