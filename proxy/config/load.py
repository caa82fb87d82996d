"""Bytes -> `Config`: decoded strictly, secrets read, cross-checked, all problems at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from ipaddress import ip_network
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from proxy.config.clients import Client, clients_of
from proxy.config.daily import Daily, daily_of, everybodys
from proxy.config.decoder import decode_partly, items_of
from proxy.config.document import parsed
from proxy.config.hidden import HiddenTexts, hidden_texts
from proxy.config.legacy import convert
from proxy.config.legacy_defaults import Unavailable, unknown_provider
from proxy.config.merge import merge
from proxy.config.modelconfig import Merged, ModelConfig, ProviderConfig
from proxy.config.modelref import Defaults, ModelRef, Names, spellings
from proxy.config.problems import Path, Problem, Problems, Source
from proxy.config.rules import Rules, check_rules, model_rules, provider_rules
from proxy.config.schema import (
    PROVIDER_KINDS,
    Completions,
    ConfigFeatures,
    Limits,
    Listen,
    ModelConfiguration,
    ReadSecret,
    SiteConfig,
    Timeouts,
)
from proxy.config.secrets import SecretFiles, SecretReader, read_secret
from proxy.config.wording import listed, nearest, quoted

_BLOCKS = ("modelConfiguration", "penstock")
_TOP_LEVEL = (*_BLOCKS, "completions", "cody.enabled", "cody.contextFilters", "configFeatures")
# What counts of a block that is void otherwise: no other place of the original limits anybody.
_STILL_READ = ("perUserDailyLimit", "perUserCodeCompletionsDailyLimit")
# No key of a site configuration is this like one of ours, but a slip of the pen is. It would
# leave the file without its client keys, for everybody to come in.
_SLIP_LIKENESS = 0.8


class Config(msgspec.Struct, frozen=True):
    """What a file says and implies. No `repr` of it, or of anything in it, shows a secret."""

    site: SiteConfig  # the file with its models merged: what `show` prints
    providers: tuple[ProviderConfig, ...]
    models: tuple[ModelConfig, ...]
    defaults: Defaults
    names: Names
    clients: tuple[Client, ...]  # empty: nobody is asked for a key
    daily: Daily
    hidden: HiddenTexts
    smart_context_window: bool  # this and the next: of a `completions` block, no other place has it
    disables_client_config: bool
    is_legacy: bool  # made from a `completions` block
    warnings: tuple[Problem, ...]
    source: Source
    secrets: SecretFiles

    @property
    def timeouts(self) -> Timeouts:
        """How long penstock waits for a model server."""
        return self.site.penstock.timeouts

    @property
    def limits(self) -> Limits:
        """How much penstock takes at once."""
        return self.site.penstock.limits

    @property
    def listen(self) -> Listen:
        """Where penstock is reached."""
        return self.site.penstock.listen

    def provider_rules(self, provider: str) -> Rules:
        """How requests for all models of a provider are treated."""
        return provider_rules(self.site.penstock, provider)

    def model_rules(self, ref: ModelRef) -> Rules:
        """How requests for one model are treated."""
        return model_rules(self.site.penstock, ref, self.names)

    @property
    def serves_cody(self) -> bool:
        """Whether Cody clients are served; a file that does not say so is there to serve them."""
        return self.site.cody_enabled is not False

    @property
    def features(self) -> ConfigFeatures:
        """What Cody clients are told to offer, where there are models for it."""
        everything = ConfigFeatures(chat=True, auto_complete=True, commands=True)
        return self.site.config_features or everything

    @property
    def wants_recent_clients(self) -> bool:
        """Whether Cody clients must know of context filters, which they apply themselves."""
        return self.site.cody_context_filters is not None

    @property
    def system_pre_instruction(self) -> str:
        """The system message before every chat of a Cody client; empty for none."""
        block = self.site.model_configuration
        return "" if block is None else block.system_pre_instruction

    def problems(self) -> Problems:
        """A new, empty collection, for what is found in the providers' settings."""
        return Problems(self.source)


# Adds what is wrong with a provider's settings to the problems.
CheckProvider: TypeAlias = Callable[[ProviderConfig, Problems], None]


def load(
    data: bytes,
    *,
    read_secret: ReadSecret = read_secret,
    kinds: Collection[str] = PROVIDER_KINDS,
    check_provider: CheckProvider | None = None,
) -> Config:
    """The configuration in a file's bytes. Raises ConfigError with everything that is wrong.

    `kinds` are the types of provider that the caller can build. `check_provider` looks into their
    settings, so that what is wrong there is reported together with the rest.
    """
    secrets = SecretReader(read_secret)
    site, problems = _site(data, secrets)
    merged = _merged(site, kinds, problems)
    if check_provider is not None:
        for provider in merged.providers:
            check_provider(provider, problems)
    names = spellings([model.ref for model in merged.models])
    _warn_of_shadows(names, merged.models, problems)
    _check_listen(site.penstock.listen, problems)
    check_rules(site.penstock, [each.id for each in merged.providers], names, problems)
    clients = clients_of(site.penstock.clients or (), names, problems)
    everybody = everybodys(site.penstock.daily_limits, site.completions)
    daily = daily_of(everybody, site.penstock.clients or ())
    penstock = replace(site.penstock, daily_limits=everybody)
    problems.raise_any()
    return Config(
        site=replace(site, model_configuration=merged.block, completions=None, penstock=penstock),
        providers=merged.providers,
        models=merged.models,
        defaults=merged.defaults,
        names=names,
        clients=clients,
        daily=daily,
        hidden=hidden_texts(merged.providers, merged.block.system_pre_instruction),
        smart_context_window=_is_smart(site),
        disables_client_config=site.completions is not None
        and site.completions.disable_client_config_api,
        is_legacy=site.model_configuration is None,
        warnings=problems.warnings,
        source=problems.source,
        secrets=secrets.files(),
    )


