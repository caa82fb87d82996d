"""Every Prometheus series, in one class.

A request costs a handful of additions to plain numbers, kept per model; they become series at the
scrape. prometheus-client's own counters take a lock each time, which together cost a request more
than all its JSON. Nothing here runs per token. Gauges of what is in flight are read at the scrape
from the state itself, so they cannot drift.

Labels come from the configured registry only: what is unknown is called so.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.endpoints import EndpointState
from proxy.outcome import Account, Outcome
from proxy.reload import ReloadStatus

# From a cache hit to a reasoning model behind a long queue.
DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 20, 40, 80, 160)
INTER_TOKEN_BUCKETS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5)


class Distribution:
    """How often a value fell into each bucket, and the sum of all."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Add one value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds and how many values were at most that, as Prometheus wants them."""
        below, buckets = 0, []
        for bound, count in zip((*self._bounds, inf), tuple(self.counts), strict=True):
            below += count
            buckets.append(("+Inf" if bound == inf else str(float(bound)), float(below)))
        return buckets


class Tally:
    """What the requests for one model added up to."""

    __slots__ = ("attempts", "durations", "first_token", "inter_token", "outcomes", "tokens")

    def __init__(self) -> None:
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)  # dialect, outcome
        self.durations: dict[str, Distribution] = {}  # by dialect
        self.first_token = Distribution(FIRST_TOKEN_BUCKETS)
        self.inter_token = Distribution(INTER_TOKEN_BUCKETS)
        self.tokens: defaultdict[tuple[str, str], int] = defaultdict(int)  # kind, source
        self.attempts: defaultdict[tuple[str, str], int] = defaultdict(int)  # endpoint, verdict

    def add(self, account: Account) -> None:
        """Add a request that has ended."""
        dialect = account.dialect
        self.outcomes[dialect, account.outcome or Outcome.INTERNAL_ERROR] += 1
        durations = self.durations.get(dialect)
        if durations is None:
            durations = self.durations[dialect] = Distribution(DURATION_BUCKETS)
        durations.observe(account.ended - account.started)
        if account.stream:
            self._add_stream(account)
        if account.usage is not None:
            self._add_usage(account)

    def _add_stream(self, account: Account) -> None:
        first, last = account.first_token, account.last_token
        if first is None or last is None:
            return
        self.first_token.observe(first - account.started)
        if account.contents > 1:
            self.inter_token.observe((last - first) / (account.contents - 1))
        if account.usage is None:
            self.tokens["output", "counted"] += account.contents

    def _add_usage(self, account: Account) -> None:
        usage = account.usage
        assert usage is not None  # noqa: S101 - the caller looked
        self.tokens["input", "reported"] += usage.prompt
        self.tokens["output", "reported"] += usage.completion
        if usage.cached:
            self.tokens["cached", "reported"] += usage.cached
        if usage.reasoning:
            self.tokens["reasoning", "reported"] += usage.reasoning


