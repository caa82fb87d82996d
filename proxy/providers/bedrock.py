"""AWS Bedrock: Converse for every model, on a path of the model's own, each request signed.

upstreams.md 8, sourcegraph.md 4.4. Keys come from the configuration or from where penstock runs;
a key of Bedrock's own is sent as it is. The model is part of the path, as one segment: AWS takes
an ARN only if its slashes are encoded too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Literal
from urllib.parse import quote

from msgspec import Meta, structs

from parsers.chat import GENERATION
from parsers.dialects.base import UpstreamDialect
from parsers.dialects.bedrock import Converse, InvokeAnthropic
from proxy.config.modelconfig import ModelConfig, ProviderConfig
from proxy.config.schema import BedrockModel, Block, Secret
from proxy.endpoints import Endpoint, LiveState
from proxy.providers.aws_credentials import AmbientKeys, Credentials, GivenKeys, can_look_up
from proxy.providers.base import (
    Finding,
    Provider,
    ProviderKind,
    Route,
    Target,
    UpstreamCall,
    UpstreamRequest,
)
from proxy.providers.service import target_at
from proxy.providers.sigv4 import Keys, Signer
from proxy.providers.wire import bearer, token_problem, url_problem

EVENT_STREAM = "application/vnd.amazon.eventstream"

# What AWS wants to be signed; nothing that a proxy on the way might change.
_SIGNED = ("content-type", "host")

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")
# Keys of Bedrock's own, for long and for short; they are sent as bearers.
_API_KEY = re.compile(r"(ABSK|bedrock-api-key-)[^:]+")
_ANTHROPIC = re.compile(r"\b(anthropic|claude)\b", re.IGNORECASE)


class Settings(Block, frozen=True, kw_only=True):
    """`serverSideConfig` of type `awsBedrock`."""

    access_token: Annotated[
        Secret | None,
        Meta(
            description='"KEY:SECRET", "KEY:SECRET:SESSION" or a Bedrock API key; the ambient'
            " credentials if not given."
        ),
    ] = None
    endpoint: Annotated[
        str, Meta(description="A region, or the URL of an endpoint of one's own.")
    ] = ""
    region: Annotated[str, Meta(description="The region, where the endpoint does not say it.")] = ""
    model_family: Annotated[
        Literal["auto", "anthropic", "other"],
        Meta(
            description='"auto": a model is Anthropic\'s if its name says so. An ARN need not say'
            ' it: "anthropic" lets its models be asked to think and for `top_k`.'
        ),
    ] = "auto"
    api: Annotated[
        Literal["converse", "invoke"],
        Meta(
            description='"converse": AWS\'s one API for all models; "invoke": InvokeModel for'
            " models of Anthropic's, with their own requests and answers in it."
        ),
    ] = "converse"

    @property
    def of_region(self) -> str:
        """The region: as given, else the endpoint if it is one, else the one in its host."""
        if self.region or _REGION.fullmatch(self.endpoint):
            return self.region or self.endpoint
        found = _REGION.search(self.endpoint)
        return found[0] if found else ""

    @property
    def url(self) -> str:
        """Where it is called."""
        if self.endpoint and not _REGION.fullmatch(self.endpoint):
            return self.endpoint
        domain = "amazonaws.com.cn" if self.of_region.startswith("cn-") else "amazonaws.com"
        return f"https://bedrock-runtime.{self.of_region}.{domain}"

    @property
    def api_key(self) -> Secret | None:
        """The key to be sent as a bearer, if it is one."""
        token = self.access_token
        return token if token and _API_KEY.fullmatch(token.reveal()) else None

    @property
    def keys(self) -> Keys | None:
        """The keys to sign with, if they are given."""
        parts = self.access_token.reveal().split(":") if self.access_token else []
        if len(parts) not in (2, 3):
            return None
        key_id, secret, *session = parts
        return Keys(key_id, Secret(secret), Secret(session[0]) if session else None)


class Bedrock(Provider):
    """A region; each of its models has routes of its own."""

    def __init__(
        self,
        config: ProviderConfig,
        settings: Settings,
        credentials: Credentials | None,
        model: ModelConfig | None = None,
    ) -> None:
        self._config = config
        self._settings = settings
        self._credentials = credentials  # None: the key goes with each request as it is
        self._model = model
        self._signer = Signer(settings.of_region, "bedrock")
        self._target = _target(settings)
        super().__init__(config, (self._target,), () if model is None else _routes(model, settings))

    def sharing(self, live: LiveState) -> Provider:
        """The provider with the credentials that an earlier generation has looked up."""
        if not isinstance(self._credentials, AmbientKeys):
            return self
        region = self._settings.of_region
        shared = live.shared(("aws", region), lambda: AmbientKeys(region))
        return Bedrock(self._config, self._settings, shared, self._model)

    def for_model(self, model: ModelConfig) -> Provider:
        """The provider with the routes of this model."""
        return Bedrock(self._config, self._settings, self._credentials, model)

    def secrets_for(self, endpoint: Endpoint) -> tuple[str, ...]:
        """The keys, and a secret name as it stands in the path."""
        secrets = super().secrets_for(endpoint)
        if self._credentials is not None:
            secrets += self._credentials.secrets
        if self._model is not None and self._model.has_secret_name:
            secrets += (_segment(self._model),)
        return secrets

    @property
    def paths(self) -> list[str]:
        """The paths that are called, without the model's name where that is a secret."""
        if self._model is None or not self._model.has_secret_name:
            return super().paths
        return [path.replace(_segment(self._model), "***") for path in super().paths]

    @property
    def heads(self) -> frozenset[bytes]:
        """What calls begin with, and the keys that they are signed with."""
        keys = self._settings.keys
        signed = () if keys is None else keys.secrets
        return super().heads | {secret.encode() for secret in signed}

    async def prepare(self, call: UpstreamCall, endpoint: Endpoint) -> UpstreamRequest:
        """The call as bytes for this endpoint, signed. Raises RequestFailed without keys."""
        request = await super().prepare(call, endpoint)
        if self._credentials is None:
            return request
        keys = await self._credentials.keys()
        path, headers = _sent(request.head)
        added = self._signer.sign(keys, path, headers, request.body, datetime.now(UTC))
        lines = "".join(f"{name}: {value}\r\n" for name, value in added.items())
        return UpstreamRequest(request.head[:-2] + lines.encode() + b"\r\n", request.body)


