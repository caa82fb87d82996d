"""Settings shared by the services of others: one address, one key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from proxy.config.schema import Block, Secret
from proxy.endpoints import Endpoint
from proxy.origin import parse_origin
from proxy.providers.base import Finding, Target
from proxy.providers.wire import token_problem, url_problem


class ServiceSettings(Block, frozen=True):
    """What every such service has."""

    access_token: Annotated[Secret | None, Meta(description="The key.")] = None
    endpoint: Annotated[
        str, Meta(description="URL of the service; its public one if not given.")
    ] = ""


def service_problems(settings: ServiceSettings) -> Iterator[Finding]:
    """A bad URL, a key that breaks a header."""
    if settings.endpoint and (problem := url_problem(settings.endpoint)) is not None:
        yield Finding(("endpoint",), problem)
    if (problem := token_problem(settings.access_token)) is not None:
        yield Finding(("accessToken",), problem)


def target_at(url: str, base_path: str = "", suffixes: tuple[str, ...] = ()) -> Target:
    """A target without a key. The URL's path may end in a route, which is not part of the base."""
    origin = parse_origin(url)
    path = origin.path or base_path
    for suffix in suffixes:
        path = path.removesuffix(suffix)
    return Target(Endpoint(name=origin.authority, url=url, base_path=path))
