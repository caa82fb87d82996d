"""What is wrong, or odd, with one provider's or one model's settings; in the words of spec 1.10."""

from __future__ import annotations

from proxy.config.decoder import items_of
from proxy.config.modelref import is_resource_id
from proxy.config.problems import Path, Problems
from proxy.config.schema import (
    MAX_DISPLAY_NAME_BYTES,
    ContextWindow,
    ModelOverride,
    ModelSettings,
    ProviderOverride,
)
from proxy.config.wording import hint, quoted

TIER = "enterprise"

# The values of all releases (spec 1.6). Newer ones are let through, with a warning.
_CAPABILITIES = (
    *("autocomplete", "chat", "edit", "vision", "reasoning", "tools"),
    *("fallback", "unlimited"),
)
_CATEGORIES = ("accuracy", "balanced", "speed", "other", "deprecated")
_EFFORTS = ("low", "medium", "high")


def check_provider(override: ProviderOverride, path: Path, problems: Problems) -> None:
    """A provider: its id, its display name, what it says of its models."""
    name = quoted(override.id)
    if not is_resource_id(override.id):
        problems.add((*path, "id"), f"provider overrides: invalid provider ID {name}")
    _check_display_name(override.display_name, f"validating provider {name}", path, problems)
    if override.default_model_config is not None:
        what = f"applying provider default model config ({name})"
        place = (*path, "defaultModelConfig")
        _check_settings(override.default_model_config, what, place, problems)


def check_model(override: ModelOverride, path: Path, problems: Problems) -> None:
    """A model: its display name and its settings; not its reference."""
    what = f"validating model {quoted(override.model_ref)}"
    _check_display_name(override.display_name, what, path, problems)
    _check_settings(override, what, path, problems)


def check_window(window: ContextWindow, what: str, path: Path, problems: Problems) -> None:
    """A context window: no limit is zero or less."""
    for tokens, key, name in (
        (window.max_input_tokens, "maxInputTokens", "max input tokens"),
        (window.max_output_tokens, "maxOutputTokens", "max output tokens"),
        (window.max_user_input_tokens, "maxUserInputTokens", "max user input tokens"),
    ):
        if tokens is not None and tokens <= 0:
            problems.add((*path, "contextWindow", key), f"{what}: invalid {name}")


def _check_display_name(name: str, what: str, path: Path, problems: Problems) -> None:
    length = len(name.encode())
    if length > MAX_DISPLAY_NAME_BYTES:
        problems.add((*path, "displayName"), f"{what}: display name length: {length}")


def _check_settings(settings: ModelSettings, what: str, path: Path, problems: Problems) -> None:
    check_window(settings.context_window, what, path, problems)
    for place, word in items_of(settings.capabilities, (*path, "capabilities")):
        if word not in _CAPABILITIES:
            problems.warn(place, f"unknown capability {quoted(word)}; {hint(word, _CAPABILITIES)}")
    category = settings.category
    if category and category not in _CATEGORIES:
        text = f"unknown category {quoted(category)}; {hint(category, _CATEGORIES)}"
        problems.warn((*path, "category"), text)
    effort = settings.reasoning_effort
    if effort and effort not in _EFFORTS:
        text = f"unknown reasoning effort {quoted(effort)}; {hint(effort, _EFFORTS)}"
        problems.warn((*path, "reasoningEffort"), text)
    if settings.tier not in ("", TIER):
        problems.warn((*path, "tier"), f'ignored: every model is of the tier "{TIER}"')
