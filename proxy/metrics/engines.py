"""What model servers say of themselves, shown under penstock's labels.

TGI's series have no model in them, and vLLM's have whatever its operator called it. Only the names
below are taken; a server's own labels are added up, or the highest is shown where a sum would mean
nothing. Names by TGI 3.3 (router/src/server.rs) and vLLM V1 (vllm/v1/metrics/loggers.py).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from types import MappingProxyType

import msgspec
from prometheus_client.core import Metric

from proxy.metrics.families import engine_family
from proxy.metrics.family import Family

MAX_PAGE_BYTES = 1024 * 1024  # vLLM's page with all its histograms has a tenth of that

_LINE = re.compile(rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^\n]*\})?[ \t]+([^ \t\n]+)", re.MULTILINE)


class Series(msgspec.Struct, frozen=True):
    """A series of a server's, and how those with other labels of its own are put together."""

    family: Family
    fold: Callable[[float, float], float]


def _plus(one: float, other: float) -> float:
    return one + other


def _gauge(name: str, text: str, fold: Callable[[float, float], float] = _plus) -> Series:
    return Series(engine_family(name, "gauge", text), fold)


def _counter(name: str, text: str) -> Series:
    return Series(engine_family(name, "counter", text), _plus)


SERIES: Mapping[str, Series] = MappingProxyType(
    {
        "tgi_queue_size": _gauge("tgi_queue_size", "requests that wait for a batch."),
        "tgi_batch_current_size": _gauge("tgi_batch_current_size", "requests in the batch."),
        "tgi_batch_current_max_tokens": _gauge(
            "tgi_batch_current_max_tokens", "tokens that the batch may come to."
        ),
        "tgi_batch_max_total_tokens": _gauge(
            "tgi_batch_max_total_tokens", "tokens that a batch may come to at most."
        ),
        "tgi_request_count": _counter("tgi_request_count", "requests."),
        "tgi_request_failure": _counter("tgi_request_failure", "requests that failed."),
        "vllm:num_requests_running": _gauge("vllm:num_requests_running", "requests in the batch."),
        "vllm:num_requests_waiting": _gauge("vllm:num_requests_waiting", "requests that wait."),
        "vllm:kv_cache_usage_perc": _gauge(
            "vllm:kv_cache_usage_perc", "share of the KV cache in use, of the fullest.", max
        ),
        "vllm:prefix_cache_queries_total": _counter(
            "vllm:prefix_cache_queries_total", "tokens looked for in the prefix cache."
        ),
        "vllm:prefix_cache_hits_total": _counter(
            "vllm:prefix_cache_hits_total", "tokens found in the prefix cache."
        ),
        "vllm:num_preemptions_total": _counter(
            "vllm:num_preemptions_total", "requests put back for want of room."
        ),
    }
)
FAMILIES = tuple(series.family for series in SERIES.values())


class Reading(msgspec.Struct, frozen=True):
    """What an endpoint said when it was last asked."""

    model: str
    endpoint: str
    values: Mapping[str, float]  # by the server's own names


def values_in(page: bytes) -> dict[str, float]:
    """What stands in a metrics page under the names we know."""
    found: dict[str, float] = {}
    for name, text in _LINE.findall(page[:MAX_PAGE_BYTES]):
        series = SERIES.get(name.decode())
        if series is None:
            continue
        value = _number(text)
        if value is not None:
            key = name.decode()
            found[key] = series.fold(found[key], value) if key in found else value
    return found


def _number(text: bytes) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def engine_families(readings: Iterable[Reading]) -> Iterator[Metric]:
    """The families of what was read; none where nothing was."""
    by_name: defaultdict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for each in readings:
        for name, value in each.values.items():
            by_name[name][each.model, each.endpoint] = value
    for name, values in by_name.items():
        yield SERIES[name].family.of(values.items())
