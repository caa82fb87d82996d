"""The providers, models and default models that a `modelConfiguration` block means.

Pure functions over what the file says: nothing is changed in place, models keep the order of the
file, and the table of recommended settings is frozen. Messages follow spec 1.10.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from proxy.config.decoder import items_of
from proxy.config.modelref import BadModelRef, Defaults, ModelRef, is_resource_id
from proxy.config.problems import Path, Problems
from proxy.config.recommended import RECOMMENDED
from proxy.config.schema import (
    MAX_DISPLAY_NAME_BYTES,
    ClientSideModelConfig,
    ContextWindow,
    DefaultModels,
    ModelConfiguration,
    ModelOverride,
    ModelSettings,
    ProviderOverride,
    Secret,
)
from proxy.config.wording import hint, listed, quoted

_BLOCK: Path = ("modelConfiguration",)

# What a new model starts with (spec 1.12).
_DEFAULT_TOKENS = 4000

# The values of all releases (spec 1.6). Newer ones are let through, with a warning.
_CAPABILITIES = (
    *("autocomplete", "chat", "edit", "vision", "reasoning", "tools"),
    *("fallback", "unlimited"),
)
_CATEGORIES = ("accuracy", "balanced", "speed", "other", "deprecated")
_TIER = "enterprise"


class ContextLimits(msgspec.Struct, frozen=True):
    """How many tokens a model takes and gives."""

    max_input_tokens: int
    max_output_tokens: int


class ProviderConfig(msgspec.Struct, frozen=True):
    """A service that hosts models. `settings` is its serverSideConfig without the `type`."""

    id: str
    display_name: str
    kind: str
    settings: msgspec.Raw
    path: Path  # of the settings in the file


class ModelConfig(msgspec.Struct, frozen=True):
    """A model with everything the file says or implies of it."""

    ref: ModelRef
    display_name: str
    model_name: str
    capabilities: tuple[str, ...]
    category: str
    status: str
    tier: str
    context: ContextLimits
    client_side: msgspec.Raw | None  # the knobs as given, None if the file has none
    api_model: Secret | None
    path: Path  # of the model's reference in the file

    @property
    def upstream_name(self) -> str:
        """What the model server is sent as the model's name; may be secret."""
        return self.model_name if self.api_model is None else self.api_model.reveal()


class Merged(msgspec.Struct, frozen=True):
    """What a `modelConfiguration` block means."""

    providers: tuple[ProviderConfig, ...]
    models: tuple[ModelConfig, ...]
    defaults: Defaults


def merge(block: ModelConfiguration, kinds: Collection[str], problems: Problems) -> Merged:
    """What the block means; to be used only if `problems` stays empty."""
    _check_block(block, problems)
    providers = _providers(block, kinds, problems)
    models = _models(block, problems)
    defaults = _defaults(block.default_models or DefaultModels(), models, problems)
    return Merged(providers, tuple(models.values()), defaults)


def _check_block(block: ModelConfiguration, problems: Problems) -> None:
    if block.sourcegraph is not None:
        text = "ignored: there is no built-in list of models; write null"
        problems.warn((*_BLOCK, "sourcegraph"), text)
    if block.self_hosted_models:
        text = "selfHostedModels is not supported by this version; use modelOverrides"
        problems.add((*_BLOCK, "selfHostedModels"), text, at_key=True)
    elif not (block.model_overrides or block.model_overrides_recommended_settings):
        text = "no models: name one in modelOverrides or modelOverridesRecommendedSettings"
        problems.add(_BLOCK, text, at_key=True)


def _providers(
    block: ModelConfiguration, kinds: Collection[str], problems: Problems
) -> tuple[ProviderConfig, ...]:
    found: dict[str, ProviderConfig | None] = {}
    for path, override in items_of(block.provider_overrides, (*_BLOCK, "providerOverrides")):
        if override.id in found:
            text = f"provider overrides: provider {quoted(override.id)} specified twice"
            problems.add((*path, "id"), text)
        _check_provider(override, path, problems)
        found[override.id] = _provider(override, kinds, path, problems)
    return tuple(provider for provider in found.values() if provider is not None)


