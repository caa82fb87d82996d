"""What the model blocks of a file come to: providers, models and default models."""

from __future__ import annotations

import msgspec

from proxy.config.modelref import Defaults, ModelRef
from proxy.config.problems import Path
from proxy.config.schema import (
    Knobs,
    ModelConfiguration,
    ModelOverride,
    OpenAICompatibleModel,
    ProvisionedThroughput,
)

# What a new model starts with (spec 1.12).
DEFAULT_TOKENS = 4000


class ProviderConfig(msgspec.Struct, frozen=True):
    """A service that hosts models. `settings` is its serverSideConfig without the `type`."""

    id: str
    display_name: str
    kind: str
    settings: msgspec.Raw
    path: Path  # of the settings in the file


class ContextLimits(msgspec.Struct, frozen=True):
    """How many tokens a model takes and gives."""

    max_input_tokens: int
    max_output_tokens: int


class ModelConfig(msgspec.Struct, frozen=True):
    """A model with everything the file says or implies of it; nothing is left to a default."""

    ref: ModelRef
    settings: ModelOverride
    path: Path  # of the model's reference in the file

    @property
    def upstream_name(self) -> str:
        """What the model server is sent as the model's name; may be secret."""
        match self.settings.server_side_config:
            case OpenAICompatibleModel(api_model=name) if name:
                return name.reveal()
            case ProvisionedThroughput(arn=arn):
                return arn.reveal()
            case _:
                return self.settings.model_name

    @property
    def has_secret_name(self) -> bool:
        """Whether the name upstream must not be shown."""
        return self.upstream_name != self.settings.model_name

    @property
    def knobs(self) -> Knobs | None:
        """What clients are told, and asked of the server by default; None if the file has none."""
        client = self.settings.client_side_config
        return None if client is None else client.openaicompatible

    @property
    def limits(self) -> ContextLimits:
        """How many tokens it takes and gives."""
        window = self.settings.context_window
        return ContextLimits(
            window.max_input_tokens or DEFAULT_TOKENS, window.max_output_tokens or DEFAULT_TOKENS
        )


class Merged(msgspec.Struct, frozen=True):
    """What a `modelConfiguration` block means: as a block that says all, and taken apart."""

    block: ModelConfiguration
    providers: tuple[ProviderConfig, ...]
    models: tuple[ModelConfig, ...]
    defaults: Defaults
