"""Anthropic's Messages, in both directions."""

from parsers.dialects.anthropic.dialect import ANTHROPIC, ANTHROPIC_PROMPT, AnthropicMessages
from parsers.dialects.anthropic.reader import AnthropicReader, decode_body, judge_body
from parsers.dialects.anthropic.request_writer import request_members
from parsers.dialects.anthropic.token_count import ANTHROPIC_TOKEN_COUNT

__all__ = [
    "ANTHROPIC",
    "ANTHROPIC_PROMPT",
    "ANTHROPIC_TOKEN_COUNT",
    "AnthropicMessages",
    "AnthropicReader",
    "decode_body",
    "judge_body",
    "request_members",
]
