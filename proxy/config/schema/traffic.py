"""Which endpoint gets a request, how many at once, what is tried again: the file's words for it.

The same keys stand in the `penstock` block, for all; in `penstock.providers`, by id; and in
`penstock.models`, by reference. The narrower word counts, key by key. Every key is None where the
file says nothing: `proxy.config.rules` knows the defaults.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from proxy.config.schema.block import Block, ModelRefText

# A day is longer than any answer takes.
Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400)]
Balance: TypeAlias = Literal["leastInflight", "roundRobin", "weighted", "prefixAffinity"]
FallbackOn: TypeAlias = Literal["busy", "unreachable", "context_length", "content_filter"]


class Affinity(Block, frozen=True):
    """What `prefixAffinity` hashes, so that an engine sees the beginnings that it has cached."""

    characters: Annotated[
        Annotated[int, Meta(ge=1, le=1_000_000)] | None,
        Meta(description="How much of the prompt's beginning counts."),
    ] = None
    header: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="A request header to hash in the place of the prompt, where it is there.",
        ),
    ] = None
    load_factor: Annotated[
        Annotated[float, Meta(ge=1, le=10)] | None,
        Meta(description="How far over the mean of its pool an endpoint may be loaded by it."),
    ] = None


class Admission(Block, frozen=True):
    """How many requests are let through at once, and how long the rest may wait."""

    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Requests at the same time for one model; no limit if not given."),
    ] = None
    max_queue: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Requests that may wait for one provider; one more gets 429."),
    ] = None
    max_wait_seconds: Annotated[
        Seconds | None, Meta(description="How long a request may wait; then it gets 429.")
    ] = None


class Retries(Block, frozen=True):
    """How often a call that failed before its first token is tried again, elsewhere if possible."""

    attempts: Annotated[
        Annotated[int, Meta(ge=1, le=10)] | None,
        Meta(description="Calls for one request, the first included; 1 for no retries."),
    ] = None
    budget: Annotated[
        Annotated[float, Meta(ge=0, le=1)] | None,
        Meta(description="Retries as a share of the provider's requests, so none can be a storm."),
    ] = None
    floor_per_second: Annotated[
        Annotated[float, Meta(ge=0, le=1000)] | None,
        Meta(description="Retries that are allowed in any second, however few requests come."),
    ] = None


class Health(Block, frozen=True):
    """When an endpoint gets no requests for a while."""

    interval_seconds: Annotated[
        Annotated[float, Meta(ge=0, le=3600)] | None,
        Meta(description="Between two checks of a self-hosted server's health; 0 for none."),
    ] = None
    timeout_seconds: Annotated[
        Seconds | None,
        Meta(description="For one check; TGI computes a token for it when it was in trouble."),
    ] = None
    path: Annotated[
        Annotated[str, Meta(pattern="^/")] | None,
        Meta(description="Where to ask, beside /v1; a server that says 404 is taken for alive."),
    ] = None
    failures: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        Meta(description="Failed checks, or faults in a row, until the endpoint is left out."),
    ] = None
    fault_rate: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(description="Share of faults among the last requests that also leaves it out."),
    ] = None
    eject_seconds: Annotated[
        Seconds | None, Meta(description="How long it is left out at first; doubles each time.")
    ] = None
    max_eject_seconds: Annotated[
        Seconds | None, Meta(description="The longest that it is left out.")
    ] = None


class KeepAlive(Block, frozen=True):
    """Comments in a silent stream, so that proxies and clients in between do not give up."""

    mode: Annotated[
        Literal["off", "strict", "early"] | None,
        Meta(
            description='"strict": none before the model server\'s first event, so that a failure'
            ' still has its status; "early": 200 and comments while it is awaited.'
        ),
    ] = None
    interval_seconds: Annotated[Seconds | None, Meta(description="Of silence.")] = None


class Traffic(Block, frozen=True):
    """How requests are spread, admitted and tried again."""

    balance: Annotated[
        Balance | None,
        Meta(
            description='"leastInflight": the less busy of two drawn at random; "roundRobin";'
            ' "weighted": by the endpoints\' weights; "prefixAffinity": the same beginning goes'
            " to the same endpoint."
        ),
    ] = None
    affinity: Annotated[Affinity, Meta(description="For prefixAffinity.")] = Affinity()
    admission: Annotated[
        Admission, Meta(description="How many requests at once, and how many may wait.")
    ] = Admission()
    retries: Annotated[Retries, Meta(description="What is tried again.")] = Retries()
    health: Annotated[Health, Meta(description="When an endpoint is left out.")] = Health()
    keep_alive: Annotated[KeepAlive, Meta(description="Comments in silent streams.")] = KeepAlive()


class TimeoutOverrides(Block, frozen=True):
    """The waits that differ from those of the `penstock` block."""

    connect_seconds: Annotated[Seconds | None, Meta(description="As in timeouts.")] = None
    headers_seconds: Annotated[Seconds | None, Meta(description="As in timeouts.")] = None
    first_token_seconds: Annotated[Seconds | None, Meta(description="As in timeouts.")] = None
    idle_seconds: Annotated[Seconds | None, Meta(description="As in timeouts.")] = None
    total_seconds: Annotated[Seconds | None, Meta(description="As in timeouts.")] = None


class ProviderTraffic(Traffic, frozen=True):
    """What is different for the models of one provider."""

    timeouts: Annotated[
        TimeoutOverrides, Meta(description="Waits that differ from the general ones.")
    ] = TimeoutOverrides()


class Objectives(Block, frozen=True):
    """What callers of a model may expect; alert rules are made from it."""

    first_token_seconds: Annotated[
        Seconds | None, Meta(description="By when the first token should be there.")
    ] = None
    inter_token_seconds: Annotated[
        Seconds | None, Meta(description="How long the next token should take at most.")
    ] = None
    availability: Annotated[
        Annotated[float, Meta(gt=0, lt=1)] | None,
        Meta(
            description="Share of requests for which all this should hold, such as 0.995; 0.99 for"
            " the times above where it is not given."
        ),
    ] = None


class ModelTraffic(ProviderTraffic, frozen=True):
    """What is different for one model."""

    fallbacks: Annotated[
        tuple[ModelRefText, ...],
        Meta(description="Models asked in its place, in this order, when it cannot answer."),
    ] = ()
    fallback_on: Annotated[
        tuple[FallbackOn, ...] | None,
        Meta(description="For which failures; for busy and unreachable if not given."),
    ] = None
    slo: Annotated[Objectives, Meta(description="What callers may expect.")] = msgspec.field(
        default=Objectives(), name="slo"
    )
