"""Google, Gemini and Vertex: their settings. There is no dialect for them yet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.config.modelconfig import ProviderConfig
from proxy.config.schema import Block, Secret
from proxy.providers.base import Finding, Provider, ProviderKind
from proxy.providers.service import (
    NOT_CALLABLE,
    ServiceSettings,
    service_problems,
    without_routes,
)

_PUBLIC = "https://generativelanguage.googleapis.com/v1beta/models"


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
    """`serverSideConfig` of type `google`."""

    google_workload_identity_config: Annotated[
        WorkloadIdentity | None, Meta(description="Credentials for Vertex.")
    ] = None


def check(settings: Settings) -> Iterator[Finding]:
    """What is wrong, and that it cannot be called."""
    yield from service_problems(settings)
    yield NOT_CALLABLE


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider, without routes."""
    return without_routes(config, settings.endpoint or _PUBLIC)


GOOGLE = ProviderKind(Settings, check, build)
