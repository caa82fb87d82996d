"""The providers, models and default models that a `modelConfiguration` block means (spec 1.12).

Pure functions over what the file says: nothing is changed in place, models keep the order of the
file, and the built-in tables are frozen. Messages follow spec 1.10.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec
from msgspec.structs import replace

from proxy.config import builtin
from proxy.config.checks import TIER, check_model, check_provider
from proxy.config.decoder import items_of
from proxy.config.defaults import defaults_of, written
from proxy.config.modelconfig import DEFAULT_TOKENS, Merged, ModelConfig, ProviderConfig
from proxy.config.modelref import BadModelRef, ModelRef
from proxy.config.overlay import overlay
from proxy.config.problems import Path, Problems
from proxy.config.recommended import RECOMMENDED, SELF_HOSTED, self_hosted
from proxy.config.schema import (
    ContextWindow,
    DefaultModels,
    ModelConfiguration,
    ModelOverride,
    ModelSettings,
    ProviderOverride,
    SelfHostedModel,
)
from proxy.config.wording import hint, listed, quoted, unsupported

_BLOCK: Path = ("modelConfiguration",)

_NEW = ModelSettings(
    context_window=ContextWindow(max_input_tokens=DEFAULT_TOKENS, max_output_tokens=DEFAULT_TOKENS)
)


def merge(
    block: ModelConfiguration,
    kinds: Collection[str],
    problems: Problems,
    base: ModelConfiguration = builtin.BUILT_IN,
) -> Merged:
    """What the block means; to be used only if `problems` stays empty.

    `base` has the built-in providers and models, which the block changes and filters.
    """
    if block.sourcegraph is not None:
        builtin.check(block.sourcegraph, (*_BLOCK, "sourcegraph"), problems)
    base = builtin.remaining(base, block.sourcegraph)
    overrides = _provider_overrides(block, base, problems)
    providers = _providers(overrides, kinds, problems)
    models = _models(block, base, overrides, problems)
    if not (models or problems):
        text = (
            "no models: name one in modelOverrides, modelOverridesRecommendedSettings"
            " or selfHostedModels"
        )
        problems.add(_BLOCK, text, at_key=True)
    given = block.default_models or base.default_models or DefaultModels()
    are_all = block.sourcegraph is None
    defaults = defaults_of(given, models, problems, are_all=are_all)
    whole = replace(
        block,
        provider_overrides=tuple(override for _, override in overrides.values()),
        model_overrides=tuple(model.settings for model in models.values()),
        model_overrides_recommended_settings=(),
        self_hosted_models=(),
        default_models=written(defaults),
    )
    return Merged(whole, providers, tuple(models.values()), defaults)


# Providers

_Overrides = dict[str, tuple[Path, ProviderOverride]]


def _provider_overrides(
    block: ModelConfiguration, base: ModelConfiguration, problems: Problems
) -> _Overrides:
    """The providers by id, built-in ones first, each with its place in the file."""
    built_in = {provider.id: provider for provider in base.provider_overrides}
    found: _Overrides = {each.id: ((*_BLOCK, "sourcegraph"), each) for each in built_in.values()}
    seen: set[str] = set()
    for path, override in items_of(block.provider_overrides, (*_BLOCK, "providerOverrides")):
        if override.id in seen:
            text = f"provider overrides: provider {quoted(override.id)} specified twice"
            problems.add((*path, "id"), text)
        seen.add(override.id)
        check_provider(override, path, problems)
        known = built_in.get(override.id, ProviderOverride(id=override.id))
        named = overlay(override, known)
        name = named.display_name or f'Provider "{override.id}"'
        found[override.id] = (path, replace(named, display_name=name))
    return found


def _providers(
    overrides: _Overrides, kinds: Collection[str], problems: Problems
) -> tuple[ProviderConfig, ...]:
    found = (_provider(each, kinds, path, problems) for path, each in overrides.values())
    return tuple(provider for provider in found if provider is not None)


def _provider(
    override: ProviderOverride, kinds: Collection[str], path: Path, problems: Problems
) -> ProviderConfig | None:
    path = (*path, "serverSideConfig")
    if override.server_side_config is None:
        if not problems.is_reported(path):
            # The original then sends its requests to the vendor's cloud (B-18).
            text = "nothing is sent to a host that nobody configured"
            problems.add(path, f"provider {quoted(override.id)} has no serverSideConfig; {text}")
        return None
    settings = dict(override.server_side_config)
    kind = _kind(settings.pop("type", None), kinds, path, problems)
    if kind is None:
        return None
    raw = msgspec.Raw(msgspec.json.encode(settings))
    return ProviderConfig(override.id, override.display_name, kind, raw, path)


def _kind(
    given: msgspec.Raw | None, kinds: Collection[str], path: Path, problems: Problems
) -> str | None:
    if given is None:
        problems.add(path, f'"type" is missing; known: {listed(kinds)}')
        return None
    kind: object = msgspec.json.decode(given)
    if isinstance(kind, str) and kind in kinds:
        return kind
    problems.add((*path, "type"), unsupported(kind, kinds))
    return None


# Models


def _models(
    block: ModelConfiguration,
    base: ModelConfiguration,
    providers: _Overrides,
    problems: Problems,
) -> Mapping[ModelRef, ModelConfig]:
    """The models by reference: the built-in ones, then those of the file in its order."""
    built_in = {model.model_ref: model for model in base.model_overrides}
    models: dict[ModelRef, ModelConfig] = {}
    for name, model in built_in.items():
        known = ModelRef.parse(name)
        silent = ModelOverride(model_ref=name)
        models[known] = _model(known, silent, model, providers, (*_BLOCK, "sourcegraph"))
    seen: set[ModelRef] = set()
    for path, override in _overrides(block, problems):
        # A recommended model is named by the item itself.
        place = (*path, "modelRef") if path[-2] == "modelOverrides" else path
        ref = _new_ref(override.model_ref, seen, providers, place, problems)
        if ref is not None:
            seen.add(ref)
            below = built_in.get(override.model_ref, _NEW)
            models[ref] = _model(ref, override, below, providers, place)
    return models


def _overrides(
    block: ModelConfiguration, problems: Problems
) -> Iterator[tuple[Path, ModelOverride]]:
    """What the block lists, checked, in the order of spec 1.9."""
    for path, override in items_of(block.model_overrides, (*_BLOCK, "modelOverrides")):
        check_model(override, path, problems)
        yield path, override
    base = (*_BLOCK, "modelOverridesRecommendedSettings")
    for path, key in items_of(block.model_overrides_recommended_settings, base):
        if key in RECOMMENDED:
            yield path, RECOMMENDED[key]
        else:
            text = f"no recommended settings for {quoted(key)}; {hint(key, RECOMMENDED)}"
            problems.add(path, text)
    for path, entry in items_of(block.self_hosted_models, (*_BLOCK, "selfHostedModels")):
        if entry.model in SELF_HOSTED:
            yield path, _self_hosted(entry, path, problems)
        else:
            text = f"no settings for {quoted(entry.model)}; {hint(entry.model, SELF_HOSTED)}"
            problems.add((*path, "model"), text)


def _self_hosted(entry: SelfHostedModel, path: Path, problems: Problems) -> ModelOverride:
    model = self_hosted(entry)
    check_model(model, (*path, "override"), problems)
    return model


def _new_ref(
    text: str,
    seen: Collection[ModelRef],
    providers: Collection[str],
    path: Path,
    problems: Problems,
) -> ModelRef | None:
    name = quoted(text)
    try:
        ref = ModelRef.parse(text)
    except BadModelRef as error:
        problems.add(path, f"model overrides: validating model ref {name}: {error}")
        return None
    if ref in seen:
        problems.add(path, f"model overrides: model {name} specified twice")
        return None
    if ref.provider not in providers:
        text = f"model {name} does not match a known provider; {hint(ref.provider, providers)}"
        problems.add(path, text)
        return None
    return ref


def _model(
    ref: ModelRef,
    override: ModelOverride,
    known: ModelSettings,
    providers: _Overrides,
    path: Path,
) -> ModelConfig:
    """The model: what its override says, else its provider of all models, else what is known."""
    _, provider = providers[ref.provider]
    settings = overlay(override, provider.default_model_config or ModelSettings())
    settings = overlay(settings, known)
    settings = replace(
        settings,
        display_name=settings.display_name or ref.model,
        model_name=settings.model_name or ref.model,
        tier=TIER,
    )
    return ModelConfig(ref, settings, path)
