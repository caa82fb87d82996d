"""The file: the blocks that penstock reads of a site configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.config.schema.completions import Completions
from proxy.config.schema.modelconfiguration import ModelConfiguration
from proxy.config.schema.penstock import Penstock


class ConfigFeatures(msgspec.Struct, frozen=True, rename="camel"):
    """What Cody clients are told to offer. Here absent is false, as in the original."""

    chat: Annotated[bool, Meta(description="Chat.")] = False
    auto_complete: Annotated[bool, Meta(description="Completions of code.")] = False
    commands: Annotated[bool, Meta(description="Commands that users write themselves.")] = False


class SiteConfig(msgspec.Struct, frozen=True, rename="camel"):
    """The file. Keys of a site configuration that are not listed here are ignored."""

    model_configuration: Annotated[
        ModelConfiguration | None, Meta(description="Which models there are, and who hosts them.")
    ] = None
    completions: Annotated[
        Completions | None,
        Meta(
            description="The older form of modelConfiguration; beside it only its daily limits"
            " are read."
        ),
    ] = None
    cody_enabled: Annotated[
        bool | None,
        Meta(description="Whether Cody clients are served: false refuses them, and nobody else."),
    ] = msgspec.field(default=None, name="cody.enabled")
    cody_context_filters: Annotated[
        dict[str, msgspec.Raw] | None,
        Meta(
            description="What Cody clients keep out of their prompts, themselves: that it is there"
            " refuses clients too old to do so, and penstock looks no further."
        ),
    ] = msgspec.field(default=None, name="cody.contextFilters")
    config_features: Annotated[
        ConfigFeatures | None,
        Meta(description="What Cody clients are told to offer; everything if not given."),
    ] = None
    penstock: Annotated[
        Penstock, Meta(description="What the Sourcegraph format has no word for.")
    ] = Penstock()
