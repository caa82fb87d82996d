"""Settings shared by the kinds of service one hosts oneself: a list of endpoints, maybe tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from msgspec import Meta

from proxy.config.schema import Block, Secret
from proxy.endpoints import Endpoint
from proxy.origin import parse_origin
from proxy.providers.base import SettingsProblem


class EndpointSettings(Block, frozen=True):
    """One address of a model server."""

    url: Annotated[
        str,
        Meta(description='Base URL, such as "http://tgi:8080/v1"; without a path it means /v1.'),
    ]
    access_token: Annotated[Secret | None, Meta(description="Sent as `Authorization: Bearer`.")] = (
        None
    )


class HostedSettings(Block, frozen=True):
    """What every self-hosted service has."""

    endpoints: Annotated[
        tuple[EndpointSettings, ...],
        Meta(description="The replicas; each request goes to the less busy of two."),
    ]
    usage: Annotated[
        Literal["on", "off"],
        Meta(description='"off": do not ask the server for token counts, change no byte.'),
    ] = "on"
    enable_verbose_logs: Annotated[
        bool, Meta(description="Accepted for compatibility; has no effect in this version.")
    ] = False
    debug_connections: Annotated[bool, Meta(description="The older name of enableVerboseLogs.")] = (
        False
    )


def endpoint_problems(settings: HostedSettings) -> Iterator[SettingsProblem]:
    """No endpoint at all, bad URLs, an address given twice, tokens that break a header."""
    if not settings.endpoints:
        yield ("endpoints",), "at least one endpoint is needed"
    times = Counter(endpoint.url for endpoint in settings.endpoints)
    for index, endpoint in enumerate(settings.endpoints):
        place = ("endpoints", index, "url")
        if times[endpoint.url] > 1:
            yield place, "this endpoint stands here more than once"
        if (problem := url_problem(endpoint.url)) is not None:
            yield place, problem
        if endpoint.access_token is not None and not is_header_text(endpoint.access_token):
            yield ("endpoints", index, "accessToken"), "the token cannot stand in a header"


def url_problem(text: str) -> str | None:
    """What is wrong with an endpoint's URL, or None."""
    try:
        parse_origin(text)
    except ValueError as error:
        return str(error)
    return None


def is_header_text(secret: Secret) -> bool:
    """Whether a secret may stand in a header: visible ASCII, and not empty."""
    text = secret.reveal()
    return bool(text) and text.isascii() and text.isprintable()


def endpoints_of(settings: Sequence[EndpointSettings], base_path: str) -> tuple[Endpoint, ...]:
    """The endpoints; `base_path` stands in for a path that a URL does not have."""
    return tuple(
        Endpoint(
            name=parse_origin(one.url).authority,
            url=one.url,
            base_path=parse_origin(one.url).path or base_path,
            access_token=one.access_token,
        )
        for one in settings
    )
