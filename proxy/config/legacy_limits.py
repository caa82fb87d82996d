"""How many tokens a prompt may have where a `completions` block does not say: by name (1.11)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

# Of every model that no rule here names.
_OTHER = 9000

_ANTHROPIC = frozenset(
    {
        *("claude-2", "claude-2.0", "claude-2.1", "claude-v2"),
        *("claude-3-opus-20240229", "claude-3-sonnet-20240229", "claude-3-haiku-20240307"),
        "claude-3-5-sonnet-20240620",
    }
)
_OPENAI: Mapping[str, int] = MappingProxyType(
    {
        "gpt-4": 7000,
        "gpt-4-32k": 32_000,
        "gpt-3.5-turbo-instruct": 4000,
        "gpt-3.5-turbo": 16_000,
        "gpt-3.5-turbo-16k": 16_000,
        "gpt-4-turbo": 16_000,
        "gpt-4-turbo-preview": 16_000,
        "gpt-4o": 16_000,
    }
)
_STARCODER = ("starcoder", "accounts/fireworks/models/starcoder-")
_LLAMA = "accounts/fireworks/models/llama-v2"


def max_input_tokens(provider: str, model: str) -> int:
    """The limit for a model of a `completions` provider, by its lower-case name."""
    rule = _RULES.get(provider)
    return _OTHER if rule is None else rule(model)


def _openai(model: str) -> int:
    return _OPENAI.get(model, 4000)


def _anthropic(model: str) -> int:
    if model.endswith("-100k"):
        return 100_000
    return 12_000 if model in _ANTHROPIC else _OTHER


def _fireworks(model: str) -> int:
    if model.startswith(_LLAMA):
        return 3000
    return 6000 if model.startswith(_STARCODER) else 4000


def _gateway(model: str) -> int:
    vendor, _, name = model.partition("/")
    match vendor:
        case "openai":
            return _openai(name)
        case "anthropic":
            return _anthropic(name)
        case _:
            return _OTHER


def _azure(_: str) -> int:
    return 7000  # a deployment's name says nothing


def _bedrock(model: str) -> int:
    return _anthropic(model.partition("/")[0].removeprefix("anthropic."))


_RULES: Mapping[str, Callable[[str], int]] = MappingProxyType(
    {
        "anthropic": _anthropic,
        "aws-bedrock": _bedrock,
        "azure-openai": _azure,
        "fireworks": _fireworks,
        "openai": _openai,
        "sourcegraph": _gateway,
    }
)
