"""The `penstock` block: what the Sourcegraph format has no word for. Every key has a default."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from parsers.dialects.base import MAX_EVENT_BYTES
from proxy.config.schema.block import Block
from proxy.config.schema.capture import Capture
from proxy.config.schema.secret import Secret
from proxy.config.schema.traffic import ModelTraffic, ProviderTraffic, Traffic

# One picture in base64, or some 8 million tokens: more than any context window.
DEFAULT_MAX_BODY_BYTES = 32 * 1024 * 1024

# A day is longer than any answer takes.
_Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
_Port: TypeAlias = Annotated[int, Meta(ge=0, le=65_535)]


_Requests: TypeAlias = Annotated[int, Meta(ge=0)]


class DailyLimits(Block, frozen=True):
    """How many requests one user may make in 24 hours, which begin with the first of them.

    A user is a client, or an address where no client has a key. One request more gets 429.
    """

    chat_requests: Annotated[
        _Requests | None, Meta(description="For chat, by any route; 0 for no limit.")
    ] = None
    code_requests: Annotated[
        _Requests | None,
        Meta(description="For completions of code or raw text, by any route; 0 for no limit."),
    ] = None


class ClientKey(Block, frozen=True):
    """One client that may use penstock."""

    name: Annotated[
        str, Meta(min_length=1, description="Its name in logs and metrics; not a secret.")
    ]
    key: Annotated[
        Secret, Meta(description="Its key, as sent in Authorization; a text, an env or a file.")
    ]
    models: Annotated[
        Annotated[tuple[str, ...], Meta(min_length=1)] | None,
        Meta(description="The models it may use; all if not given."),
    ] = None
    priority: Annotated[
        int,
        Meta(
            ge=-100,
            le=100,
            description="Where requests wait for room, those of a higher priority go first.",
        ),
    ] = 0
    daily_limits: Annotated[
        DailyLimits | None,
        Meta(description="How many requests it may make in a day; as everybody if not given."),
    ] = None


class Timeouts(Block, frozen=True, omit_defaults=False):
    """How long penstock waits for a model server."""

    connect_seconds: Annotated[_Seconds, Meta(description="For a connection, TLS included.")] = 5.0
    headers_seconds: Annotated[
        _Seconds,
        Meta(
            description="From the request to the head of the answer. A busy server queues here, and"
            " an answer that is not streamed is computed here."
        ),
    ] = 300.0
    first_token_seconds: Annotated[
        _Seconds,
        Meta(description="From the head of a stream to its first event; long prompts take time."),
    ] = 300.0
    idle_seconds: Annotated[
        _Seconds, Meta(description="Between two reads of a stream that has begun.")
    ] = 60.0
    total_seconds: Annotated[
        _Seconds, Meta(description="For the whole request, retries included.")
    ] = 3600.0
    client_min_seconds: Annotated[
        _Seconds,
        Meta(
            description="The least that a client can ask for with X-Timeout-Ms; the most is"
            " totalSeconds, which wins where it is less."
        ),
    ] = 1.0


class Limits(Block, frozen=True, omit_defaults=False):
    """How much penstock takes at once."""

    max_body_bytes: Annotated[
        int, Meta(ge=1024, description="Largest request body; a larger one gets 413.")
    ] = DEFAULT_MAX_BODY_BYTES
    max_event_bytes: Annotated[
        int, Meta(ge=1024, description="Largest event of a stream; a larger one ends the stream.")
    ] = MAX_EVENT_BYTES
    max_concurrent_requests: Annotated[
        int, Meta(ge=1, description="Requests at the same time; one more gets 503.")
    ] = 1024


class Listen(Block, frozen=True, omit_defaults=False):
    """Where penstock is reached. A change of an address or a port needs a restart."""

    host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address for clients. The default lets only this machine or pod in;"
            ' "0.0.0.0" lets everybody in, who then should need a key.',
        ),
    ] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="Port for clients; 0 takes a free one.")] = 8080
    admin_host: Annotated[
        str,
        Meta(
            min_length=1,
            description="Address for metrics, probes and reloads, which need no key.",
        ),
    ] = "127.0.0.1"
    admin_port: Annotated[
        _Port, Meta(description="Port for metrics, probes and reloads; 0 takes a free one.")
    ] = 9090
    admin_remote_writes: Annotated[
        bool,
        Meta(
            description="Whether other machines and pods may reload, drain and debug. Without it"
            " they may only read; `penstock drain` works from within the pod."
        ),
    ] = False
    trusted_proxies: Annotated[
        tuple[str, ...],
        Meta(
            description="Networks, as 10.0.0.0/8, of proxies before penstock that are believed"
            " when they say in X-Forwarded-For, or else in Forwarded, whom they speak for. Daily"
            " limits then count the last address that is not one of theirs."
        ),
    ] = ()


class Drain(Block, frozen=True, omit_defaults=False):
    """How penstock leaves: by SIGTERM, `penstock drain` or POST /drain. There is no way back."""

    grace_seconds: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="How long new requests are still served, each as the last on its"
            " connection, while load balancers learn that penstock leaves; later ones get 503."
            " SIGTERM alone ends the listening at once; after `penstock drain` it waits for this.",
        ),
    ] = 5.0
    deadline_seconds: Annotated[
        _Seconds,
        Meta(
            description="How long requests may go on, the grace included; those that still run"
            " end with an error of their dialect. `--drain-seconds` wins over it."
        ),
    ] = 30.0


class Metrics(Block, frozen=True, omit_defaults=False):
    """What `/metrics` shows besides."""

    gen_ai: Annotated[
        bool,
        Meta(
            description="Also show requests under OpenTelemetry's names (`gen_ai_*`), for boards"
            " made for them."
        ),
    ] = False
    engine_seconds: Annotated[
        _Seconds | None,
        Meta(
            description="How often self-hosted servers are asked for their own metrics, of which"
            " the most useful are shown with model and endpoint; never if not given."
        ),
    ] = None


class Penstock(Traffic, frozen=True, omit_defaults=False):
    """What the Sourcegraph format has no word for. Every key has a default."""

    clients: Annotated[
        Annotated[tuple[ClientKey, ...], Meta(min_length=1)] | None,
        Meta(description="Who may use penstock; everybody if not given."),
    ] = None
    timeouts: Annotated[
        Timeouts, Meta(description="How long penstock waits for a model server.")
    ] = Timeouts()
    limits: Annotated[Limits, Meta(description="How much penstock takes at once.")] = Limits()
    daily_limits: Annotated[
        DailyLimits,
        Meta(
            description="How many requests each user may make in a day; those of a completions"
            " block if not given, else as many as they like."
        ),
    ] = DailyLimits()
    listen: Annotated[Listen, Meta(description="Where penstock is reached.")] = Listen()
    drain: Annotated[Drain, Meta(description="How penstock leaves.")] = Drain()
    capture: Annotated[
        Capture, Meta(description="What is kept of requests that are looked into, and where.")
    ] = Capture()
    metrics: Annotated[Metrics, Meta(description="What /metrics shows besides.")] = Metrics()
    readiness: Annotated[
        Literal["config", "any", "all"],
        Meta(
            description='When /readyz says yes: "config": as soon as the configuration is loaded;'
            ' "any": once some model can be reached, as a sidecar should; "all": once all can.'
        ),
    ] = "config"
    providers: Annotated[
        dict[str, ProviderTraffic],
        Meta(description="What is different for the models of one provider, by its id."),
    ] = msgspec.field(default_factory=dict)
    models: Annotated[
        dict[str, ModelTraffic],
        Meta(description="What is different for one model, by its reference."),
    ] = msgspec.field(default_factory=dict)
