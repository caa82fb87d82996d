"""The families of series by name, with their labels and what they mean: `docs/metrics.md` too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

import msgspec
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar

# What stands at a bound of a histogram: the bound, how many values were at most that, an example.
Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]


class Spread(Protocol):
    """What a histogram is made of."""

    @property
    def total(self) -> float:
        """The sum of all values."""

    def buckets(self, *, coarse: bool) -> list[Bucket]:
        """Each bound, in order; fewer of them if `coarse`."""


class Family(msgspec.Struct, frozen=True):
    """A name, and what its series have in common; a counter's ends in `_total` on the page."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Its name on the page and in queries."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def of(self, values: Iterable[tuple[Sequence[str], float]]) -> Metric:
        """The family with these values, by their labels."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = kind(self.name, self.text, labels=self.labels)
        for key, value in values:
            family.add_metric(key, value)
        return family

    def at(self, value: float) -> Metric:
        """The family with its one value."""
        return self.of([((), value)])

    def over(
        self, values: Iterable[tuple[Sequence[str], Spread]], *, coarse: bool = False
    ) -> Metric:
        """The histograms with these values, by their labels."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for key, spread in values:
            family.add_metric(key, spread.buckets(coarse=coarse), spread.total)
        return family


# -- requests

STARTED = Family("penstock_requests_started", "counter", "Requests that came in.")
REQUESTS = Family(
    "penstock_requests",
    "counter",
    "Requests by how they ended; each ends in exactly one outcome.",
    ("model", "dialect", "outcome"),
)
IN_FLIGHT = Family("penstock_requests_in_flight", "gauge", "Requests not yet ended.")
DURATION = Family(
    "penstock_request_duration_seconds",
    "histogram",
    "From the request's head to the last byte of its answer.",
    ("model",),
)
FIRST_TOKEN = Family(
    "penstock_time_to_first_token_seconds",
    "histogram",
    "Of streams, from the request's head to the first event with content.",
    ("model",),
)
INTER_TOKEN = Family(
    "penstock_inter_token_seconds",
    "histogram",
    "Mean time between two events with content, one observation per stream.",
    ("model",),
)
QUEUE = Family(
    "penstock_queue_seconds",
    "histogram",
    "Wait for room at an endpoint, of the requests that had to wait.",
    ("model",),
)
TIME = Family(
    "penstock_request_time_seconds",
    "counter",
    "Where the time of ended requests went; loop_lag is contained in the others.",
    ("model", "part"),
)
TOKENS = Family(
    "penstock_tokens",
    "counter",
    "Tokens by kind and by who counted them.",
    ("model", "kind", "source"),
)
WASTED = Family(
    "penstock_wasted_tokens",
    "counter",
    "Events with content that were made for nobody.",
    ("model", "reason"),
)
FAULTS = Family(
    "penstock_faults",
    "counter",
    "Failures by kind, by whose fault they are, and by the phase they ended.",
    ("kind", "origin", "phase"),
)
LIMITED = Family(
    "penstock_limit_rejections",
    "counter",
    "Requests of a client that had made as many as it may in a day.",
    ("client",),
)
DROPPED_FIELDS = Family(
    "penstock_dropped_fields",
    "counter",
    "Hints in requests that a model server has no word for, by the client's dialect.",
    ("dialect", "field"),
)

# -- model servers

ATTEMPTS = Family(
    "penstock_upstream_attempts",
    "counter",
    "Calls to model servers by what they say of the endpoint.",
    ("model", "endpoint", "verdict"),
)
RETRIES = Family(
    "penstock_retries",
    "counter",
    "Calls made again at another endpoint, before the client's first byte.",
    ("model",),
)
FALLBACKS = Family(
    "penstock_fallbacks",
    "counter",
    "Requests for which another model was asked in a model's place, by why (`fallbackOn`).",
    ("model", "asked", "cause"),
)
ENDPOINT_IN_FLIGHT = Family(
    "penstock_endpoint_in_flight",
    "gauge",
    "Requests that hold an endpoint.",
    ("provider", "endpoint"),
)
ENDPOINT_UP = Family(
    "penstock_endpoint_up",
    "gauge",
    "1 if the endpoint answered its last checks, else 0; no series where it is not checked.",
    ("provider", "endpoint"),
)
ENDPOINT_CIRCUIT = Family(
    "penstock_endpoint_circuit",
    "gauge",
    "0 if the endpoint gets requests, 1 if one to see whether it is back, 2 if none.",
    ("provider", "endpoint"),
)
ENDPOINT_LIMIT = Family(
    "penstock_endpoint_limit",
    "gauge",
    "Requests at once that the endpoint says it takes; no series where it says nothing.",
    ("provider", "endpoint"),
)
QUEUE_LENGTH = Family(
    "penstock_queue_length", "gauge", "Requests that wait for room at a provider.", ("provider",)
)