def converted(data: bytes) -> ModelConfiguration:
    """What the `completions` block of a file means, tokens as they are written there.

    Raises ConfigError, also for a file that has a `modelConfiguration` already. No secret is read.
    """
    site, problems = _site(data, lambda _: "")
    if site.model_configuration is not None:
        text = "it is there already, and takes the place of a completions block"
        problems.add(("modelConfiguration",), text, at_key=True)
    block = _block(site, problems)
    if block is not None:
        merge(block, PROVIDER_KINDS, problems)  # for its problems
    problems.raise_any()
    return block or ModelConfiguration()  # it is there, or a problem said why not


def _site(data: bytes, read_secret: ReadSecret) -> tuple[SiteConfig, Problems]:
    document, positions = parsed(data)
    problems = Problems(Source(positions, read_secret))
    _check_keys(document, problems)
    read = _without_shadowed(document, problems)
    return decode_partly(read, SiteConfig, (), problems) or SiteConfig(), problems


def _check_keys(document: object, problems: Problems) -> None:
    """Warns of top-level keys that mean nothing here, and of keys that stand twice."""
    members = document if isinstance(document, dict) else {}
    ignored = [key for key in members if key not in _TOP_LEVEL]
    for block in _BLOCKS:
        if block not in members and (slip := nearest(block, ignored, _SLIP_LIKENESS)) is not None:
            text = f"unknown key {quoted(slip)}; did you mean {quoted(block)}?"
            problems.add((slip,), text, at_key=True)
    if ignored:
        problems.warn((ignored[0],), f"ignored: {listed(ignored)}", at_key=True)
    for path in problems.source.positions.duplicates:
        if path[0] in _TOP_LEVEL:
            problems.warn(path, "this key stands here twice; the last one counts", at_key=True)


def _without_shadowed(document: object, problems: Problems) -> object:
    """The document without what a newer block makes void of a `completions` block (spec 1.2)."""
    if not isinstance(document, dict) or document.get("modelConfiguration") is None:
        return document
    older = document.get("completions")
    limits = {key: older[key] for key in _STILL_READ if isinstance(older, dict) and key in older}
    if older is not None:
        but = f" but for {listed(limits)}" if limits else ""
        text = f"ignored{but}: modelConfiguration takes its place"
        problems.warn(("completions",), text, at_key=True)
    return {**document, "completions": limits or None}


def _merged(site: SiteConfig, kinds: Collection[str], problems: Problems) -> Merged:
    block = _block(site, problems)
    if block is None:
        return Merged(ModelConfiguration(), (), (), Defaults())
    return merge(block, kinds, problems)


def _block(site: SiteConfig, problems: Problems) -> ModelConfiguration | None:
    """The newer block, or what the older one means; None where there is neither."""
    if site.model_configuration is not None:
        return site.model_configuration
    if site.completions is None:
        # What cannot be read is not missing.
        unread: tuple[Path, ...] = ((), ("modelConfiguration",), ("completions",))
        if not any(map(problems.is_reported, unread)):
            problems.add((), '"modelConfiguration" is missing')
        return None
    if problems.is_reported_in(("completions",)):
        return None
    if (text := unknown_provider(site.completions.provider)) is not None:
        problems.add(("completions", "provider"), text)
        return None
    older = site.completions
    if site.cody_enabled is not None:  # the newer word for the same thing
        older = replace(older, enabled=None)
    try:
        conversion = convert(older)
    except Unavailable as error:
        problems.add(error.path, str(error))
        return None
    _warn_of_azure(older, problems)
    problems.move(conversion.places)
    return conversion.block


def _warn_of_azure(older: Completions, problems: Problems) -> None:
    """The first releases and the last read an absent key differently; the first are published."""
    key = "azureUseDeprecatedCompletionsAPIForOldModels"
    is_given = older.azure_use_deprecated_completions_api_for_old_models is not None
    if older.provider == "azure-openai" and not is_given:
        text = (
            "not given, so completions go to Azure's chat route; Sourcegraph 5.6 and later take the"
            " older one: say true for that, or false"
        )
        problems.warn(("completions", key), text, at_key=True)


def _is_smart(site: SiteConfig) -> bool:
    return site.completions is None or site.completions.smart_context_window == "enabled"


def _warn_of_shadows(names: Names, models: Sequence[ModelConfig], problems: Problems) -> None:
    """Tells of each model that some or all of its shorter names mean another one."""
    taken: dict[ModelRef, list[str]] = {}
    for spelling, (first, *others) in names.ambiguous.items():
        for other in others:
            taken.setdefault(other, []).append(f"{quoted(spelling)} means {quoted(str(first))}")
    reached = {ref for spelling, ref in names.refs.items() if spelling != str(ref)}
    for model in models:
        if model.ref in taken:
            is_shadowed = model.ref not in reached
            only = "only its full reference means this model" if is_shadowed else "ambiguous"
            problems.warn(model.path, f"{only}: {', '.join(taken[model.ref])}, listed first")


def _check_listen(listen: Listen, problems: Problems) -> None:
    if listen.port == listen.admin_port != 0 and listen.host == listen.admin_host:
        text = f"port {listen.port} is also that for clients"
        problems.add(("penstock", "listen", "adminPort"), text)
    path = ("penstock", "listen", "trustedProxies")
    for place, network in items_of(listen.trusted_proxies, path):
        try:
            ip_network(network)
        except ValueError:
            problems.add(place, f"{quoted(network)} is no network, as 10.0.0.0/8 is one")
