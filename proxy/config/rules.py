"""The traffic rules of each provider and model: the narrowest word of the file, else a default."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from msgspec.structs import asdict, replace

from proxy.config.modelref import ModelRef, Names
from proxy.config.overlay import overlay
from proxy.config.problems import Problems
from proxy.config.schema import Penstock, Timeouts
from proxy.config.schema.block import Block
from proxy.config.schema.traffic import (
    Admission,
    Affinity,
    Balance,
    FallbackOn,
    Health,
    KeepAlive,
    ModelTraffic,
    Objectives,
    ProviderTraffic,
    Retries,
    Traffic,
)
from proxy.config.wording import hint, quoted

DEFAULTS = Traffic(
    balance="leastInflight",
    affinity=Affinity(characters=512, load_factor=1.25),
    admission=Admission(max_queue=256, max_wait_seconds=30.0),
    retries=Retries(attempts=3, budget=0.2, floor_per_second=1.0),
    health=Health(
        interval_seconds=10.0,
        timeout_seconds=30.0,
        failures=3,
        fault_rate=0.5,
        eject_seconds=2.0,
        max_eject_seconds=60.0,
    ),
    keep_alive=KeepAlive(mode="strict", interval_seconds=15.0),
)


T = TypeVar("T")


class AffinityRules(msgspec.Struct, frozen=True):
    """What is hashed; see `schema.traffic.Affinity`."""

    characters: int
    load_factor: float
    header: str | None = None


class AdmissionRules(msgspec.Struct, frozen=True):
    """How many at once; see `schema.traffic.Admission`."""

    max_queue: int
    max_wait_seconds: float
    max_concurrent: int | None = None


class RetryRules(msgspec.Struct, frozen=True):
    """What is tried again; see `schema.traffic.Retries`."""

    attempts: int
    budget: float
    floor_per_second: float


class HealthRules(msgspec.Struct, frozen=True):
    """When an endpoint is left out; see `schema.traffic.Health`."""

    interval_seconds: float
    timeout_seconds: float
    failures: int
    fault_rate: float
    eject_seconds: float
    max_eject_seconds: float
    path: str | None = None  # None: the provider's own


class KeepAliveRules(msgspec.Struct, frozen=True):
    """Comments in silent streams; see `schema.traffic.KeepAlive`."""

    mode: str
    interval_seconds: float


class Rules(msgspec.Struct, frozen=True):
    """How requests for one model, or for all of one provider, are treated."""

    balance: Balance
    affinity: AffinityRules
    admission: AdmissionRules
    retries: RetryRules
    health: HealthRules
    keep_alive: KeepAliveRules
    timeouts: Timeouts
    fallbacks: tuple[ModelRef, ...] = ()
    fallback_on: frozenset[FallbackOn] = frozenset({"busy", "unreachable"})
    slo: Objectives = Objectives()


def provider_rules(penstock: Penstock, provider: str) -> Rules:
    """The rules for what the models of a provider share: its endpoints, and who waits for them."""
    return _rules(penstock, _of_provider(penstock, provider))


def model_rules(penstock: Penstock, ref: ModelRef, names: Names) -> Rules:
    """The rules for one model. Fallbacks that no model is called by are left out."""
    own = _of_model(penstock, ref, names)
    rules = _rules(penstock, overlay(own, _of_provider(penstock, ref.provider)))
    fallbacks = (names.refs.get(name) for name in own.fallbacks)
    return replace(
        rules,
        fallbacks=tuple(each for each in fallbacks if each is not None and each != ref),
        fallback_on=rules.fallback_on if own.fallback_on is None else frozenset(own.fallback_on),
        slo=own.slo,
    )


def check_rules(
    penstock: Penstock, providers: Sequence[str], names: Names, problems: Problems
) -> None:
    """Add what is wrong: rules for nobody, and fallbacks to nobody."""
    for provider in penstock.providers:
        if provider not in providers:
            text = f"unknown provider {quoted(provider)}; {hint(provider, providers)}"
            problems.add(("penstock", "providers", provider), text, at_key=True)
    for name, traffic in penstock.models.items():
        place = ("penstock", "models", name)
        if name not in names.refs:
            text = f"unknown model {quoted(name)}; {hint(name, list(names.refs))}"
            problems.add(place, text, at_key=True)
        for index, fallback in enumerate(traffic.fallbacks):
            _check_fallback(fallback, name, names, (*place, "fallbacks", index), problems)


def _check_fallback(
    fallback: str, model: str, names: Names, path: tuple[str | int, ...], problems: Problems
) -> None:
    ref = names.refs.get(fallback)
    if ref is None:
        text = f"unknown model {quoted(fallback)}; {hint(fallback, list(names.refs))}"
        problems.add(path, text)
    elif ref == names.refs.get(model):
        problems.add(path, "a model cannot take its own place")


def _of_provider(penstock: Penstock, provider: str) -> ProviderTraffic:
    return penstock.providers.get(provider, ProviderTraffic())


def _of_model(penstock: Penstock, ref: ModelRef, names: Names) -> ModelTraffic:
    found = [each for name, each in penstock.models.items() if names.refs.get(name) == ref]
    return found[0] if found else ModelTraffic()


def _rules(penstock: Penstock, scoped: ProviderTraffic) -> Rules:
    general = overlay(Traffic(**_shared(penstock)), DEFAULTS)
    merged = overlay(Traffic(**_shared(scoped)), general)
    waits = {name: value for name, value in asdict(scoped.timeouts).items() if value is not None}
    return Rules(
        balance=merged.balance or "leastInflight",
        affinity=_filled(merged.affinity, AffinityRules),
        admission=_filled(merged.admission, AdmissionRules),
        retries=_filled(merged.retries, RetryRules),
        health=_filled(merged.health, HealthRules),
        keep_alive=_filled(merged.keep_alive, KeepAliveRules),
        timeouts=replace(penstock.timeouts, **waits),
    )


def _shared(traffic: Traffic) -> dict[str, Any]:
    """The members that all three places have."""
    return {name: getattr(traffic, name) for name in Traffic.__struct_fields__}


def _filled(said: Block, kind: type[T]) -> T:
    """The members as a struct in which none is missing: the defaults have all of them."""
    return msgspec.convert(asdict(said), kind)
