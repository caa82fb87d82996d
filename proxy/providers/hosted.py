"""Settings shared by the kinds of service one hosts oneself: a list of endpoints, maybe tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, structs

from proxy.config.modelconfig import ProviderConfig
from proxy.config.schema import Block, Secret
from proxy.endpoints import Endpoint
from proxy.origin import parse_origin
from proxy.providers.base import (
    Checks,
    Finding,
    Provider,
    Route,
    Target,
)
from proxy.providers.wire import (
    bearer,
    header_problem,
    split_query,
    token_problem,
    token_query,
    url_problem,
)


class EndpointSettings(Block, frozen=True):
    """One address of a model server."""

    url: Annotated[
        str,
        Meta(description='Base URL, such as "http://tgi:8080/v1"; without a path it means /v1.'),
    ]
    name: Annotated[
        Annotated[str, Meta(min_length=1, max_length=64)] | None,
        Meta(
            description="Its name in logs and metrics; host and port of the URL if not given.",
        ),
    ] = None
    weight: Annotated[
        float, Meta(gt=0, le=1000, description="Its share of the requests, relative to others.")
    ] = 1.0
    max_concurrent: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Requests at the same time; the server's own limit if not given."),
    ] = None
    resolve: Annotated[
        Literal["one", "all"],
        Meta(
            description='"all": each address behind the name is an endpoint of its own, as for a'
            " headless Service; the name is asked again every few seconds."
        ),
    ] = "one"
    access_token: Annotated[Secret | None, Meta(description="Sent as `Authorization: Bearer`.")] = (
        None
    )
    access_token_query: Annotated[
        Secret | None, Meta(description="Sent in the query, as `access_token`.")
    ] = None
    headers: Annotated[
        dict[str, Secret],
        Meta(description="Sent with each request; then no token is sent but what stands here."),
    ] = msgspec.field(default_factory=dict)


class HostedSettings(Block, frozen=True):
    """What every self-hosted service has."""

    # vLLM, SGLang and llama.cpp have the first; llama.cpp has the second as well.
    checks: ClassVar[Checks] = Checks("/health", "/props", "total_slots")

    endpoints: Annotated[
        tuple[EndpointSettings, ...],
        Meta(description="The replicas; each request goes to the less busy of two."),
    ]
    usage: Annotated[
        Literal["on", "off"],
        Meta(description='"off": do not ask the server for token counts, change no byte.'),
    ] = "on"
    use_legacy_completions: Annotated[
        bool, Meta(description="false: completions go to the chat route, as one message.")
    ] = True
    enable_verbose_logs: Annotated[
        bool,
        Meta(
            description="Write its requests and answers, prompts included and keys masked, into"
            " files: see penstock.capture."
        ),
    ] = False
    debug_connections: Annotated[bool, Meta(description="The older name of enableVerboseLogs.")] = (
        False
    )

    @property
    def is_verbose(self) -> bool:
        """Whether its traffic is to be captured, under either name."""
        return self.enable_verbose_logs or self.debug_connections


class Hosted(Provider):
    """A server with some routes below `/v1`, and some beside it (upstreams.md 1)."""

    def __init__(
        self,
        config: ProviderConfig,
        targets: Sequence[Target],
        routes: Sequence[Route],
        beside: Sequence[Route],
        settings: HostedSettings,
    ) -> None:
        super().__init__(
            config,
            targets,
            routes,
            asks_usage=settings.usage == "on",
            verbose=settings.is_verbose,
            checks=settings.checks,
        )
        others = Provider(config, tuple(map(beside_v1, targets)), beside)
        self._exact = others._exact | self._exact
        self._default = others._default | self._default
        self._heads |= others._heads


def beside_v1(target: Target) -> Target:
    """The same server, called beside `/v1`."""
    endpoint = target.endpoint
    base_path = endpoint.base_path.removesuffix("/v1")
    return structs.replace(target, endpoint=structs.replace(endpoint, base_path=base_path))


def endpoint_problems(settings: HostedSettings) -> Iterator[Finding]:
    """No endpoint at all, bad URLs, an address given twice, tokens that break a header."""
    if not settings.endpoints:
        yield Finding(("endpoints",), "at least one endpoint is needed")
    times = Counter(split_query(endpoint.url)[0] for endpoint in settings.endpoints)
    for index, endpoint in enumerate(settings.endpoints):
        place = ("endpoints", index)
        if times[split_query(endpoint.url)[0]] > 1:
            yield Finding((*place, "url"), "this endpoint stands here more than once")
        yield from _endpoint_problems(endpoint, place)


def _endpoint_problems(
    endpoint: EndpointSettings, place: tuple[str | int, ...]
) -> Iterator[Finding]:
    if (problem := url_problem(endpoint.url)) is not None:
        yield Finding((*place, "url"), problem)
    if endpoint.resolve == "all" and endpoint.url.startswith("unix:"):
        yield Finding((*place, "resolve"), "a unix socket has no addresses")
    if (problem := token_problem(endpoint.access_token)) is not None:
        yield Finding((*place, "accessToken"), problem)
    for name, value in endpoint.headers.items():
        if (problem := header_problem(name, value)) is not None:
            yield Finding((*place, "headers", name), problem)
    if endpoint.headers and (endpoint.access_token or endpoint.access_token_query):
        text = "the endpoint's token is not sent, since it has headers of its own"
        yield Finding((*place, "headers"), text, is_warning=True)


def targets_of(settings: Sequence[EndpointSettings], base_path: str) -> tuple[Target, ...]:
    """The endpoints; `base_path` stands in for a path that a URL does not have."""
    return tuple(_target(one, base_path) for one in settings)


def _target(settings: EndpointSettings, base_path: str) -> Target:
    url, query = split_query(settings.url)
    origin = parse_origin(url)
    endpoint = Endpoint(
        name=settings.name or origin.authority,
        authority=origin.authority,
        url=url,
        base_path=origin.path or base_path,
        weight=settings.weight,
        max_concurrent=settings.max_concurrent,
        checked=True,
        resolve_all=settings.resolve == "all",
    )
    if settings.headers:
        return Target(endpoint, tuple(settings.headers.items()), _query(query))
    if settings.access_token_query:
        query = "&".join(filter(None, (query, token_query(settings.access_token_query))))
    return Target(endpoint, bearer(settings.access_token), _query(query))


def _query(text: str) -> Secret | None:
    return Secret(text) if text else None
