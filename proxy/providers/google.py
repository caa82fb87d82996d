"""Google: the Gemini API with a key of its own, and Vertex with a token, also for Claude.

upstreams.md 7 and 9, sourcegraph.md 4.6. The model is part of the path. On Vertex the path names a
publisher as well: Google's own models speak Gemini, Anthropic's speak Messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import quote

import msgspec
from msgspec import Meta

from parsers.chat import GENERATION, Operation
from parsers.dialects.anthropic import AnthropicMessages
from parsers.dialects.anthropic.token_count import AnthropicTokenCount
from parsers.dialects.base import Members
from parsers.dialects.gemini import GEMINI
from proxy.config.modelconfig import ModelConfig, ProviderConfig
from proxy.config.schema import Block, Secret
from proxy.endpoints import Endpoint, LiveState
from proxy.origin import parse_origin
from proxy.providers.access_tokens import Tokens
from proxy.providers.base import (
    Finding,
    Provider,
    ProviderKind,
    Route,
    Target,
)
from proxy.providers.google_identity import Fetcher, Identity, can_fetch, json_of, problem_of
from proxy.providers.identified import Caller, Identified
from proxy.providers.service import ServiceSettings
from proxy.providers.wire import split_query, token_problem, url_problem

_PUBLIC = "https://generativelanguage.googleapis.com/v1beta/models"
_PUBLIC_MODELS = "/v1beta/models"

_VERTEX = re.compile(r"/projects/[^/]+/locations/[^/]+")
_LOCATION = re.compile(r"/locations/[^/]+\Z")
_WITHOUT_MODELS = re.compile(r"(/v[0-9]+[a-z0-9]*|/publishers/[^/]+)\Z")

_VERSION = msgspec.Raw(b'"vertex-2023-10-16"')
_CONFIG = ("googleWorkloadIdentityConfig",)
_CLIENT_HEADERS = ("anthropic-beta",)  # the version stands in the body


class WorkloadIdentity(Block, frozen=True):
    """Credentials for Vertex; the ambient ones if neither is given."""

    credentials_file: Annotated[str, Meta(description="Path of the credentials.")] = ""
    credentials_json: Annotated[
        Secret | None, Meta(description="The credentials themselves, in base64.")
    ] = msgspec.field(default=None, name="credentialsJSON")

    def __post_init__(self) -> None:
        if self.credentials_file and self.credentials_json:
            raise ValueError('"credentialsFile" and "credentialsJSON" exclude each other')


class Settings(ServiceSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `google`.

    The key is an API key, or a service account in base64. The URL ends in `/models`, or for Vertex
    in the location: then models named "claude…" are Anthropic's.
    """

    google_workload_identity_config: Annotated[
        WorkloadIdentity | None, Meta(description="Credentials for Vertex.")
    ] = None

    @property
    def is_vertex(self) -> bool:
        """Whether it is called there, and not on the Gemini API."""
        return _VERTEX.search(self.endpoint) is not None

    @property
    def api_key(self) -> Secret | None:
        """The key to be sent as it is, if it is one."""
        token = self.access_token
        return token if token and json_of(token.reveal()) is None else None

    @property
    def identity(self) -> Identity | None:
        """Whose access tokens are sent; None where a key is, or nothing."""
        token, config = self.access_token, self.google_workload_identity_config
        if token:
            text = json_of(token.reveal())
            return None if text is None else Identity(json=Secret(text))
        if config is None:
            return Identity() if self.is_vertex else None
        if config.credentials_json is not None:
            text = config.credentials_json.reveal()
            return Identity(json=Secret(json_of(text) or text))
        return Identity(file=config.credentials_file)


class Google(Identified):
    """An address of Google's; each of its models has routes of its own."""

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
        target = _target(settings)
        routes = () if model is None else _routes(model, target.endpoint.base_path)
        super().__init__(config, (target,), routes, caller)

    def sharing(self, live: LiveState) -> Provider:
        """The provider with the tokens that an earlier generation has fetched."""
        caller = self._caller
        if caller is None:
            return self
        tokens = live.shared(caller.key, lambda: caller.tokens)
        return Google(self._config, self._settings, Caller(caller.key, tokens), self._model)

    def for_model(self, model: ModelConfig) -> Provider:
        """The provider with the routes of this model."""
        return Google(self._config, self._settings, self._caller, model)

    def secrets_for(self, endpoint: Endpoint) -> tuple[str, ...]:
        """The key or the tokens, and a secret name as it stands in the path."""
        secrets = super().secrets_for(endpoint)
        if self._model is not None and self._model.has_secret_name:
            secrets += (_segment(self._model),)
        return secrets

    @property
    def paths(self) -> list[str]:
        """The paths that are called, without the model's name where that is a secret."""
        if self._model is None or not self._model.has_secret_name:
            return super().paths
        return [path.replace(_segment(self._model), "***") for path in super().paths]