class Metrics(Collector):
    """All series of one penstock, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.started = 0
        self._tallies: defaultdict[str, Tally] = defaultdict(Tally)
        self._faults: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._retries: defaultdict[str, int] = defaultdict(int)
        self._fallbacks: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._dropped: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._in_flight: Callable[[], int] = int
        self._endpoints: Callable[[], Iterable[EndpointState]] = tuple
        self._draining: Callable[[], bool] = bool
        self.reloads = Counter(
            "penstock_config_reloads",
            "Attempts to load the configuration.",
            ("result",),
            registry=registry,
        )
        self.generation = Gauge(
            "penstock_config_generation",
            "Number of the configuration that serves new requests.",
            registry=registry,
        )
        self.reload_ok = Gauge(
            "penstock_config_last_reload_successful",
            "1 if the last attempt to load the configuration worked, else 0.",
            registry=registry,
        )
        self.reload_time = Gauge(
            "penstock_config_last_success_timestamp_seconds",
            "When the configuration that serves new requests was loaded.",
            registry=registry,
        )
        self.digest = Gauge(
            "penstock_config_hash",
            "The first 48 bits of the SHA-256 of the configuration that serves new requests.",
            registry=registry,
        )
        self.warnings = Gauge(
            "penstock_config_warnings",
            "Warnings about the configuration that serves new requests.",
            registry=registry,
        )
        Gauge(
            "penstock_build_info", "Which penstock this is.", ("version",), registry=registry
        ).labels(__version__).set(1)
        registry.register(self)

    def watch_inflight(
        self, requests: Callable[[], int], endpoints: Callable[[], Iterable[EndpointState]]
    ) -> None:
        """Read the in-flight gauges from these, at each scrape."""
        self._in_flight = requests
        self._endpoints = endpoints

    def watch_drain(self, draining: Callable[[], bool]) -> None:
        """Read from this whether a drain has begun, at each scrape."""
        self._draining = draining

    def reloaded(self, status: ReloadStatus, warnings: int) -> None:
        """Count an attempt to load the configuration; `warnings` are of the one that serves."""
        self.reloads.labels("success" if status.ok else "failure").inc()
        self.reload_ok.set(status.ok)
        self.generation.set(status.generation)
        self.reload_time.set(status.loaded_at)
        self.digest.set(int(status.digest[:12], 16))  # what a double holds exactly
        self.warnings.set(warnings)

    def count_attempt(self, model: str, endpoint: str, verdict: str) -> None:
        """Count a call to a model server."""
        self._tallies[model].attempts[endpoint, verdict] += 1

    def count_retry(self, model: str) -> None:
        """Count a call that is made again."""
        self._retries[model] += 1

    def count_fallback(self, model: str, other: str) -> None:
        """Count a request that another model is asked in the place of this one."""
        self._fallbacks[model, other] += 1

    def count(self, account: Account) -> None:
        """Count a request that has ended; called once for each."""
        self._tallies[account.model].add(account)
        for name in account.dropped:
            self._dropped[account.dialect, name] += 1
        fault = account.fault
        if fault is not None:
            self._faults[fault.kind, fault.origin, account.phase] += 1

    def collect(self) -> Iterator[Metric]:
        """The families, as of now; runs in a thread, so it reads copies."""
        tallies = list(self._tallies.items())
        yield CounterMetricFamily(
            "penstock_requests_started", "Requests that came in.", value=self.started
        )
        yield _counter(
            "penstock_requests",
            "Requests by how they ended; each ends in exactly one outcome.",
            ("model", "dialect", "outcome"),
            [((model, *key), n) for model, t in tallies for key, n in list(t.outcomes.items())],
        )
        yield _histogram(
            "penstock_request_duration_seconds",
            "From the request's head to the last byte of its answer.",
            ("model", "dialect"),
            [((model, key), d) for model, t in tallies for key, d in list(t.durations.items())],
        )
        yield _histogram(
            "penstock_time_to_first_token_seconds",
            "From the request's head to the first event with content.",
            ("model",),
            [((model,), tally.first_token) for model, tally in tallies],
        )
        yield _histogram(
            "penstock_inter_token_seconds",
            "Mean time between two events with content, one observation per stream.",
            ("model",),
            [((model,), tally.inter_token) for model, tally in tallies],
        )
        yield _counter(
            "penstock_tokens",
            "Tokens by kind (input, output, cached, reasoning) and by who counted them.",
            ("model", "kind", "source"),
            [((model, *key), n) for model, t in tallies for key, n in list(t.tokens.items())],
        )
        yield _counter(
            "penstock_upstream_attempts",
            "Calls to model servers by verdict (success, busy, fault, refused, cancelled).",
            ("model", "endpoint", "verdict"),
            [((model, *key), n) for model, t in tallies for key, n in list(t.attempts.items())],
        )
        yield _counter(
            "penstock_faults",
            "Failures by kind, by whose fault they are, and by the phase they ended.",
            ("kind", "origin", "phase"),
            list(self._faults.items()),
        )
        yield _counter(
            "penstock_retries",
            "Calls made again at another endpoint, before the client's first byte.",
            ("model",),
            [((model,), n) for model, n in list(self._retries.items())],
        )
        yield _counter(
            "penstock_fallbacks",
            "Requests for which another model was asked in a model's place.",
            ("model", "asked"),
            list(self._fallbacks.items()),
        )
        yield _counter(
            "penstock_dropped_fields",
            "Hints in requests that a model server has no word for, by the client's dialect.",
            ("dialect", "field"),
            list(self._dropped.items()),
        )
        yield GaugeMetricFamily(
            "penstock_requests_in_flight", "Requests not yet ended.", value=self._in_flight()
        )
        yield GaugeMetricFamily(
            "penstock_draining", "1 once a drain has begun, else 0.", value=self._draining()
        )
        yield self._endpoint_gauge()

    def _endpoint_gauge(self) -> Metric:
        family = GaugeMetricFamily(
            "penstock_endpoint_in_flight",
            "Requests that hold an endpoint.",
            labels=("provider", "endpoint"),
        )
        held: defaultdict[tuple[str, str], int] = defaultdict(int)
        for state in self._endpoints():  # two URLs may differ in their paths alone
            held[state.provider, state.endpoint_name] += state.inflight
        for names, inflight in held.items():
            family.add_metric(names, inflight)
        return family


def _counter(
    name: str,
    text: str,
    labels: Sequence[str],
    values: Iterable[tuple[Sequence[str], float]],
) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _histogram(
    name: str,
    text: str,
    labels: Sequence[str],
    values: Iterable[tuple[Sequence[str], Distribution]],
) -> Metric:
    family = HistogramMetricFamily(name, text, labels=labels)
    for key, distribution in values:
        family.add_metric(key, distribution.buckets(), distribution.total)
    return family
