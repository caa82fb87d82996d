"""What the file says: read, checked, and given as frozen data."""

from __future__ import annotations

from proxy.config.decoder import decode_strict
from proxy.config.jsonschema import json_schema
from proxy.config.load import Client, Config, load, read_secret
from proxy.config.modelconfig import ContextLimits, ModelConfig, ProviderConfig
from proxy.config.modelref import (
    BadModelRef,
    Defaults,
    ModelRef,
    Names,
    UnknownModel,
    choose,
    spellings,
)
from proxy.config.problems import ConfigError, Problem, Problems
from proxy.config.schema import Block, Limits, Listen, Secret, Timeouts

__all__ = [
    "BadModelRef",
    "Block",
    "Client",
    "Config",
    "ConfigError",
    "ContextLimits",
    "Defaults",
    "Limits",
    "Listen",
    "ModelConfig",
    "ModelRef",
    "Names",
    "Problem",
    "Problems",
    "ProviderConfig",
    "Secret",
    "Timeouts",
    "UnknownModel",
    "choose",
    "decode_strict",
    "json_schema",
    "load",
    "read_secret",
    "spellings",
]
