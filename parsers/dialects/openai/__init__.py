"""OpenAI chat completions, in both directions."""

from parsers.dialects.openai.dialect import OPENAI_CHAT, OpenAIChat

__all__ = ["OPENAI_CHAT", "OpenAIChat"]
