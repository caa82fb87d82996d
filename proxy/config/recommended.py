"""The settings of models that are often self-hosted, so that a file need only name them.

The values are those of the last public version of the original (spec 1.8). A change that would
break those who host such a model, as a larger context window does, must not be made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from proxy.config.schema import ClientSideModelConfig, ContextWindow, ModelOverride

_STARCODER_KNOBS = {
    "stopSequences": msgspec.Raw(b'["<|endoftext|>","<file_sep>"]'),
    "endOfText": msgspec.Raw(b'"<|endoftext|>"'),
}


def _model(
    ref: str, display_name: str, *capabilities: str, knobs: Mapping[str, msgspec.Raw] | None = None
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
        client_side_config=ClientSideModelConfig(openaicompatible=dict(knobs or {})),
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
