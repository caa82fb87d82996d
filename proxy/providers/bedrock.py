"""AWS Bedrock: its settings. There is no dialect for it yet."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from proxy.config.modelconfig import ProviderConfig
from proxy.config.schema import Block, Secret
from proxy.providers.base import Finding, Provider, ProviderKind
from proxy.providers.service import NOT_CALLABLE, without_routes
from proxy.providers.wire import url_problem

_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-[0-9]+")


class Settings(Block, frozen=True, kw_only=True):
    """`serverSideConfig` of type `awsBedrock`."""

    access_token: Annotated[
        Secret | None,
        Meta(
            description='"KEY:SECRET" or "KEY:SECRET:SESSION"; the ambient credentials if not'
            " given."
        ),
    ] = None
    endpoint: Annotated[
        str, Meta(description="A region, or the URL of an endpoint of one's own.")
    ] = ""
    region: Annotated[str, Meta(description="The region, where the endpoint does not say it.")] = ""

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
        return f"https://bedrock-runtime.{self.of_region}.amazonaws.com"


def check(settings: Settings) -> Iterator[Finding]:
    """No region, a bad URL, a key of another form, and that it cannot be called."""
    yield NOT_CALLABLE
    if not (settings.endpoint or settings.region):
        yield Finding((), '"endpoint" or "region" is missing: one of them says the region')
    elif (problem := url_problem(settings.url)) is not None:
        place = "endpoint" if settings.endpoint else "region"
        yield Finding((place,), f"neither a region nor a URL: {problem}")
    elif not settings.of_region:
        yield Finding(("endpoint",), 'no region in the URL: give it in "region"')
    token = settings.access_token
    if token and token.reveal().count(":") not in (1, 2):
        text = 'ignored, for it is not "KEY:SECRET" nor "KEY:SECRET:SESSION"'
        yield Finding(("accessToken",), text, is_warning=True)


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider, without routes."""
    return without_routes(config, settings.url)


AWS_BEDROCK = ProviderKind(Settings, check, build)
