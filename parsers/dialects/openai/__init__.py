"""OpenAI chat completions, in both directions."""

from parsers.dialects.openai.dialect import (
    OPENAI_CHAT,
    SELF_HOSTED,
    SELF_HOSTED_CHAT,
    OpenAIChat,
    SelfHostedChat,
)

__all__ = ["OPENAI_CHAT", "SELF_HOSTED", "SELF_HOSTED_CHAT", "OpenAIChat", "SelfHostedChat"]
