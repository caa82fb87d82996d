"""A configuration with every key there is, made by looking at the structs."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec

from proxy.config import schema
from proxy.config.schema import PROVIDER_KINDS, Secret
from proxy.providers import PROVIDERS

Json = dict[str, Any]  # Any: JSON of any shape

# Values for keys of which not every text will do.
WORDS: dict[str, object] = {
    "api_version": "2024-06-01",
    "endpoint": "https://host.example.com/base",
    "authority": "https://login.example.com",
    "region": "us-west-2",
    "status": "beta",
    "category": "speed",
    "tier": "enterprise",
    "reasoning_effort": "high",
    "capabilities": ["vision"],
    "allow": ["a*"],
    "deny": ["*b"],
    "model_ref": "p0::v1::m",
    "provider": "p0",
    "url": "http://model:8080/v1",
    "models": ["p0::v1::m"],
    "host": "192.0.2.1",
    "admin_host": "192.0.2.2",
    "port": 1,
    "admin_port": 2,
    "trusted_proxies": ["192.0.2.0/24"],
    "headers": {"X-Key": "hunter2"},
    "use_legacy_completions": False,
    "max_body_bytes": 2000,
    "max_event_bytes": 2000,
    "max_bytes": 2000,
    "max_file_bytes": 2000,
    "server_side_config": None,  # of a provider: put there kind by kind
    "credentials_file": None,  # excludes credentialsJSON; has a test of its own
    "model_overrides_recommended_settings": None,  # these become models: tests below
    "self_hosted_models": None,
    "completions": None,
    # Whoever looks for secrets asks often, and names no version of his client.
    **dict.fromkeys(("chat_requests", "code_requests"), 1_000_000),
    **dict.fromkeys(("per_user_daily_limit", "per_user_code_completions_daily_limit"), 1_000_000),
    "cody_context_filters": None,  # has a test of its own
    "load_factor": 1.5,
    "path": "/health",
    "fallbacks": ["p0::v1::n"],
}
# Of objects whose keys are names of something.
KEYS = {"providers": "p0", "models": "p0::v1::m"}


SAMPLES: dict[object, object] = {
    Secret: "hunter2",
    msgspec.Raw: "hunter2",
    str: "text",
    bool: True,
    int: 7,
    float: 0.5,
}


def sample(kind: object, name: str = "", seen: set[type] | None = None) -> object:
    """A value of this type that is not its default."""
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    if get_origin(bare) is dict and name in KEYS:
        return {KEYS[name]: sample(get_args(bare)[1], "", seen)}
    if name in WORDS:
        return WORDS[name]
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return full(kind, seen)
    return _of_arguments(kind, name, seen)


def _of_arguments(kind: object, name: str, seen: set[type] | None) -> object:
    """A value of what stands in the brackets of a type."""
    if get_origin(kind) is Literal:
        return get_args(kind)[-1]
    if get_origin(kind) in (Annotated, Union, UnionType):
        first, *_ = (each for each in get_args(kind) if each is not NoneType)
        return sample(first, name, seen)
    if get_origin(kind) is tuple:
        return [sample(get_args(kind)[0], "", seen)]
    return SAMPLES[kind]


def full(struct: type[msgspec.Struct], seen: set[type] | None = None) -> Json:
    """An object with every key of the struct."""
    if seen is not None:
        seen.add(struct)
    members = {
        field.encode_name: (
            not field.default
            if isinstance(field.default, bool)
            else sample(field.type, field.name, seen)
        )
        for field in msgspec.structs.fields(struct)
    }
    tag = struct.__struct_config__.tag
    tagged = {} if tag is None else {str(struct.__struct_config__.tag_field): tag}
    return {**tagged, **{key: value for key, value in members.items() if value is not None}}


SERVER_SIDE: tuple[type[msgspec.Struct], ...] = (
    schema.OpenAICompatibleModel,
    schema.ProvisionedThroughput,
    schema.BedrockModel,
)


def document(seen: set[type]) -> Json:
    """A file with every key there is, all kinds of provider and model in it."""
    site = full(schema.SiteConfig, seen)
    block: Json = site["modelConfiguration"]
    (provider,), (model,) = block["providerOverrides"], block["modelOverrides"]
    block["providerOverrides"] = [
        {
            **provider,
            "id": f"p{index}",
            "serverSideConfig": {"type": kind, **full(PROVIDERS[kind].settings, seen)},
        }
        for index, kind in enumerate(PROVIDER_KINDS)
    ]
    block["modelOverrides"] = [
        {**model, "modelRef": ref, "serverSideConfig": full(server_side, seen)}
        for ref, server_side in zip(
            ("p0::v1::m", "p0::v1::n", "p0::v1::o"), SERVER_SIDE, strict=True
        )
    ]
    block["defaultModels"] = {
        "chat": "p0::v1::m",
        "fastChat": "p0::v1::n",
        "codeCompletion": "p0::v1::o",
    }
    return site
