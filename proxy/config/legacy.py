"""The `completions` block as the `modelConfiguration` it means (spec 1.11), without its defects.

Pure functions: the block stays as it is (B-14), names are split only where their beginning is a
provider (B-15), and models that differ in anything are two models (B-16).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

from proxy.config.legacy_defaults import MODEL_DEFAULTS, Choice, choices_of, filled
from proxy.config.legacy_limits import max_input_tokens
from proxy.config.modelref import ModelRef, sanitize_resource_name
from proxy.config.problems import Path
from proxy.config.schema import (
    Completions,
    ContextWindow,
    DefaultModels,
    ModelConfiguration,
    ModelOverride,
    ProviderOverride,
    ProvisionedThroughput,
    Secret,
)

_MAX_OUTPUT_TOKENS = 4000

# What a name may begin with, before a slash, to say whose the model is.
_VENDORS = frozenset({"anthropic", "fireworks", "google", "mistral", "openai"})
_KINDS = MappingProxyType({"aws-bedrock": "awsBedrock", "azure-openai": "azureOpenAI"})
# Whose models a service serves that is not the vendor.
_VENDOR_OF = MappingProxyType({"aws-bedrock": "anthropic", "azure-openai": "openai"})

_NEW: Path = ("modelConfiguration",)
_OLD: Path = ("completions",)


class Conversion(msgspec.Struct, frozen=True):
    """The newer block, and where in the file its parts come from."""

    block: ModelConfiguration
    places: Mapping[Path, Path]


def convert(block: Completions) -> Conversion:
    """The `modelConfiguration` that the block means. Raises Unavailable where it means none."""
    block = filled(block)
    choices = choices_of(block)
    wanted = [_model(block, choice) for choice in choices]
    refs = _distinct(wanted, choices)
    models = {model.model_ref: model for model in refs}
    listed = sorted(models.values(), key=lambda model: model.model_ref)
    chat, completion, fast_chat = (model.model_ref for model in refs)
    owners = sorted({ModelRef.parts_of(ref).provider for ref in models})
    return Conversion(
        block=ModelConfiguration(
            provider_overrides=tuple(_provider(owner, block) for owner in owners),
            model_overrides=tuple(listed),
            default_models=DefaultModels(
                chat=chat, fast_chat=fast_chat, code_completion=completion
            ),
        ),
        places=MappingProxyType(dict(_places(listed, refs, choices, len(owners)))),
    )


def _model(block: Completions, choice: Choice) -> ModelOverride:
    owner, name, arn = _parts(choice.model, block.provider)
    alias = choice.alias if block.provider == "azure-openai" else ""
    model_id = sanitize_resource_name(alias or name)
    limit = choice.max_tokens or max_input_tokens(block.provider, choice.model)
    return ModelOverride(
        model_ref=str(ModelRef(owner, "unknown", model_id)),
        model_name=name,
        display_name=model_id,
        context_window=ContextWindow(max_input_tokens=limit, max_output_tokens=_MAX_OUTPUT_TOKENS),
        server_side_config=ProvisionedThroughput(arn=Secret(arn)) if arn else None,
    )


def _parts(text: str, provider: str) -> tuple[str, str, str]:
    """Whose the model is, its name, and the ARN of its throughput, if it has its own."""
    owner = _VENDOR_OF.get(provider, provider)
    if provider == "aws-bedrock":
        name, _, arn = text.partition("/")
        return owner, name, arn
    vendor, slash, name = text.partition("/")
    vendor = _VENDOR_OF.get(vendor, vendor)
    if slash and provider != "azure-openai" and vendor in _VENDORS | {owner}:
        return vendor, name, ""
    return owner, text, ""


def _distinct(wanted: Sequence[ModelOverride], choices: Sequence[Choice]) -> list[ModelOverride]:
    """The models, each different one under a reference of its own; the last keeps the plain one."""
    found = []
    for model in wanted:
        same = [other for other in wanted if other.model_ref == model.model_ref]
        if model == same[-1]:
            found.append(model)
        else:
            suffix = choices[wanted.index(model)].suffix
            found.append(replace(model, model_ref=model.model_ref + suffix))
    return found


def _provider(owner: str, block: Completions) -> ProviderOverride:
    kind = _KINDS.get(block.provider, block.provider)
    settings: dict[str, object] = {
        "type": kind,
        "accessToken": block.access_token,
        "endpoint": block.endpoint or None,
    }
    if kind == "azureOpenAI":
        settings["user"] = block.user or None
        settings["useDeprecatedCompletionsAPI"] = (
            block.azure_use_deprecated_completions_api_for_old_models or None
        )
    return ProviderOverride(
        id=owner,
        server_side_config={
            key: msgspec.Raw(msgspec.json.encode(value))
            for key, value in settings.items()
            if value is not None
        },
        default_model_config=MODEL_DEFAULTS,
    )


def _places(
    listed: Sequence[ModelOverride],
    models: Sequence[ModelOverride],
    choices: Sequence[Choice],
    providers: int,
) -> Iterator[tuple[Path, Path]]:
    """For paths in the newer block, those in the older."""
    yield _NEW, _OLD
    for index in range(providers):
        yield (*_NEW, "providerOverrides", index), _OLD
        yield (*_NEW, "providerOverrides", index, "serverSideConfig"), _OLD
        yield (*_NEW, "providerOverrides", index, "serverSideConfig", "type"), (*_OLD, "provider")
    # Backwards, so that a model that is chosen twice is where it is chosen first.
    for model, choice in reversed(list(zip(models, choices, strict=True))):
        index = listed.index(model)
        old = (*_OLD, choice.key)
        new = (*_NEW, "modelOverrides", index)
        yield (*_NEW, "defaultModels", choice.slot), old
        yield from ((path, old) for path in (new, (*new, "modelRef"), (*new, "displayName")))
        yield (*new, "contextWindow", "maxInputTokens"), (*_OLD, f"{choice.key}MaxTokens")
