"""The families of series by name, with their labels and what they mean: `docs/metrics.md` too."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from proxy.metrics.family import Family

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
    "Requests refused by a limit: of a user's day, of a wait for room, of all at once.",
    ("limit", "client"),
)
OVERHEAD = Family(
    "penstock_overhead_seconds",
    "histogram",
    "The part of a request's time that neither a model server nor a client took.",
)
STREAMS_ACTIVE = Family(
    "penstock_streams_active",
    "gauge",
    "Streams that have begun for their client and have not ended.",
    ("model", "endpoint"),
)
EVENTS = Family(
    "penstock_sse_events",
    "counter",
    "Events of streams: in from model servers, out to clients.",
    ("direction",),
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
QUEUE_DEPTH = Family(
    "penstock_queue_depth",
    "gauge",
    "The same by model and class, the priority of the client; no series where nobody waits.",
    ("model", "class"),
)
MALFORMED = Family(
    "penstock_sse_malformed",
    "counter",
    "Answers as streams that were not as they should be (format, truncated, too_large), or that"
    " were mended for their clients (mended).",
    ("endpoint", "kind"),
)
OVERSIZE = Family(
    "penstock_sse_oversize", "counter", "Events of model servers beyond `limits.maxEventBytes`."
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

GEN_AI_FIRST_CHUNK = Family(
    "gen_ai_client_operation_time_to_first_chunk_seconds",
    "histogram",
    "Of streams, to the first event with content.",
    _GEN_AI,
)
GEN_AI_PER_CHUNK = Family(
    "gen_ai_client_operation_time_per_output_chunk_seconds",
    "histogram",
    "Of streams, once for each event with content after the first: the mean of its stream.",
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
            *(OVERHEAD, TOKENS, WASTED, FAULTS, LIMITED, DROPPED_FIELDS, STREAMS_ACTIVE, EVENTS),
        ),
        "Model servers": (
            *(ATTEMPTS, RETRIES, FALLBACKS, ENDPOINT_IN_FLIGHT, ENDPOINT_UP, ENDPOINT_CIRCUIT),
            *(ENDPOINT_LIMIT, QUEUE_LENGTH, QUEUE_DEPTH, MALFORMED, OVERSIZE),
        ),
        "penstock itself": (
            *(CONFIG_RELOADS, CONFIG_GENERATION, CONFIG_OK, CONFIG_TIME, CONFIG_HASH),
            *(CONFIG_WARNINGS, READY, DRAINING, LOOP_LAG, LOG_DROPPED, CAPTURES, BUILD),
        ),
        "OpenTelemetry's names": (
            *(GEN_AI_TOKENS, GEN_AI_OPERATION, GEN_AI_DURATION, GEN_AI_FIRST_TOKEN),
            *(GEN_AI_PER_TOKEN, GEN_AI_FIRST_CHUNK, GEN_AI_PER_CHUNK),
        ),
    }
)
