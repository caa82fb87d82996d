"""Every Prometheus series, in one class.

Labels come from the configured registry only: what is unknown is called so. Children are found
once per kind of request and kept; nothing here runs per token. Gauges of what is in flight are
read at the scrape from the state itself, so they cannot drift.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.endpoints import EndpointState
from proxy.outcome import Account
from proxy.reload import ReloadStatus

# From a cache hit to a reasoning model behind a long queue.
DURATION_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
FIRST_TOKEN_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 20, 40, 80, 160)
INTER_TOKEN_BUCKETS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5)


class RequestSeries:
    """The children that every request of one model and dialect needs."""

    __slots__ = (
        "_metrics",
        "_model",
        "duration",
        "first_token",
        "inter_token",
        "outcomes",
        "tokens",
    )

    def __init__(self, metrics: Metrics, model: str, dialect: str) -> None:
        self.duration = metrics.duration.labels(model, dialect)
        self.first_token = metrics.first_token.labels(model)
        self.inter_token = metrics.inter_token.labels(model)
        self.outcomes: dict[str, Counter] = {}
        self.tokens: dict[tuple[str, str], Counter] = {}
        self._metrics = metrics
        self._model = model

    def count_tokens(self, kind: str, source: str, count: int) -> None:
        """Add to `penstock_tokens_total`."""
        child = self.tokens.get((kind, source))
        if child is None:
            child = self._metrics.tokens.labels(self._model, kind, source)
            self.tokens[kind, source] = child
        child.inc(count)


class Metrics:
    """All series of one penstock, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.started = Counter(
            "penstock_requests_started", "Requests that came in.", registry=registry
        )
        self.requests = Counter(
            "penstock_requests",
            "Requests by how they ended; each ends in exactly one outcome.",
            ("model", "dialect", "outcome"),
            registry=registry,
        )
        self.duration = Histogram(
            "penstock_request_duration_seconds",
            "From the request's head to the last byte of its answer.",
            ("model", "dialect"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self.first_token = Histogram(
            "penstock_time_to_first_token_seconds",
            "From the request's head to the first event with content.",
            ("model",),
            buckets=FIRST_TOKEN_BUCKETS,
            registry=registry,
        )
        self.inter_token = Histogram(
            "penstock_inter_token_seconds",
            "Mean time between two events with content, one observation per stream.",
            ("model",),
            buckets=INTER_TOKEN_BUCKETS,
            registry=registry,
        )
        self.tokens = Counter(
            "penstock_tokens",
            "Tokens by kind (input, output, cached, reasoning) and by who counted them.",
            ("model", "kind", "source"),
            registry=registry,
        )
        self.attempts = Counter(
            "penstock_upstream_attempts",
            "Calls to model servers by verdict (success, busy, fault, refused, cancelled).",
            ("model", "endpoint", "verdict"),
            registry=registry,
        )
        self.faults = Counter(
            "penstock_faults",
            "Failures by kind, by whose fault they are, and by the phase they ended.",
            ("kind", "origin", "phase"),
            registry=registry,
        )
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
        Gauge(
            "penstock_build_info", "Which penstock this is.", ("version",), registry=registry
        ).labels(__version__).set(1)
        self._attempts: dict[tuple[str, str, str], Counter] = {}
        self._series: dict[tuple[str, str], RequestSeries] = {}

    def series(self, model: str, dialect: str) -> RequestSeries:
        """The kept children of a model and a client dialect."""
        found = self._series.get((model, dialect))
        if found is None:
            found = self._series[model, dialect] = RequestSeries(self, model, dialect)
        return found

    def watch_inflight(
        self, requests: Callable[[], int], endpoints: Callable[[], Iterable[EndpointState]]
    ) -> None:
        """Read the in-flight gauges from these, at each scrape."""
        self.registry.register(InFlight(requests, endpoints))

    def reloaded(self, status: ReloadStatus) -> None:
        """Count an attempt to load the configuration."""
        self.reloads.labels("success" if status.ok else "failure").inc()
        self.reload_ok.set(status.ok)
        self.generation.set(status.generation)
        self.reload_time.set(status.loaded_at)

    def count_attempt(self, model: str, endpoint: str, verdict: str) -> None:
        """Count a call to a model server."""
        child = self._attempts.get((model, endpoint, verdict))
        if child is None:
            child = self._attempts[model, endpoint, verdict] = self.attempts.labels(
                model, endpoint, verdict
            )
        child.inc()

    def count(self, account: Account) -> None:
        """Count a request that has ended; called once for each."""
        series = self.series(account.model, account.dialect)
        outcome = account.outcome or "internal_error"
        child = series.outcomes.get(outcome)
        if child is None:
            child = self.requests.labels(account.model, account.dialect, outcome)
            series.outcomes[outcome] = child
        child.inc()
        series.duration.observe(account.ended - account.started)
        self._count_stream(series, account)
        self._count_tokens(series, account)
        if account.fault is not None:
            fault = account.fault
            self.faults.labels(fault.kind, fault.origin, account.phase).inc()

    @staticmethod
    def _count_stream(series: RequestSeries, account: Account) -> None:
        first, last = account.first_token, account.last_token
        if first is None or last is None or not account.stream:
            return
        series.first_token.observe(first - account.started)
        if account.contents > 1:
            series.inter_token.observe((last - first) / (account.contents - 1))

    @staticmethod
    def _count_tokens(series: RequestSeries, account: Account) -> None:
        usage = account.usage
        if usage is None:
            if account.stream and account.contents:
                series.count_tokens("output", "counted", account.contents)
            return
        series.count_tokens("input", "reported", usage.prompt)
        series.count_tokens("output", "reported", usage.completion)
        if usage.cached:
            series.count_tokens("cached", "reported", usage.cached)
        if usage.reasoning:
            series.count_tokens("reasoning", "reported", usage.reasoning)


class InFlight(Collector):
    """What runs at the moment of the scrape."""

    def __init__(
        self, requests: Callable[[], int], endpoints: Callable[[], Iterable[EndpointState]]
    ) -> None:
        self._requests = requests
        self._endpoints = endpoints

    def collect(self) -> Iterable[Metric]:
        """The gauges, read now."""
        total = GaugeMetricFamily("penstock_requests_in_flight", "Requests not yet ended.")
        total.add_metric([], self._requests())
        yield total
        each = GaugeMetricFamily(
            "penstock_endpoint_in_flight",
            "Requests that hold an endpoint.",
            labels=("provider", "endpoint"),
        )
        for state in self._endpoints():
            each.add_metric([state.provider, state.endpoint_name], state.inflight)
        yield each
