"""What a provider is: where its routes are, in which dialects, and how a call is addressed.

A provider never opens a connection. It says what to send, `proxy.upstream` sends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import msgspec

from parsers.chat import Operation
from parsers.dialects.base import ClientDialect, UpstreamDialect
from proxy import __version__
from proxy.config.modelconfig import ProviderConfig
from proxy.endpoints import Endpoint

# A place inside a provider's settings, and what is wrong there.
SettingsProblem: TypeAlias = tuple[tuple[str | int, ...], str]


class Route(msgspec.Struct, frozen=True):
    """A way to call a provider: a dialect, and the paths where it is spoken."""

    dialect: UpstreamDialect
    path: str
    stream_path: str
    operation: Operation


class UpstreamCall(msgspec.Struct, frozen=True, gc=False):
    """What is to be sent, before anyone knows where to."""

    route: Route
    body: bytes
    stream: bool
    request_id: str


class UpstreamRequest(msgspec.Struct, frozen=True, gc=False):
    """What is to be sent, as bytes: request line and headers with their blank line, and body."""

    head: bytes
    body: bytes


class Provider:
    """A configured service. Immutable; shared by all requests of its generation."""

    def __init__(
        self,
        config: ProviderConfig,
        endpoints: Sequence[Endpoint],
        routes: Sequence[Route],
        *,
        asks_usage: bool = True,
    ) -> None:
        self.id = config.id
        self.display_name = config.display_name
        self.kind = config.kind
        self.endpoints = tuple(endpoints)
        self.asks_usage = asks_usage
        self._exact = {route.dialect.name: route for route in routes}
        self._default = {route.operation: route for route in reversed(routes)}
        self._heads = {
            (endpoint.url, path, stream): request_head(endpoint, path, stream=stream)
            for endpoint in endpoints
            for route in routes
            for path, stream in ((route.path, False), (route.stream_path, True))
        }

    def route_for(self, client: ClientDialect) -> Route | None:
        """The route in the client's own dialect, else the first for its operation.

        None where the provider does no such work.
        """
        return self._exact.get(client.name) or self._default.get(client.operation)

    async def prepare(self, call: UpstreamCall, endpoint: Endpoint) -> UpstreamRequest:
        """The call as bytes for this endpoint; a provider that signs its calls overrides it."""
        path = call.route.stream_path if call.stream else call.route.path
        head = b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n" % (
            self._heads[endpoint.url, path, call.stream],
            call.request_id.encode(),
            len(call.body),
        )
        return UpstreamRequest(head, call.body)


class ProviderKind(msgspec.Struct, frozen=True):
    """A line of the PROVIDERS table: how the file's settings become a provider."""

    settings: type[Any]  # each provider's own struct: only its file knows the fields
    check: Callable[[Any], Iterable[SettingsProblem]]
    build: Callable[[ProviderConfig, Any], Provider]


def request_head(endpoint: Endpoint, path: str, *, stream: bool) -> bytes:
    """Request line and headers of a JSON POST, without length, id and blank line."""
    lines = [
        f"POST {endpoint.base_path}{path} HTTP/1.1",
        f"host: {endpoint.name}",
        "content-type: application/json",
        f"accept: {'text/event-stream' if stream else 'application/json'}",
        "accept-encoding: identity",
        f"user-agent: penstock/{__version__}",
    ]
    if endpoint.access_token is not None:
        lines.append(f"authorization: Bearer {endpoint.access_token.reveal()}")
    return "".join(f"{line}\r\n" for line in lines).encode()