def _check_provider(override: ProviderOverride, path: Path, problems: Problems) -> None:
    name = quoted(override.id)
    if not is_resource_id(override.id):
        problems.add((*path, "id"), f"provider overrides: invalid provider ID {name}")
    _check_display_name(override.display_name, f"validating provider {name}", path, problems)
    if override.default_model_config is not None:
        what = f"applying provider default model config ({name})"
        _check_settings(
            override.default_model_config, what, (*path, "defaultModelConfig"), problems
        )


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
    display_name = override.display_name or f'Provider "{override.id}"'
    raw = msgspec.Raw(msgspec.json.encode(settings))
    return ProviderConfig(override.id, display_name, kind, raw, path)


def _kind(
    given: msgspec.Raw | None, kinds: Collection[str], path: Path, problems: Problems
) -> str | None:
    if given is None:
        problems.add(path, f'"type" is missing; known: {listed(kinds)}')
        return None
    kind: object = msgspec.json.decode(given)
    if isinstance(kind, str) and kind in kinds:
        return kind
    shown = quoted(kind) if isinstance(kind, str) else "this type"
    text = f"{shown} is not supported by this version; {hint(str(kind), kinds)}"
    problems.add((*path, "type"), text)
    return None


def _models(block: ModelConfiguration, problems: Problems) -> Mapping[ModelRef, ModelConfig]:
    providers = {
        override.id: override.default_model_config or ModelSettings()
        for _, override in items_of(block.provider_overrides, ())
    }
    models: dict[ModelRef, ModelConfig] = {}
    for path, override in _listed(block, problems):
        what = f"validating model {quoted(override.model_ref)}"
        _check_display_name(override.display_name, what, path, problems)
        _check_settings(override, what, path, problems)
        # A recommended model is named by the item itself.
        place = (*path, "modelRef") if path[-2] == "modelOverrides" else path
        ref = _new_ref(override.model_ref, models, providers, place, problems)
        if ref is not None:
            models[ref] = _model(ref, override, providers[ref.provider], place)
    return models


def _listed(block: ModelConfiguration, problems: Problems) -> Iterator[tuple[Path, ModelOverride]]:
    """What the block lists, in the order of spec 1.9."""
    yield from items_of(block.model_overrides, (*_BLOCK, "modelOverrides"))
    base = (*_BLOCK, "modelOverridesRecommendedSettings")
    for path, key in items_of(block.model_overrides_recommended_settings, base):
        if key in RECOMMENDED:
            yield path, RECOMMENDED[key]
        else:
            text = f"no recommended settings for {quoted(key)}; {hint(key, RECOMMENDED)}"
            problems.add(path, text)


