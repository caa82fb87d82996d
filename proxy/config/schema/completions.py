"""The older `completions` block (spec 1.11), which `legacy` turns into a `modelConfiguration`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, TypeAlias

import msgspec
from msgspec import Meta

from proxy.config.schema.block import Block

_Count: TypeAlias = Annotated[int, Meta(ge=0)]


class Completions(Block, frozen=True):
    """One service for everything: chat, fast chat and completion.

    It is read only where there is no `modelConfiguration`. `penstock convert` prints what it means.
    """

    LATER: ClassVar[frozenset[str]] = frozenset(
        {
            # Only the vendor's own site uses these.
            "perCommunityUserChatMonthlyInteractionLimit",
            "perCommunityUserChatMonthlyLLMRequestLimit",
            "perCommunityUserCodeCompletionsMonthlyInteractionLimit",
            "perCommunityUserCodeCompletionsMonthlyLLMRequestLimit",
            "perProUserChatDailyInteractionLimit",
            "perProUserChatDailyLLMRequestLimit",
            "perProUserCodeCompletionsDailyInteractionLimit",
            "perProUserCodeCompletionsDailyLLMRequestLimit",
        }
    )

    provider: Annotated[
        str,
        Meta(
            description='"openai", "anthropic", "azure-openai", "fireworks", "aws-bedrock",'
            ' "google" or "sourcegraph", which is the default.'
        ),
    ] = ""
    access_token: Annotated[
        msgspec.Raw | None,
        Meta(
            description="The key; a text, an env or a file.",
            extra_json_schema={"title": "a secret"},
        ),
    ] = None
    endpoint: Annotated[
        str, Meta(description="URL of the service; its public one if not given.")
    ] = ""
    chat_model: Annotated[str, Meta(description="The model for chat.")] = ""
    chat_model_max_tokens: Annotated[
        _Count, Meta(description="Most tokens of its prompts; by its name if not given.")
    ] = 0
    fast_chat_model: Annotated[
        str, Meta(description="The model for chat that asks to be fast.")
    ] = ""
    fast_chat_model_max_tokens: Annotated[
        _Count, Meta(description="Most tokens of its prompts; by its name if not given.")
    ] = 0
    completion_model: Annotated[str, Meta(description="The model for completions.")] = ""
    completion_model_max_tokens: Annotated[
        _Count, Meta(description="Most tokens of its prompts; by its name if not given.")
    ] = 0
    model: Annotated[str, Meta(description="The older name of chatModel.")] = ""
    smart_context_window: Annotated[
        Literal["enabled", "disabled"], Meta(description="What clients are told of it.")
    ] = "enabled"
    disable_client_config_api: Annotated[
        bool,
        Meta(
            description="The client-config route tells clients nothing that they would not know"
            " without it."
        ),
    ] = msgspec.field(default=False, name="disableClientConfigAPI")
    azure_use_deprecated_completions_api_for_old_models: Annotated[
        bool | None,
        Meta(
            description="Azure: completions go to its older route; if not given they do not, as"
            " before Sourcegraph 5.6."
        ),
    ] = msgspec.field(default=None, name="azureUseDeprecatedCompletionsAPIForOldModels")
    azure_chat_model: Annotated[
        str, Meta(description="Azure: what the deployment in chatModel serves.")
    ] = ""
    azure_completion_model: Annotated[
        str, Meta(description="Azure: what the deployment in completionModel serves.")
    ] = ""
    user: Annotated[str, Meta(description="Azure: the user that requests are counted for.")] = ""
    per_user_daily_limit: Annotated[
        _Count,
        Meta(
            description="The older form of penstock's dailyLimits.chatRequests; counts beside a"
            " modelConfiguration too."
        ),
    ] = 0
    per_user_code_completions_daily_limit: Annotated[
        _Count,
        Meta(
            description="The older form of penstock's dailyLimits.codeRequests; counts beside a"
            " modelConfiguration too."
        ),
    ] = 0
    enabled: Annotated[
        bool | None,
        Meta(
            description="The older form of cody.enabled, which counts where both are given;"
            " false refuses the file."
        ),
    ] = None
