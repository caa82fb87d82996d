"""What runs: the immutable registry that requests are served from, built from a configuration.

A request takes the registry once, at the door, and keeps it until its last byte. Everything in it
is frozen; what changes while it serves is in `endpoints`.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from ipaddress import ip_network
from types import MappingProxyType

import msgspec

from parsers.chat import Operation
from parsers.events import FaultKind
from proxy.config.decoder import decode_strict
from proxy.config.load import Config, load
from proxy.config.modelconfig import ModelConfig, ProviderConfig
from proxy.config.modelref import ModelRef
from proxy.config.problems import Problems
from proxy.config.rules import Rules
from proxy.config.schema import Limits, Listen, Timeouts
from proxy.config.secrets import SecretFiles
from proxy.endpoints import LiveState, ProviderState
from proxy.errors import RequestFailed, client_fault
from proxy.forwarded import Networks
from proxy.pool import EndpointPool
from proxy.providers import PROVIDERS
from proxy.providers.base import Provider

# No name, and TGI's name for the one model that is there: its own clients send nothing else.
_DEFAULT_NAMES = frozenset({"", "tgi"})


class Model(msgspec.Struct, frozen=True, eq=False):
    """One model, with everything a request for it needs."""

    ref: ModelRef
    label: str  # str(ref), made once: metrics and logs ask for it on every request
    display_name: str
    upstream_name: str
    hides_name: bool  # `upstream_name` is a secret: clients must not see it
    capabilities: tuple[str, ...]
    max_input_tokens: int
    max_output_tokens: int
    provider: Provider
    pool: EndpointPool
    shared: ProviderState  # the budget of retries, and the line of those that wait
    config: ModelConfig  # all that the file says of it; parts of it are secret


class Client(msgspec.Struct, frozen=True):
    """One client that may use penstock; `models` by label, None for all."""

    name: str
    key_digest: bytes
    models: frozenset[str] | None = None
    priority: int = 0  # higher goes first where requests wait

    def may_use(self, model: Model) -> bool:
        """Whether this client was given the model."""
        return self.models is None or model.label in self.models


def key_digest(key: str) -> bytes:
    """What is kept of a client's key: keys are long and random, so no slow hash is needed."""
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


class Registry(msgspec.Struct, frozen=True, eq=False):
    """One generation of the configuration, ready to serve."""

    generation: int
    models: Mapping[str, Model]  # by full reference, in the order of the file
    names: Mapping[str, Model]  # by every accepted spelling
    defaults: Mapping[Operation, Model]
    clients: Mapping[bytes, Client]  # by the SHA-256 of the key
    timeouts: Timeouts
    limits: Limits
    listen: Listen  # its addresses are read once, at the start
    config: Config  # what all this was built from; parts of it are secret
    warnings: tuple[str, ...] = ()
    trusted_proxies: Networks = ()

    @property
    def unready(self) -> tuple[str, ...]:
        """The models for want of which the readiness policy says no; none where it says yes."""
        policy = self.config.site.penstock.readiness
        if policy == "config":
            return ()
        unreached = tuple(
            label for label, model in self.models.items() if not model.pool.is_reached
        )
        return () if policy == "any" and len(unreached) < len(self.models) else unreached

    @property
    def secrets(self) -> SecretFiles:
        """The files of secrets that it was built with."""
        return self.config.secrets

    def resolve(self, name: str, operation: Operation) -> Model:
        """The model that a client means; the operation's default where it named none.

        Raises RequestFailed for a name that no model has.
        """
        model = self.names.get(name) if name else None
        if model is None and name in _DEFAULT_NAMES:
            model = self.defaults.get(operation)
        if model is None:
            raise RequestFailed(client_fault(FaultKind.UNKNOWN_MODEL, _unknown(name, operation)))
        return model


def _unknown(name: str, operation: Operation) -> str:
    if name:
        return f'the model "{name[:200]}" does not exist'
    return f"the request names no model, and there is no default model for {operation}"


def check_provider(config: ProviderConfig, problems: Problems) -> None:
    """Add what is wrong with a provider's own settings, which only its file understands."""
    kind = PROVIDERS[config.kind]
    settings = decode_strict(config.settings, kind.settings, config.path, problems)
    if settings is not None:
        for found in (*kind.check(settings), *kind.check_id(settings, config.id)):
            report = problems.warn if found.is_warning else problems.add
            report((*config.path, *found.place), found.message)


def build(data: bytes, generation: int, live: LiveState) -> Registry:
    """The registry that a file's bytes mean; opens no connection.

    Endpoints that some registry in use knows keep their live state. Raises ConfigError with every
    problem of the file.
    """
    config = load(data, kinds=tuple(PROVIDERS), check_provider=check_provider)
    providers = {each.id: _provider(each, config.problems(), live) for each in config.providers}
    models = {
        each.ref: _model(each, providers[each.ref.provider], config.model_rules(each.ref), live)
        for each in config.models
    }
    return Registry(
        generation=generation,
        models=MappingProxyType({model.label: model for model in models.values()}),
        names=MappingProxyType({text: models[ref] for text, ref in config.names.refs.items()}),
        defaults=MappingProxyType(_defaults(config, models)),
        clients=MappingProxyType(_clients(config)),
        timeouts=config.timeouts,
        limits=config.limits,
        listen=config.listen,
        config=config,
        warnings=tuple(map(str, config.warnings)),
        trusted_proxies=tuple(map(ip_network, config.listen.trusted_proxies)),
    )


def _provider(config: ProviderConfig, problems: Problems, live: LiveState) -> Provider:
    kind = PROVIDERS[config.kind]
    settings = decode_strict(config.settings, kind.settings, config.path, problems)
    problems.raise_any()  # cannot happen: `load` has looked
    return kind.build(config, settings).sharing(live)


def _model(config: ModelConfig, provider: Provider, rules: Rules, live: LiveState) -> Model:
    shared = live.of_provider(provider.id)
    return Model(
        ref=config.ref,
        label=str(config.ref),
        display_name=config.settings.display_name,
        upstream_name=config.upstream_name,
        hides_name=config.has_secret_name,
        capabilities=config.settings.capabilities,
        max_input_tokens=config.limits.max_input_tokens,
        max_output_tokens=config.limits.max_output_tokens,
        provider=provider.for_model(config),
        pool=EndpointPool(
            provider.id, provider.endpoints, rules, live.of_model(str(config.ref)), live
        ),
        shared=shared,
        config=config,
    )


def _defaults(config: Config, models: Mapping[ModelRef, Model]) -> dict[Operation, Model]:
    refs = {operation: config.defaults.of(operation) for operation in Operation}
    return {operation: models[ref] for operation, ref in refs.items() if ref is not None}


def _clients(config: Config) -> dict[bytes, Client]:
    clients = {}
    for each in config.clients:
        digest = key_digest(each.key.reveal())
        models = None if each.models is None else frozenset(map(str, each.models))
        clients[digest] = Client(each.name, digest, models, each.priority)
    return clients
