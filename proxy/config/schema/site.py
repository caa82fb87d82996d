"""The file: the blocks that penstock reads of a site configuration."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from proxy.config.schema.completions import Completions
from proxy.config.schema.modelconfiguration import ModelConfiguration
from proxy.config.schema.penstock import Penstock


class SiteConfig(msgspec.Struct, frozen=True, rename="camel"):
    """The file. Keys of a site configuration that are not listed here are ignored."""

    model_configuration: Annotated[
        ModelConfiguration | None, Meta(description="Which models there are, and who hosts them.")
    ] = None
    completions: Annotated[
        Completions | None,
        Meta(description="The older form of modelConfiguration; ignored, unread, beside it."),
    ] = None
    penstock: Annotated[
        Penstock, Meta(description="What the Sourcegraph format has no word for.")
    ] = Penstock()
