"""The services penstock can call: one file each, and one line each in this table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from proxy.providers.base import ProviderKind
from proxy.providers.huggingface_tgi import HUGGINGFACE_TGI
from proxy.providers.openai import OPENAI
from proxy.providers.openaicompatible import OPENAI_COMPATIBLE

PROVIDERS: Mapping[str, ProviderKind] = MappingProxyType(
    {
        "huggingface-tgi": HUGGINGFACE_TGI,
        "openaicompatible": OPENAI_COMPATIBLE,
        "openai": OPENAI,
    }
)
