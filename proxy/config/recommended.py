"""The settings of models that are often self-hosted, so that a file need only name them.

The values are those of the last public version of the original (spec 1.8, 1.9). A change that
would break those who host such a model, as a larger context window does, needs a new `@version`.
The tables are frozen, and what a file changes it changes in a copy (B-11).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec.structs import replace

from proxy.config.overlay import overlay
from proxy.config.schema import (
    ClientSideModelConfig,
    ContextWindow,
    Knobs,
    ModelOverride,
    OpenAICompatibleModel,
    SelfHostedClientSide,
    SelfHostedModel,
    SelfHostedOverride,
)

_NO_KNOBS = Knobs()
_STARCODER_KNOBS = Knobs(
    stop_sequences=("<|endoftext|>", "<file_sep>"), end_of_text="<|endoftext|>"
)


def _model(
    ref: str, display_name: str, *capabilities: str, knobs: Knobs = _NO_KNOBS
) -> ModelOverride:
    return ModelOverride(
        model_ref=ref,
        display_name=display_name,
        model_name=ref.rpartition("::")[2],
        capabilities=capabilities,
        category="balanced",
        status="stable",
        tier="enterprise",
        context_window=ContextWindow(max_input_tokens=8192, max_output_tokens=4096),
        client_side_config=ClientSideModelConfig(openaicompatible=knobs),
        server_side_config=OpenAICompatibleModel(),
    )


_MODELS = (
    _model("bigcode::v1::starcoder2-7b", "Starcoder2 7B", "autocomplete", knobs=_STARCODER_KNOBS),
    _model("bigcode::v1::starcoder2-15b", "Starcoder2 15B", "autocomplete", knobs=_STARCODER_KNOBS),
    _model("mistral::v1::mistral-7b-instruct", "Mistral 7B Instruct", "chat", "autocomplete"),
    _model("mistral::v1::mixtral-8x7b-instruct", "Mixtral 8x7B Instruct", "chat", "autocomplete"),
    _model("mistral::v1::mixtral-8x22b-instruct", "Mixtral 8x22B", "chat", "autocomplete"),
)

# By the reference written in the file, which is also that of the model (B-09).
RECOMMENDED: Mapping[str, ModelOverride] = MappingProxyType(
    {model.model_ref: model for model in _MODELS}
)

# By name and version, as `selfHostedModels` has them.
SELF_HOSTED: Mapping[str, ModelOverride] = MappingProxyType(
    {f"{model.model_name}@v1": model for model in _MODELS}
)


def self_hosted(entry: SelfHostedModel) -> ModelOverride:
    """The model that an entry of a known name means."""
    known = SELF_HOSTED[entry.model]
    changes = entry.override or SelfHostedOverride()
    model = overlay(
        ModelOverride(
            model_ref=f"{entry.provider}::{entry.api_version}::{known.model_name}",
            display_name=changes.display_name,
            context_window=changes.context_window,
        ),
        known,
    )
    return replace(
        model,
        client_side_config=ClientSideModelConfig(
            openaicompatible=_knobs(changes.client_side_config, known)
        ),
        server_side_config=OpenAICompatibleModel(api_model=changes.server_side_config.api_model),
    )


def _knobs(changes: SelfHostedClientSide, known: ModelOverride) -> Knobs:
    """The known knobs under those that the entry gives, in either form."""
    given = overlay(Knobs(), changes)
    if changes.openaicompatible is not None:
        given = overlay(given, changes.openaicompatible)
    client = known.client_side_config or ClientSideModelConfig()
    return overlay(given, client.openaicompatible or Knobs())
