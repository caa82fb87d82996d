"""Models whose settings penstock knows, and what the file changes of them (spec 1.9)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from proxy.config.schema.block import Block, DisplayName
from proxy.config.schema.knobs import Knobs
from proxy.config.schema.models import ContextWindow
from proxy.config.schema.secret import Secret


class SelfHostedClientSide(Knobs, frozen=True):
    """The knobs that differ; they stand here directly, or under `openaicompatible`."""

    openaicompatible: Annotated[
        Knobs | None, Meta(description="The same knobs, in the form that modelOverrides have.")
    ] = None


class SelfHostedServerSide(Block, frozen=True):
    """What the model server is told."""

    type: Annotated[
        str,
        Meta(
            description='Accepted for compatibility: "openaicompatible".',
            extra_json_schema={"const": "openaicompatible"},
        ),
    ] = "openaicompatible"
    api_model: Annotated[
        Secret | None,
        Meta(description="Sent upstream as the model's name, in the place of modelName."),
    ] = None


class SelfHostedOverride(Block, frozen=True):
    """What is different from the known settings; each key replaces only itself."""

    display_name: Annotated[DisplayName, Meta(description="Its name for people.")] = ""
    context_window: Annotated[
        ContextWindow, Meta(description="How many tokens it takes and gives.")
    ] = ContextWindow()
    client_side_config: Annotated[
        SelfHostedClientSide, Meta(description="Knobs for Cody clients.")
    ] = SelfHostedClientSide()
    server_side_config: Annotated[
        SelfHostedServerSide, Meta(description="What the model server is told.")
    ] = SelfHostedServerSide()


class SelfHostedModel(Block, frozen=True):
    """One model with known settings, at a provider of this file."""

    provider: Annotated[str, Meta(description="The id of the provider that hosts it.")]
    model: Annotated[
        str,
        Meta(
            description="Its name and the version of the known settings, such as"
            ' "starcoder2-7b@v1".'
        ),
    ]
    api_version: Annotated[str, Meta(description="The middle part of its modelRef.")] = "v1"
    override: Annotated[
        SelfHostedOverride | None, Meta(description="What is different from the known settings.")
    ] = None
