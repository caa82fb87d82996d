"""What Cody clients are told before they ask: the models, and which features there are.

Nothing of a `serverSideConfig` is in these structs, so nothing of it can leave.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from parsers.dialects.sourcegraph import NEWEST_VERSION
from proxy.api.surface import visible_models
from proxy.config.modelref import Defaults, ModelRef
from proxy.config.schema import Knobs, ModelCost
from proxy.registry import Client, Model, Registry


class _Shown(msgspec.Struct, frozen=True, rename="camel"):
    """Whatever clients see is spelled in camel case."""


class _Provider(_Shown, frozen=True):
    id: str
    display_name: str


class _ContextWindow(_Shown, frozen=True, omit_defaults=True):
    max_input_tokens: int | None
    max_output_tokens: int | None
    max_user_input_tokens: int | None = None


class _Cost(_Shown, frozen=True):
    unit: str
    input_token_pennies: float | None
    output_token_pennies: float | None


class _ClientSide(msgspec.Struct, frozen=True):
    openAICompatible: dict[str, object]


class _Model(_Shown, frozen=True):
    model_ref: str
    display_name: str
    model_name: str
    capabilities: tuple[str, ...]
    category: str
    status: str
    tier: str
    context_window: _ContextWindow
    client_side_config: _ClientSide | msgspec.UnsetType = msgspec.UNSET
    estimated_model_cost: _Cost | msgspec.UnsetType = msgspec.UNSET


class _Defaults(_Shown, frozen=True):
    """Empty where there is none, or none that this client may use."""

    chat: str
    fast_chat: str
    code_completion: str


class SupportedModels(_Shown, frozen=True):
    """`supported-models.json` (spec 3.8)."""

    providers: tuple[_Provider, ...]
    models: tuple[_Model, ...]
    default_models: _Defaults
    schema_version: str = "1.0"
    revision: str = "-"


class ClientConfig(_Shown, frozen=True):
    """`client-config` (spec 3.9)."""

    cody_enabled: bool
    chat_enabled: bool
    auto_complete_enabled: bool
    custom_commands_enabled: bool
    smart_context_window_enabled: bool
    models_api_enabled: bool = msgspec.field(name="modelsAPIEnabled")
    attribution_enabled: bool = False
    attribution: str = "none"
    latest_supported_completions_stream_api_version: int | msgspec.UnsetType = msgspec.field(
        default=NEWEST_VERSION, name="latestSupportedCompletionsStreamAPIVersion"
    )
    user_should_use_enterprise: bool = False


def supported_models(registry: Registry, client: Client | None) -> SupportedModels:
    """The models that a client may use, their providers, and the defaults."""
    models = visible_models(registry, client)
    sees_all = client is None or client.models is None
    used = {model.ref.provider for model in models}
    return SupportedModels(
        providers=tuple(
            _Provider(each.id, each.display_name)
            for each in registry.config.providers
            if sees_all or each.id in used
        ),
        models=tuple(_shown(model) for model in models),
        default_models=_defaults(registry.config.defaults, models),
    )


def client_config(registry: Registry) -> ClientConfig:
    """What works here: chat and autocomplete where there is a model for them.

    Clients that are to do without this route guess the newest API version; so may those that ask.
    """
    defaults, is_on = registry.config.defaults, registry.config.serves_cody
    features = registry.config.features
    newest = msgspec.UNSET if registry.config.disables_client_config else NEWEST_VERSION
    return ClientConfig(
        cody_enabled=is_on,
        chat_enabled=is_on and features.chat and defaults.chat is not None,
        auto_complete_enabled=is_on
        and features.auto_complete
        and defaults.code_completion is not None,
        custom_commands_enabled=is_on and features.commands,
        smart_context_window_enabled=registry.config.smart_context_window,
        models_api_enabled=not registry.config.is_legacy,
        latest_supported_completions_stream_api_version=newest,
    )


def _shown(model: Model) -> _Model:
    settings, knobs = model.config.settings, model.config.knobs
    window, cost = settings.context_window, settings.model_cost
    return _Model(
        model_ref=model.label,
        display_name=settings.display_name,
        model_name=settings.model_name,
        capabilities=settings.capabilities,
        category=settings.category,
        status=settings.status,
        tier=settings.tier,
        context_window=_ContextWindow(
            window.max_input_tokens, window.max_output_tokens, window.max_user_input_tokens
        ),
        client_side_config=msgspec.UNSET if knobs is None else _ClientSide(_given(knobs)),
        estimated_model_cost=msgspec.UNSET if cost is None else _shown_cost(cost),
    )


def _given(knobs: Knobs) -> dict[str, object]:
    """Those that the file has; an empty object says something too."""
    all_of_them: dict[str, object] = msgspec.to_builtins(knobs)
    return {name: value for name, value in all_of_them.items() if value is not None}


def _shown_cost(cost: ModelCost) -> _Cost:
    return _Cost(cost.unit, cost.input_token_pennies, cost.output_token_pennies)


def _defaults(defaults: Defaults, models: Sequence[Model]) -> _Defaults:
    visible = {model.ref for model in models}

    def shown(ref: ModelRef | None) -> str:
        return str(ref) if ref in visible else ""

    return _Defaults(
        chat=shown(defaults.chat),
        fast_chat=shown(defaults.fast_chat),
        code_completion=shown(defaults.code_completion),
    )
