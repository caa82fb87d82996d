"""The services penstock can call: one file each, and one line each in this table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from proxy.providers.anthropic import ANTHROPIC
from proxy.providers.azure import AZURE_OPENAI
from proxy.providers.base import ProviderKind
from proxy.providers.bedrock import AWS_BEDROCK
from proxy.providers.fireworks import FIREWORKS
from proxy.providers.google import GOOGLE
from proxy.providers.huggingface_tgi import HUGGINGFACE_TGI
from proxy.providers.openai import OPENAI
from proxy.providers.openaicompatible import OPENAI_COMPATIBLE
from proxy.providers.sourcegraph import SOURCEGRAPH

PROVIDERS: Mapping[str, ProviderKind] = MappingProxyType(
    {
        "huggingface-tgi": HUGGINGFACE_TGI,
        "openaicompatible": OPENAI_COMPATIBLE,
        "openai": OPENAI,
        "azureOpenAI": AZURE_OPENAI,
        "fireworks": FIREWORKS,
        "anthropic": ANTHROPIC,
        "awsBedrock": AWS_BEDROCK,
        "google": GOOGLE,
        "sourcegraph": SOURCEGRAPH,
    }
)
