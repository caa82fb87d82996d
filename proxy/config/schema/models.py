"""What the file says of models: one by one, or all of a provider's together (spec 1.6)."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from proxy.config.schema.block import Block, DisplayName, ModelRefText
from proxy.config.schema.knobs import ClientSideModelConfig
from proxy.config.schema.secret import Secret

# Checked by `merge`, in the words of spec 1.10.
_Tokens: TypeAlias = Annotated[int, Meta(extra_json_schema={"minimum": 1})]


class ContextWindow(Block, frozen=True):
    """How many tokens a model takes and gives."""

    max_input_tokens: Annotated[
        _Tokens | None, Meta(description="Most tokens of a prompt; 4000 if not given.")
    ] = None
    max_output_tokens: Annotated[
        _Tokens | None, Meta(description="Most tokens of an answer; 4000 if not given.")
    ] = None
    max_user_input_tokens: Annotated[
        _Tokens | None, Meta(description="Most tokens of what the user wrote; shown to clients.")
    ] = None


class ModelCost(Block, frozen=True):
    """What a model costs; shown to clients, who call it `estimatedModelCost`."""

    unit: Annotated[str, Meta(description='For how many tokens, such as "mtok" for a million.')] = (
        ""
    )
    input_token_pennies: Annotated[
        float | None, Meta(description="Price of so many tokens of a prompt.")
    ] = None
    output_token_pennies: Annotated[
        float | None, Meta(description="Price of so many tokens of an answer.")
    ] = None


class OpenAICompatibleModel(Block, frozen=True, tag_field="type", tag="openaicompatible"):
    """A model behind an OpenAI-compatible server, TGI's among them."""

    api_model: Annotated[
        Secret | None,
        Meta(description="Sent upstream as the model's name, in the place of modelName."),
    ] = None


class ProvisionedThroughput(
    Block, frozen=True, tag_field="type", tag="awsBedrockProvisionedThroughput"
):
    """A model in AWS Bedrock with throughput of its own."""

    arn: Annotated[
        Secret, Meta(description="The ARN, called in the place of modelName; never shown.")
    ]


class BedrockModel(Block, frozen=True, tag_field="type", tag="awsBedrock"):
    """A model in AWS Bedrock."""

    latency_optimization: Annotated[
        Literal["standard", "optimized"] | None,
        Meta(description="Which latency AWS is asked for."),
    ] = None


ServerSideModelConfig: TypeAlias = OpenAICompatibleModel | ProvisionedThroughput | BedrockModel


class ModelSettings(Block, frozen=True):
    """What can be said of one model, or of all models of a provider."""

    capabilities: Annotated[
        tuple[str, ...], Meta(description='What it can do: "chat", "autocomplete".')
    ] = ()
    category: Annotated[
        str,
        Meta(
            description='"accuracy", "balanced" or "speed"; used to choose default models'
            " that the file does not name."
        ),
    ] = ""
    status: Annotated[
        str, Meta(description='"experimental", "beta", "stable" or "deprecated"; shown to clients.')
    ] = ""
    tier: Annotated[
        str, Meta(description='Accepted for compatibility; every model is "enterprise".')
    ] = ""
    context_window: Annotated[
        ContextWindow, Meta(description="How many tokens it takes and gives.")
    ] = ContextWindow()
    reasoning_effort: Annotated[
        str, Meta(description='How long it thinks, if it can: "low", "medium" or "high".')
    ] = ""
    model_cost: Annotated[ModelCost | None, Meta(description="What it costs.")] = None
    client_side_config: Annotated[
        ClientSideModelConfig | None,
        Meta(description="What clients are told besides. It replaces that of the provider whole."),
    ] = None
    server_side_config: Annotated[
        ServerSideModelConfig | None,
        Meta(
            description="What the model server is told besides; never sent to clients."
            " It replaces that of the provider whole."
        ),
    ] = None


class ModelOverride(ModelSettings, frozen=True, kw_only=True):
    """One model."""

    model_ref: Annotated[
        ModelRefText,
        Meta(description="Its name: provider::apiVersion::model. The provider is one of this file"),
    ]
    display_name: Annotated[
        DisplayName, Meta(description="Its name for people; the model part if not given.")
    ] = ""
    model_name: Annotated[
        str, Meta(description="Its name upstream; the model part of modelRef if not given.")
    ] = ""