def _new_ref(
    text: str,
    models: Collection[ModelRef],
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
    if ref in models:
        problems.add(path, f"model overrides: model {name} specified twice")
        return None
    if ref.provider not in providers:
        text = f"model {name} does not match a known provider; {hint(ref.provider, providers)}"
        problems.add(path, text)
        return None
    return ref


def _check_display_name(name: str, what: str, path: Path, problems: Problems) -> None:
    length = len(name.encode())
    if length > MAX_DISPLAY_NAME_BYTES:
        problems.add((*path, "displayName"), f"{what}: display name length: {length}")


def _check_settings(settings: ModelSettings, what: str, path: Path, problems: Problems) -> None:
    window = settings.context_window
    for tokens, key, name in (
        (window.max_input_tokens, "maxInputTokens", "max input tokens"),
        (window.max_output_tokens, "maxOutputTokens", "max output tokens"),
    ):
        if tokens is not None and tokens <= 0:
            problems.add((*path, "contextWindow", key), f"{what}: invalid {name}")
    server = settings.server_side_config
    if server is not None and server.type != "openaicompatible":
        text = f'{quoted(server.type)} is not supported by this version; known: "openaicompatible"'
        problems.add((*path, "serverSideConfig", "type"), text)
    _warn_of_words(settings, path, problems)


def _warn_of_words(settings: ModelSettings, path: Path, problems: Problems) -> None:
    for place, word in items_of(settings.capabilities, (*path, "capabilities")):
        if word not in _CAPABILITIES:
            problems.warn(place, f"unknown capability {quoted(word)}; {hint(word, _CAPABILITIES)}")
    category = settings.category
    if category and category not in _CATEGORIES:
        text = f"unknown category {quoted(category)}; {hint(category, _CATEGORIES)}"
        problems.warn((*path, "category"), text)
    if settings.tier not in ("", _TIER):
        problems.warn((*path, "tier"), f'ignored: every model is of the tier "{_TIER}"')


def _model(
    ref: ModelRef, override: ModelOverride, provider: ModelSettings, path: Path
) -> ModelConfig:
    """The model: what its override says, else what its provider says of all its models."""
    client, server = override.client_side_config, override.server_side_config
    client = provider.client_side_config if client is None else client
    server = provider.server_side_config if server is None else server
    return ModelConfig(
        ref=ref,
        display_name=override.display_name or ref.model,
        model_name=override.model_name or ref.model,
        capabilities=override.capabilities or provider.capabilities,
        category=override.category or provider.category,
        status=override.status or provider.status,
        tier=_TIER,
        context=_context(override.context_window, provider.context_window),
        client_side=None if client is None else _knobs(client),
        api_model=None if server is None else server.api_model,
        path=path,
    )


def _context(model: ContextWindow, provider: ContextWindow) -> ContextLimits:
    return ContextLimits(
        model.max_input_tokens or provider.max_input_tokens or _DEFAULT_TOKENS,
        model.max_output_tokens or provider.max_output_tokens or _DEFAULT_TOKENS,
    )


def _knobs(client: ClientSideModelConfig) -> msgspec.Raw | None:
    knobs = client.openaicompatible
    return None if knobs is None else msgspec.Raw(msgspec.json.encode(knobs))


class _Slot(msgspec.Struct, frozen=True):
    """One of the default models: what it is called, and what fits (spec 1.7)."""

    key: str
    name: str
    capability: str
    categories: tuple[str, str]

    def fits(self, model: ModelConfig) -> bool:
        # A model of no category fits everywhere: the smallest file has one model and says little.
        category_fits = not model.category or model.category in self.categories
        return category_fits and self.capability in model.capabilities


_CHAT = _Slot("chat", "chat", "chat", ("accuracy", "balanced"))
_FAST_CHAT = _Slot("fastChat", "fast chat", "chat", ("speed", "balanced"))
_CODE = _Slot("codeCompletion", "code completion", "autocomplete", ("speed", "balanced"))


def _defaults(
    given: DefaultModels, models: Mapping[ModelRef, ModelConfig], problems: Problems
) -> Defaults:
    return Defaults(
        chat=_default(_CHAT, given.chat, models, problems),
        fast_chat=_default(_FAST_CHAT, given.fast_chat, models, problems),
        code_completion=_default(_CODE, given.code_completion, models, problems),
    )


def _default(
    slot: _Slot, given: str | None, models: Mapping[ModelRef, ModelConfig], problems: Problems
) -> ModelRef | None:
    path = (*_BLOCK, "defaultModels", slot.key)
    try:
        ref = ModelRef.parse(given) if given else None
    except BadModelRef as error:
        problems.add(path, f"default {slot.name} model: {error}")
        return None
    if ref is not None and ref in models:
        if slot.capability not in models[ref].capabilities:
            text = f'default {slot.name} model: {quoted(str(ref))} cannot "{slot.capability}"'
            problems.warn(path, text)
        return ref
    fitting = next((model.ref for model in models.values() if slot.fits(model)), None)
    if ref is not None:
        instead = "" if fitting is None else f"; using {quoted(str(fitting))}"
        problems.warn(path, f"unknown {slot.name} model {quoted(str(ref))}{instead}")
    if fitting is None:
        fits = f'"{slot.capability}" and category {" or ".join(map(quoted, slot.categories))}'
        text = (
            f"no suitable model found for {slot.name} ({len(models)} candidates); it needs {fits}"
        )
        problems.warn(path, text)
    return fitting