# -- penstock itself

CONFIG_RELOADS = Family(
    "penstock_config_reloads", "counter", "Attempts to load the configuration.", ("result",)
)
CONFIG_GENERATION = Family(
    "penstock_config_generation",
    "gauge",
    "Number of the configuration that serves new requests.",
)
CONFIG_OK = Family(
    "penstock_config_last_reload_successful",
    "gauge",
    "1 if the last attempt to load the configuration worked, else 0.",
)
CONFIG_TIME = Family(
    "penstock_config_last_success_timestamp_seconds",
    "gauge",
    "When the configuration that serves new requests was loaded.",
)
CONFIG_HASH = Family(
    "penstock_config_hash",
    "gauge",
    "The first 48 bits of the SHA-256 of the configuration that serves new requests.",
)
CONFIG_WARNINGS = Family(
    "penstock_config_warnings",
    "gauge",
    "Warnings about the configuration that serves new requests.",
)
READY = Family("penstock_ready", "gauge", "1 if /readyz says yes, else 0.")
DRAINING = Family("penstock_draining", "gauge", "1 once a drain has begun, else 0.")
LOOP_LAG = Family(
    "penstock_event_loop_lag_seconds",
    "counter",
    "By how much the event loop was late while requests ran, all in all.",
)
LOG_DROPPED = Family(
    "penstock_log_lines_dropped",
    "counter",
    "Log lines lost because whoever reads the log is slow or gone.",
)
CAPTURES = Family(
    "penstock_captures",
    "counter",
    "Captures of requests by what became of them (written, dropped, failed).",
    ("result",),
)
BUILD = Family("penstock_build_info", "gauge", "Which penstock this is.", ("version",))

# -- the same in the words of OpenTelemetry, if `metrics.genAi` is on

_GEN_AI = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
GEN_AI_TOKENS = Family(
    "gen_ai_client_token_usage",
    "histogram",
    "Tokens of a request, as the model server reported them.",
    (*_GEN_AI, "gen_ai_token_type"),
)
GEN_AI_OPERATION = Family(
    "gen_ai_client_operation_duration_seconds",
    "histogram",
    "From the request's head to the last byte of its answer.",
    (*_GEN_AI, "error_type"),
)
GEN_AI_DURATION = Family(
    "gen_ai_server_request_duration_seconds",
    "histogram",
    "The same under the server's name for it.",
    (*_GEN_AI, "error_type"),
)
GEN_AI_FIRST_TOKEN = Family(
    "gen_ai_server_time_to_first_token_seconds",
    "histogram",
    "Of streams that ended well, to the first event with content.",
    _GEN_AI,
)
GEN_AI_PER_TOKEN = Family(
    "gen_ai_server_time_per_output_token_seconds",
    "histogram",
    "Of streams that ended well, mean time between two events with content.",
    _GEN_AI,
)

# -- what model servers say of themselves, if `metrics.engineSeconds` is given

_ENGINE = ("model", "endpoint")


def engine_family(name: str, kind: Literal["counter", "gauge"], text: str) -> Family:
    """The family in which a series of a model server's stands, under its name there."""
    own = name.removesuffix("_total").replace(":", "_")
    return Family(f"penstock_engine_{own}", kind, f"{name}: {text}", _ENGINE)


SECTIONS: Mapping[str, tuple[Family, ...]] = MappingProxyType(
    {
        "Requests": (
            *(STARTED, REQUESTS, IN_FLIGHT, DURATION, FIRST_TOKEN, INTER_TOKEN, QUEUE, TIME),
            *(TOKENS, WASTED, FAULTS, LIMITED, DROPPED_FIELDS),
        ),
        "Model servers": (
            *(ATTEMPTS, RETRIES, FALLBACKS, ENDPOINT_IN_FLIGHT, ENDPOINT_UP, ENDPOINT_CIRCUIT),
            *(ENDPOINT_LIMIT, QUEUE_LENGTH),
        ),
        "penstock itself": (
            *(CONFIG_RELOADS, CONFIG_GENERATION, CONFIG_OK, CONFIG_TIME, CONFIG_HASH),
            *(CONFIG_WARNINGS, READY, DRAINING, LOOP_LAG, LOG_DROPPED, CAPTURES, BUILD),
        ),
        "OpenTelemetry's names": (
            *(GEN_AI_TOKENS, GEN_AI_OPERATION, GEN_AI_DURATION, GEN_AI_FIRST_TOKEN),
            GEN_AI_PER_TOKEN,
        ),
    }
)
