"""The `modelConfiguration` block, in the seed's form and in later ones (spec 1.2 to 1.9)."""

from __future__ import annotations

from typing import Annotated, ClassVar, TypeAlias

import msgspec
from msgspec import Meta

from proxy.config.modelref import MODEL_REF_PATTERN, RESOURCE_ID_PATTERN
from proxy.config.schema.block import Block, DisplayName, ModelRefText
from proxy.config.schema.models import ModelOverride, ModelSettings
from proxy.config.schema.secret import Secret
from proxy.config.schema.selfhosted import SelfHostedModel

# What a `serverSideConfig` of a provider may have as its `type` (spec 1.5).
PROVIDER_KINDS = (
    *("huggingface-tgi", "openaicompatible", "openai", "azureOpenAI", "fireworks"),
    *("anthropic", "awsBedrock", "google", "sourcegraph"),
)

# Empty means the same as absent.
_DefaultRefText: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"pattern": f"^$|{MODEL_REF_PATTERN}"})
]


class ModelFilters(Block, frozen=True):
    """Which of the built-in models there are; models of this file are never filtered."""

    status_filter: Annotated[
        tuple[str, ...] | None,
        Meta(description="Only models of these statuses; [] is no model at all."),
    ] = None
    allow: Annotated[
        tuple[str, ...],
        Meta(
            description='Only models whose reference fits one of these: exact, or with "*" first'
            " or last; [] is every model."
        ),
    ] = ()
    deny: Annotated[
        tuple[str, ...], Meta(description="No model whose reference fits one of these.")
    ] = ()


class SourcegraphModels(Block, frozen=True):
    """Built-in models, and the gateway that serves them. penstock has no built-in models."""

    endpoint: Annotated[
        str | None, Meta(description="The gateway's URL; accepted for compatibility.")
    ] = None
    access_token: Annotated[
        Secret | None, Meta(description="The gateway's key; accepted for compatibility.")
    ] = None
    model_filters: Annotated[
        ModelFilters | None, Meta(description="Which of the built-in models there are.")
    ] = None


class ClientSideProviderConfig(Block, frozen=True):
    """What clients are told about a provider: nothing so far."""


class ProviderOverride(Block, frozen=True):
    """One service that hosts models."""

    id: Annotated[
        str,
        Meta(
            description="The first part of the names of its models; any word.",
            extra_json_schema={"pattern": RESOURCE_ID_PATTERN},
        ),
    ]
    display_name: Annotated[
        DisplayName, Meta(description='Its name for people; Provider "<id>" if not given.')
    ] = ""
    client_side_config: Annotated[
        ClientSideProviderConfig | None, Meta(description="What clients are told of it; empty.")
    ] = None
    server_side_config: Annotated[
        dict[str, msgspec.Raw] | None,
        Meta(
            description="How it is called: a type, and what that kind of service needs. Without it"
            " the file is refused, since nothing is sent to a host that nobody configured."
        ),
    ] = None
    default_model_config: Annotated[
        ModelSettings | None,
        Meta(description="Settings for those of its models that do not say otherwise."),
    ] = None


class DefaultModels(Block, frozen=True):
    """The models for requests that name none."""

    LATER: ClassVar[frozenset[str]] = frozenset({"unlimitedChat"})  # the vendor's own site has it

    chat: Annotated[_DefaultRefText | None, Meta(description="For chat.")] = None
    fast_chat: Annotated[
        _DefaultRefText | None, Meta(description="For chat that asks to be fast.")
    ] = None
    code_completion: Annotated[
        _DefaultRefText | None, Meta(description="For completions of code or raw text.")
    ] = None


class ModelConfiguration(Block, frozen=True):
    """Which models there are, and who hosts them (the Sourcegraph site configuration's form)."""

    sourcegraph: Annotated[
        SourcegraphModels | None,
        Meta(description="Built-in models; leave it null, since penstock has none."),
    ] = None
    provider_overrides: Annotated[
        tuple[ProviderOverride, ...], Meta(description="The services that host the models.")
    ] = ()
    model_overrides: Annotated[tuple[ModelOverride, ...], Meta(description="The models.")] = ()
    model_overrides_recommended_settings: Annotated[
        tuple[ModelRefText, ...],
        Meta(description="Models whose settings penstock knows, by their references."),
    ] = ()
    self_hosted_models: Annotated[
        tuple[SelfHostedModel, ...],
        Meta(description="Models whose settings penstock knows, each with what is different."),
    ] = ()
    default_models: Annotated[
        DefaultModels | None,
        Meta(
            description="The models for requests that name none; what is not given here is the"
            " first model that fits."
        ),
    ] = None
    system_pre_instruction: Annotated[
        str, Meta(description="A system message put before every chat of a Cody client.")
    ] = ""
