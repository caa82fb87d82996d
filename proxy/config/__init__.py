"""What the file says: read, checked, and given as frozen data."""

from __future__ import annotations

from proxy.config.clients import Client
from proxy.config.decoder import decode_strict
from proxy.config.jsonschema import json_schema
from proxy.config.load import Config, converted, load
from proxy.config.modelconfig import ModelConfig, ProviderConfig
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
from proxy.config.secrets import SecretFiles, read_secret

__all__ = [
    "BadModelRef",
    "Block",
    "Client",
    "Config",
    "ConfigError",
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
    "SecretFiles",
    "Timeouts",
    "UnknownModel",
    "choose",
    "converted",
    "decode_strict",
    "json_schema",
    "load",
    "read_secret",
    "spellings",
]
