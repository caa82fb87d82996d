"""Azure OpenAI: OpenAI's dialect on a path for each deployment, with a key of its own.

upstreams.md 6, sourcegraph.md 4.3. The name of a model upstream is that of its deployment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta, structs

from parsers.chat import Operation
from parsers.dialects.base import Members
from parsers.dialects.completions import OpenAICompletions
from parsers.dialects.openai import OpenAIChat
from parsers.dialects.openai.request_writer import Habits
from parsers.dialects.passthrough import EMBEDDINGS
from parsers.dialects.prompt_chat import PromptChat
from proxy.config.modelconfig import ModelConfig, ProviderConfig
from proxy.providers.base import Finding, Provider, ProviderKind, Route, Target
from proxy.providers.service import ServiceSettings, service_problems, target_at

# The oldest that reports the usage of a stream when it is asked to.
_API_VERSION = "2024-10-21"

# Azure's older versions do not know `max_completion_tokens`; models that reason refuse the other.
_HABITS = Habits(limit="max_tokens")
_REASONING_HABITS = Habits()
_REASONS = re.compile(r"(o[1-9]|gpt-5)\b")


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `azureOpenAI`; it has no public URL."""

    user: Annotated[str, Meta(description="The user that requests are counted for.")] = ""
    use_deprecated_completions_api: Annotated[
        bool, Meta(description="Completions go to the older route, not to chat as one message.")
    ] = msgspec.field(default=False, name="useDeprecatedCompletionsAPI")
    api_version: Annotated[
        str, Meta(description="Azure's version of its API.", pattern="^[0-9A-Za-z.-]+$")
    ] = _API_VERSION


class _ForUser:
    """Names the configured user where a request names none."""

    habits: Habits

    def __init__(self, user: str, habits: Habits = _HABITS) -> None:
        self.habits = habits
        self._user = msgspec.Raw(msgspec.json.encode(user)) if user else None

    def amend(self, members: Members) -> None:
        """Rewrite what Azure reads differently: nothing but the user."""
        if self._user is not None:
            members.setdefault("user", self._user)


class _Chat(_ForUser, OpenAIChat):
    pass


class _PromptChat(_ForUser, PromptChat):
    pass


class _Completions(_ForUser, OpenAICompletions):
    pass


class Azure(Provider):
    """A resource; each of its models is a deployment with routes of its own."""

    def __init__(self, config: ProviderConfig, target: Target, settings: Settings) -> None:
        super().__init__(config, (target,), ())
        self._config = config
        self._target = target
        self._settings = settings

    def for_model(self, model: ModelConfig) -> Provider:
        """The provider with the routes of this deployment."""
        return Provider(self._config, (self._target,), _routes(model, self._settings))


def _routes(model: ModelConfig, settings: Settings) -> tuple[Route, ...]:
    base = f"/openai/deployments/{quote(model.upstream_name, safe='')}"
    version = f"?api-version={settings.api_version}"
    chat, completions = f"{base}/chat/completions{version}", f"{base}/completions{version}"
    embeddings = f"{base}/embeddings{version}"
    user, habits = settings.user, _REASONING_HABITS if reasons(model) else _HABITS
    older = Route(_Completions(user), completions, completions, Operation.COMPLETION)
    newer = Route(_PromptChat(user, habits), chat, chat, Operation.COMPLETION)
    return (
        Route(_Chat(user, habits), chat, chat, Operation.CHAT),
        older if settings.use_deprecated_completions_api else newer,
        Route(EMBEDDINGS, embeddings, embeddings, Operation.EMBEDDING),
    )


def reasons(model: ModelConfig) -> bool:
    """Whether the model reasons: its file says so, or its name does; a deployment's says nothing.

    Put "reasoning" among the capabilities of one that hides behind another name.
    """
    settings = model.settings
    names = (model.ref.model, settings.display_name)
    return (
        bool(settings.reasoning_effort)
        or "reasoning" in settings.capabilities
        or any(_REASONS.match(name) for name in names)
    )


def check(settings: Settings) -> Iterator[Finding]:
    """No URL, a bad one, a key that breaks a header, no key at all."""
    if not settings.endpoint:
        yield Finding((), '"endpoint" is missing: the URL of the Azure resource')
    yield from service_problems(settings)
    if not settings.access_token:
        text = "without an accessToken no key is sent: this version cannot use Azure identities"
        yield Finding((), text, is_warning=True)


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    token = settings.access_token
    target = structs.replace(
        target_at(settings.endpoint), headers=(("api-key", token),) if token else ()
    )
    return Azure(config, target, settings)


AZURE_OPENAI = ProviderKind(Settings, check, build)
