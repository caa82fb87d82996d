"""What a `completions` block means where it says nothing, and when it means nothing (1.11, A)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec
from msgspec.structs import replace

from proxy.config.problems import Path
from proxy.config.schema import Completions, ModelSettings
from proxy.config.wording import hint, quoted

# Every provider override of a converted block has these.
MODEL_DEFAULTS = ModelSettings(
    capabilities=("autocomplete", "chat"),
    category="balanced",
    status="stable",
    tier="enterprise",
)

_LLAMA = "accounts/fireworks/models/llama-v2-7b"


class _Service(msgspec.Struct, frozen=True):
    """The values for one provider; empty where there is none."""

    endpoint: str = ""
    chat: str = ""
    fast_chat: str = ""
    completion: str = ""
    needs: tuple[str, ...] = ("accessToken",)


_SERVICES: Mapping[str, _Service] = MappingProxyType(
    {
        "sourcegraph": _Service(
            "https://cody-gateway.sourcegraph.com",
            "anthropic/claude-3-sonnet-20240229",
            "anthropic/claude-3-haiku-20240307",
            "fireworks/starcoder",
        ),
        "openai": _Service(
            "https://api.openai.com", "gpt-4", "gpt-3.5-turbo", "gpt-3.5-turbo-instruct"
        ),
        "anthropic": _Service(
            "https://api.anthropic.com/v1/messages",
            "claude-3-sonnet-20240229",
            *("claude-3-haiku-20240307", "claude-3-haiku-20240307"),
        ),
        "azure-openai": _Service(needs=("endpoint", "chatModel", "completionModel")),
        "fireworks": _Service(
            "https://api.fireworks.ai/inference/v1/completions", _LLAMA, _LLAMA, "starcoder"
        ),
        "aws-bedrock": _Service(
            "",
            "anthropic.claude-v2",
            *("anthropic.claude-instant-v1", "anthropic.claude-instant-v1"),
            needs=("endpoint",),
        ),
        "google": _Service(
            "https://generativelanguage.googleapis.com/v1beta/models",
            "gemini-1.5-pro",
            *("gemini-1.5-flash", "gemini-1.5-flash"),
        ),
    }
)
LEGACY_PROVIDERS = tuple(_SERVICES)
_UNKNOWN = _Service(needs=("endpoint", "chatModel", "fastChatModel", "completionModel"))


class Unavailable(ValueError):
    """The block means no models at all; `path` is where that could be mended."""

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(message)
        self.path = path


class Choice(msgspec.Struct, frozen=True):
    """One of the three models of a block: what is chosen, and how the file calls it."""

    key: str  # of the block
    slot: str  # of `defaultModels`
    suffix: str  # of the model's reference, where two models would have the same
    model: str
    max_tokens: int
    alias: str = ""


def filled(block: Completions) -> Completions:
    """The block with its defaults, model names in lower case. Raises Unavailable."""
    if block.enabled is False:
        raise Unavailable(("completions", "enabled"), "completions are switched off")
    provider = block.provider or "sourcegraph"
    service = _SERVICES.get(provider, _UNKNOWN)
    chat_model = block.chat_model or block.model or service.chat
    full = replace(
        block,
        provider=provider,
        endpoint=block.endpoint or service.endpoint,
        chat_model=_lower(chat_model, provider),
        fast_chat_model=_lower(_fast(block, service, chat_model), provider),
        completion_model=_lower(block.completion_model or service.completion, provider),
    )
    _check(full, service)
    return full


def choices_of(block: Completions) -> tuple[Choice, Choice, Choice]:
    """The models of a filled block, in the order in which equal ones share a reference."""
    return (
        Choice(
            *("chatModel", "chat", "_chat", block.chat_model, block.chat_model_max_tokens),
            alias=block.azure_chat_model,
        ),
        Choice(
            *("completionModel", "codeCompletion", "_completion", block.completion_model),
            block.completion_model_max_tokens,
            alias=block.azure_completion_model,
        ),
        Choice(
            *("fastChatModel", "fastChat", "_fast-chat", block.fast_chat_model),
            block.fast_chat_model_max_tokens,
        ),
    )


def _fast(block: Completions, service: _Service, chat_model: str) -> str:
    of_service = chat_model if block.provider == "azure-openai" else service.fast_chat
    return block.fast_chat_model or of_service


def _lower(model: str, provider: str) -> str:
    if provider != "aws-bedrock":
        return model.lower()
    name, slash, arn = model.partition("/")
    return f"{name.lower()}{slash}{arn}"


def _check(block: Completions, service: _Service) -> None:
    given = {
        "accessToken": block.access_token not in (None, msgspec.Raw(b'""')),
        "endpoint": bool(block.endpoint),
        "chatModel": bool(block.chat_model),
        "fastChatModel": bool(block.fast_chat_model),
        "completionModel": bool(block.completion_model),
    }
    missing = [key for key in service.needs if not given[key]]
    if missing:
        keys = " and ".join(map(quoted, missing))
        text = f"no models: provider {quoted(block.provider)} needs {keys}"
        raise Unavailable(("completions",), text)
    for choice in choices_of(block):
        if choice.model.startswith("arn:"):
            text = 'an ARN alone does not say which model it is: write "<model id>/<ARN>"'
            raise Unavailable(("completions", choice.key), text)


def unknown_provider(provider: str) -> str | None:
    """What to say of a provider that no release knew; None for one that some did."""
    if provider in ("", *LEGACY_PROVIDERS):
        return None
    return f"unknown provider {quoted(provider)}; {hint(provider, LEGACY_PROVIDERS)}"
