"""What the file says: every key of it, each documented here and nowhere else.

These structs are plain data. Whatever needs two keys to judge is checked in `merge` and `load`;
what runs is made from the result by the registry.
"""

from __future__ import annotations

from proxy.config.schema.block import MAX_DISPLAY_NAME_BYTES, Block
from proxy.config.schema.capture import Capture
from proxy.config.schema.completions import Completions
from proxy.config.schema.knobs import ClientSideModelConfig, Knobs
from proxy.config.schema.modelconfiguration import (
    PROVIDER_KINDS,
    ClientSideProviderConfig,
    DefaultModels,
    ModelConfiguration,
    ModelFilters,
    ProviderOverride,
    SourcegraphModels,
)
from proxy.config.schema.models import (
    BedrockModel,
    ContextWindow,
    ModelCost,
    ModelOverride,
    ModelSettings,
    OpenAICompatibleModel,
    ProvisionedThroughput,
    ServerSideModelConfig,
)
from proxy.config.schema.penstock import (
    ClientKey,
    DailyLimits,
    Drain,
    Limits,
    Listen,
    Penstock,
    Timeouts,
)
from proxy.config.schema.secret import (
    EnvSecret,
    FileSecret,
    ReadSecret,
    Secret,
    SecretUnavailable,
)
from proxy.config.schema.selfhosted import (
    SelfHostedClientSide,
    SelfHostedModel,
    SelfHostedOverride,
    SelfHostedServerSide,
)
from proxy.config.schema.site import ConfigFeatures, SiteConfig

__all__ = [
    "MAX_DISPLAY_NAME_BYTES",
    "PROVIDER_KINDS",
    "BedrockModel",
    "Block",
    "Capture",
    "ClientKey",
    "ClientSideModelConfig",
    "ClientSideProviderConfig",
    "Completions",
    "ConfigFeatures",
    "ContextWindow",
    "DailyLimits",
    "DefaultModels",
    "Drain",
    "EnvSecret",
    "FileSecret",
    "Knobs",
    "Limits",
    "Listen",
    "ModelConfiguration",
    "ModelCost",
    "ModelFilters",
    "ModelOverride",
    "ModelSettings",
    "OpenAICompatibleModel",
    "Penstock",
    "ProviderOverride",
    "ProvisionedThroughput",
    "ReadSecret",
    "Secret",
    "SecretUnavailable",
    "SelfHostedClientSide",
    "SelfHostedModel",
    "SelfHostedOverride",
    "SelfHostedServerSide",
    "ServerSideModelConfig",
    "SiteConfig",
    "SourcegraphModels",
    "Timeouts",
]