def _target(settings: Settings) -> Target:
    key = settings.api_key
    return structs.replace(target_at(settings.url), headers=bearer(key))


def _sent(head: bytes) -> tuple[str, dict[str, str]]:
    """The path and the headers to be signed, out of the very bytes that are sent."""
    line, *fields = head.decode().split("\r\n")
    named = (field.partition(": ") for field in fields)
    return line.split(" ")[1], {name: value for name, _, value in named if name in _SIGNED}


def _routes(model: ModelConfig, settings: Settings) -> tuple[Route, ...]:
    path = f"/model/{_segment(model)}"
    name = _name_at_anthropic(model, settings)
    dialect: UpstreamDialect
    if settings.api == "invoke" and name is not None:
        dialect = InvokeAnthropic(name)
        paths = (f"{path}/invoke", f"{path}/invoke-with-response-stream")
    else:
        dialect = Converse(name, _latency(model))
        paths = (f"{path}/converse", f"{path}/converse-stream")
    needs_limit = isinstance(dialect, InvokeAnthropic)
    return tuple(
        Route(dialect, *paths, operation, stream_type=EVENT_STREAM, needs_limit=needs_limit)
        for operation in GENERATION
    )


def _latency(model: ModelConfig) -> str | None:
    server = model.settings.server_side_config
    return server.latency_optimization if isinstance(server, BedrockModel) else None


def _segment(model: ModelConfig) -> str:
    return quote(model.upstream_name, safe="")


def _name_at_anthropic(model: ModelConfig, settings: Settings) -> str | None:
    """All that is known of the name of a model of Anthropic's; None for a model of others."""
    names = " ".join((model.ref.model, model.settings.model_name, model.upstream_name))
    if settings.model_family == "auto":
        return names if _ANTHROPIC.search(names) else None
    return names if settings.model_family == "anthropic" else None


def check(settings: Settings) -> Iterator[Finding]:
    """No region, a bad URL, a key of another form, ambient credentials without the extra."""
    if not (settings.endpoint or settings.region):
        yield Finding((), '"endpoint" or "region" is missing: one of them says the region')
    elif (problem := url_problem(settings.url)) is not None:
        place = "endpoint" if settings.endpoint else "region"
        yield Finding((place,), f"neither a region nor a URL: {problem}")
    elif not settings.of_region:
        yield Finding(("endpoint",), 'no region in the URL: give it in "region"')
    elif _REGION.fullmatch(settings.of_region) is None:
        yield Finding(("region",), "this is not the name of a region")
    yield from _token_problems(settings)


def _token_problems(settings: Settings) -> Iterator[Finding]:
    token = settings.access_token
    if (problem := token_problem(token)) is not None:
        yield Finding(("accessToken",), problem)
    if settings.keys is not None or settings.api_key is not None:
        return
    if token:
        text = 'ignored: neither "KEY:SECRET", "KEY:SECRET:SESSION" nor a Bedrock API key'
        yield Finding(("accessToken",), text, is_warning=True)
    if not can_look_up():
        text = "the ambient AWS credentials need a library: pip install 'penstock[bedrock]'"
        yield Finding(("accessToken",) if token else (), text)


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    return Bedrock(config, settings, _credentials(settings))


def _credentials(settings: Settings) -> Credentials | None:
    if settings.api_key is not None:
        return None
    keys = settings.keys
    return AmbientKeys(settings.of_region) if keys is None else GivenKeys(keys)


AWS_BEDROCK = ProviderKind(Settings, check, build)
