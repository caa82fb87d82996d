"""OpenAI text completions, in both directions, and as TGI serves them."""

from parsers.dialects.completions.dialect import (
    OPENAI_COMPLETIONS,
    SELF_HOSTED_COMPLETIONS,
    TGI_COMPLETIONS,
    OpenAICompletions,
    TgiCompletions,
)

__all__ = [
    "OPENAI_COMPLETIONS",
    "SELF_HOSTED_COMPLETIONS",
    "TGI_COMPLETIONS",
    "OpenAICompletions",
    "TgiCompletions",
]
