"""Azure OpenAI: OpenAI's dialect, a path for each deployment, a key of its own or Entra's tokens.

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
from proxy.config.schema import Block, Secret
from proxy.endpoints import LiveState
from proxy.providers.access_tokens import Tokens
from proxy.providers.azure_identity import Fetcher, Identity
from proxy.providers.base import Finding, Provider, ProviderKind, Route, Target
from proxy.providers.identified import Caller, Identified
from proxy.providers.service import ServiceSettings, service_problems, target_at
from proxy.providers.wire import bearer, url_problem

_JWT = "eyJ"  # how a token of Entra's begins, and no key

# The oldest that reports the usage of a stream when it is asked to.
_API_VERSION = "2024-10-21"

# Azure's older versions do not know `max_completion_tokens`; models that reason refuse the other.
_HABITS = Habits(limit="max_tokens")
_REASONING_HABITS = Habits()
_REASONS = re.compile(r"(o[1-9]|gpt-5)\b")


class EntraIdentity(Block, frozen=True):
    """Who asks Entra for access tokens: by a secret, by a cluster's token, or the machine itself.

    What is left out is taken from the variables that Azure's own libraries read: AZURE_TENANT_ID,
    AZURE_CLIENT_ID, AZURE_CLIENT_SECRET, AZURE_FEDERATED_TOKEN_FILE, AZURE_AUTHORITY_HOST.
    """

    tenant_id: Annotated[str, Meta(description="The tenant.")] = ""
    client_id: Annotated[str, Meta(description="The application, or the managed identity.")] = ""
    client_secret: Annotated[Secret | None, Meta(description="Its secret.")] = None
    federated_token_file: Annotated[
        str, Meta(description="A file with a token of the cluster's (workload identity).")
    ] = ""
    authority: Annotated[str, Meta(description="URL of Entra; the public one if not given.")] = ""


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `azureOpenAI`; it has no public URL.

    The key is that of the resource, or a token of Entra's, which is sent as a bearer.
    """

    entra_identity: Annotated[
        EntraIdentity | None, Meta(description="Access tokens of Entra's instead of a key.")
    ] = None

    user: Annotated[str, Meta(description="The user that requests are counted for.")] = ""
    use_deprecated_completions_api: Annotated[
        bool, Meta(description="Completions go to the older route, not to chat as one message.")
    ] = msgspec.field(default=False, name="useDeprecatedCompletionsAPI")
    api_version: Annotated[
        str, Meta(description="Azure's version of its API.", pattern="^[0-9A-Za-z.-]+$")
    ] = _API_VERSION

    @property
    def identity(self) -> Identity | None:
        """Whose access tokens are sent; None where there is no such block."""
        entra = self.entra_identity
        if entra is None:
            return None
        return Identity(
            entra.tenant_id,
            entra.client_id,
            entra.client_secret or None,
            entra.federated_token_file,
            entra.authority,
        )


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


class Azure(Identified):
    """A resource; each of its models is a deployment with routes of its own."""

    def __init__(
        self,
        config: ProviderConfig,
        settings: Settings,
        caller: Caller | None,
        model: ModelConfig | None = None,
    ) -> None:
        self._config = config
        self._settings = settings
        self._model = model
        routes = () if model is None else _routes(model, settings)
        super().__init__(config, (_target(settings),), routes, caller)

    def sharing(self, live: LiveState) -> Provider:
        """The provider with the tokens that an earlier generation has fetched."""
        caller = self._caller
        if caller is None:
            return self
        tokens = live.shared(caller.key, lambda: caller.tokens)
        return Azure(self._config, self._settings, Caller(caller.key, tokens), self._model)

    def for_model(self, model: ModelConfig) -> Provider:
        """The provider with the routes of this deployment."""
        return Azure(self._config, self._settings, self._caller, model)


def _target(settings: Settings) -> Target:
    token = settings.access_token
    headers: tuple[tuple[str, Secret], ...] = (("api-key", token),) if token else ()
    if token and token.reveal().startswith(_JWT):
        headers = bearer(token)
    return structs.replace(target_at(settings.endpoint), headers=headers)


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
    entra = settings.entra_identity
    if entra and entra.authority and (problem := url_problem(entra.authority)) is not None:
        yield Finding(("entraIdentity", "authority"), problem)
    if settings.entra_identity is not None and settings.access_token:
        text = "not used, since there is an accessToken"
        yield Finding(("entraIdentity",), text, is_warning=True)
    elif settings.entra_identity is None and not settings.access_token:
        yield Finding(
            (), "with neither accessToken nor entraIdentity no key is sent", is_warning=True
        )


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    identity = None if settings.access_token else settings.identity
    caller = None
    if identity is not None:
        caller = Caller(identity.key, Tokens(Fetcher(identity), "entra"))
    return Azure(config, settings, caller)


AZURE_OPENAI = ProviderKind(Settings, check, build)