class _Claude(AnthropicMessages):
    """Messages as Vertex reads them: the path names the model, the body the version.

    `stream` stays in the body, as in Google's own examples and in Anthropic's SDK.
    """

    def amend(self, members: Members) -> None:
        """Name the version, and not the model."""
        members.pop("model", None)
        members["anthropic_version"] = _VERSION


class _ClaudeCount(AnthropicTokenCount):
    """The same for `count_tokens`, on a path that all models share: the body names the model."""

    def amend(self, members: Members) -> None:
        """Name the version."""
        members["anthropic_version"] = _VERSION


_CLAUDE, _CLAUDE_COUNT = _Claude(), _ClaudeCount()


def _target(settings: Settings) -> Target:
    url, query = split_query(settings.endpoint or _PUBLIC)
    origin = parse_origin(url)
    path = origin.path or _PUBLIC_MODELS
    if _WITHOUT_MODELS.search(path):
        path += "/models"
    key = settings.api_key
    return Target(
        Endpoint(name=origin.authority, url=url, base_path=path),
        # in a header, for a query ends up in logs (B-43)
        headers=(("x-goog-api-key", key),) if key is not None else (),
        query=Secret(query) if query else None,
    )


def _routes(model: ModelConfig, base_path: str) -> tuple[Route, ...]:
    at_location = _LOCATION.search(base_path) is not None
    name = _segment(model)
    is_claude = "anthropic" in base_path or (at_location and name.startswith("claude"))
    publisher = "anthropic" if is_claude else "google"
    models = f"/publishers/{publisher}/models" if at_location else ""
    if is_claude:
        return _claude_routes(models, name)
    path = f"{models}/{name}"
    whole, streamed = f"{path}:generateContent", f"{path}:streamGenerateContent?alt=sse"
    return tuple(Route(GEMINI, whole, streamed, operation) for operation in GENERATION)


def _claude_routes(models: str, name: str) -> tuple[Route, ...]:
    whole, streamed = f"{models}/{name}:rawPredict", f"{models}/{name}:streamRawPredict"
    count = f"{models}/count-tokens:rawPredict"
    return (
        *(
            Route(
                *(_CLAUDE, whole, streamed, operation),
                needs_limit=True,
                client_headers=_CLIENT_HEADERS,
            )
            for operation in GENERATION
        ),
        Route(_CLAUDE_COUNT, count, count, Operation.CHAT, client_headers=_CLIENT_HEADERS),
    )


def _segment(model: ModelConfig) -> str:
    """The model in the path; Claude's names have an "@", and Google's lists say "models/…"."""
    return quote(model.upstream_name.removeprefix("models/"), safe="@")


def check(settings: Settings) -> Iterator[Finding]:
    """A bad URL, a bad key, no key, credentials of another form or without the extra."""
    if settings.endpoint and (problem := url_problem(settings.endpoint)) is not None:
        yield Finding(("endpoint",), problem)
    if (problem := token_problem(settings.api_key)) is not None:
        yield Finding(("accessToken",), problem)
    yield from _identity_problems(settings)


def _identity_problems(settings: Settings) -> Iterator[Finding]:
    config, identity = settings.google_workload_identity_config, settings.identity
    place = ("accessToken",) if settings.access_token else _CONFIG if config else ()
    if config is not None and settings.access_token:
        yield Finding(_CONFIG, "not used, since there is an accessToken", is_warning=True)
    if identity is None:
        if not settings.access_token:
            yield Finding((), "without an accessToken no key is sent", is_warning=True)
        return
    if (problem := problem_of(identity)) is not None:
        # a file may yet come, and is read when the first token is fetched
        yield Finding(place, problem, is_warning=identity.json is None)
    if not can_fetch():
        yield Finding(place, "access tokens need a library: pip install 'penstock[google]'")


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    identity = settings.identity
    caller = None if identity is None else Caller(identity.key, Tokens(Fetcher(identity), "google"))
    return Google(config, settings, caller)


GOOGLE = ProviderKind(Settings, check, build)
