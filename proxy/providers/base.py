"""What a provider is: where its routes are, in which dialects, and how a call is addressed.

A provider never opens a connection. It says what to send, `proxy.upstream` sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from parsers.chat import Operation
from parsers.dialects.base import ClientDialect, UpstreamDialect
from proxy import __version__
from proxy.config.modelconfig import ModelConfig, ProviderConfig
from proxy.config.schema import Secret
from proxy.endpoints import Endpoint, LiveState

_SECRET_CHARS = 8  # shorter header values are words like "json"


class Finding(msgspec.Struct, frozen=True):
    """What is wrong with a provider's settings, or only doubtful, and where in them."""

    place: tuple[str | int, ...]
    message: str
    is_warning: bool = False


class Route(msgspec.Struct, frozen=True):
    """A way to call a provider: a dialect, and the paths where it is spoken."""

    dialect: UpstreamDialect
    path: str
    stream_path: str
    operation: Operation
    stream_type: str = "text/event-stream"  # what a streamed answer is asked for as
    needs_limit: bool = False  # a request must say how long its answer may be
    client_headers: tuple[str, ...] = ()  # passed on from clients of the same dialect


class Target(msgspec.Struct, frozen=True):
    """An endpoint, and what every call to it carries besides."""

    endpoint: Endpoint
    headers: tuple[tuple[str, Secret], ...] = ()
    query: Secret | None = None  # without its "?"


class Checks(msgspec.Struct, frozen=True):
    """What a self-hosted server tells of itself, on paths beside its `/v1`."""

    health: str
    limits: str  # a JSON object there, if it has the path, tells…
    limit: str  # …under this key how many requests it takes at once


class UpstreamCall(msgspec.Struct, frozen=True, gc=False):
    """What is to be sent, before anyone knows where to."""

    route: Route
    body: bytes
    stream: bool
    request_id: str
    headers: bytes = b""  # of the client's, as lines


class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    """What is to be sent, as bytes: request line and headers with their blank line, and body."""

    head: bytes
    body: bytes


class Provider:
    """A configured service. Immutable; shared by all requests of its generation."""

    def __init__(
        self,
        config: ProviderConfig,
        targets: Sequence[Target],
        routes: Sequence[Route],
        *,
        asks_usage: bool = True,
        verbose: bool = False,
        checks: Checks | None = None,
    ) -> None:
        self.id = config.id
        self.display_name = config.display_name
        self.kind = config.kind
        self.endpoints = tuple(target.endpoint for target in targets)
        self.asks_usage = asks_usage
        self.checks = checks  # None: it is asked nothing but what clients ask
        self.verbose = verbose  # its requests and answers are to be shown, redacted
        self._exact = {route.dialect.name: route for route in routes}
        self._default = {route.operation: route for route in reversed(routes)}
        self._targets = {target.endpoint.url: target for target in targets}
        self._secrets = {target.endpoint.url: secrets_of(target) for target in targets}
        self._heads = {
            (target.endpoint.url, path, stream): request_head(target, path, accept=accept)
            for target in targets
            for route in routes
            for path, stream, accept in (
                (route.path, False, "application/json"),
                (route.stream_path, True, route.stream_type),
            )
        }

    def sharing(self, live: LiveState) -> Provider:
        """The provider with what outlives a generation: itself, unless it has such a thing."""
        del live
        return self

    def for_model(self, model: ModelConfig) -> Provider:
        """The provider as this model is to be called: itself, unless paths differ by model."""
        del model
        return self

    def route_for(self, client: ClientDialect) -> Route | None:
        """The route in the client's own dialect, else the first for its operation.

        None where the provider does no such work.
        """
        return self._exact.get(client.name) or self._default.get(client.operation)

    def secrets_for(self, endpoint: Endpoint) -> tuple[str, ...]:
        """What calls to this endpoint carry, as far as is known; error texts must not quote it."""
        return self._secrets[endpoint.url]

    def check_head(self, endpoint: Endpoint, path: str) -> bytes:
        """A whole GET of a path beside `/v1`, with the keys that every call carries."""
        target = self._targets[endpoint.url]
        beside = endpoint.base_path.removesuffix("/v1")
        lines = [
            f"GET {beside}{path} HTTP/1.1",
            f"host: {endpoint.authority or endpoint.name}",
            "accept-encoding: identity",
            f"user-agent: penstock/{__version__}",
            *(f"{name}: {value.reveal()}" for name, value in target.headers),
        ]
        return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()

    @property
    def paths(self) -> list[str]:
        """The paths that are called, below the endpoints' own."""
        return sorted({path for _, path, _ in self._heads})

    @property
    def heads(self) -> frozenset[bytes]:
        """What calls begin with, keys included: to be compared, never to be shown."""
        return frozenset(self._heads.values())

    async def prepare(self, call: UpstreamCall, endpoint: Endpoint) -> UpstreamRequest:
        """The call as bytes for this endpoint; a provider that signs its calls overrides it."""
        path = call.route.stream_path if call.stream else call.route.path
        head = b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            self._heads[endpoint.url, path, call.stream],
            call.headers,
            call.request_id.encode(),
            len(call.body),
        )
        return UpstreamRequest(head, call.body)


class ProviderKind(msgspec.Struct, frozen=True):
    """A line of the PROVIDERS table: how the file's settings become a provider."""

    settings: type[Any]  # each provider's own struct: only its file knows the fields
    check: Callable[[Any], Iterable[Finding]]
    build: Callable[[ProviderConfig, Any], Provider]
    # What is wrong with the id of a provider of these settings, where one is as good as another.
    check_id: Callable[[Any, str], Iterable[Finding]] = lambda settings, id_: ()  # noqa: ARG005


def secrets_of(target: Target) -> tuple[str, ...]:
    """Header values without their scheme, the query's values, and the path of the address.

    Short ones could be any word.
    """
    words = [value.reveal().rpartition(" ")[2] for _, value in target.headers]
    words.append(target.endpoint.base_path)  # "Cannot POST /…", say servers made with Express
    if target.query is not None:
        query = target.query.reveal()
        words += [value for _, value in parse_qsl(query)]
        words += [part.partition("=")[2] for part in query.split("&")]  # as it is sent
    return tuple(word for word in words if len(word) >= _SECRET_CHARS)


def request_head(target: Target, path: str, *, accept: str) -> bytes:
    """Request line and headers of a JSON POST, without length, id and blank line."""
    endpoint = target.endpoint
    query = "" if target.query is None else f"{'&' if '?' in path else '?'}{target.query.reveal()}"
    lines = [
        f"POST {endpoint.base_path}{path}{query} HTTP/1.1",
        f"host: {endpoint.authority or endpoint.name}",
        "content-type: application/json",
        f"accept: {accept}",
        "accept-encoding: identity",
        f"user-agent: penstock/{__version__}",
        *(f"{name}: {value.reveal()}" for name, value in target.headers),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()
