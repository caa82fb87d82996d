"""What OpenAI's protocol has no place for, and the next turn needs: signatures.

Signed and redacted reasoning stands in `thinking_blocks`, each block once and whole, in Anthropic's
form (LiteLLM's clients know it there); its text is in `reasoning_content` too, piece by piece. The
signature of a tool call stands where Google's own endpoint has it,
`extra_content.google.thought_signature` (translation.md 2 and 8).
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from parsers.chat import RedactedThinkingPart, ThinkingPart


class ThinkingBlock(msgspec.Struct, frozen=True, tag_field="type", tag="thinking"):
    """Reasoning, and the word of who signed it."""

    thinking: str = ""
    signature: str | None = None


class RedactedBlock(msgspec.Struct, frozen=True, tag_field="type", tag="redacted_thinking"):
    """Reasoning that only its model can read."""

    data: str


Block: TypeAlias = ThinkingBlock | RedactedBlock
_BLOCKS = list[Block]


class _Google(msgspec.Struct, frozen=True):
    thought_signature: str | None = None


class ExtraContent(msgspec.Struct, frozen=True):
    """`extra_content` of a tool call."""

    google: _Google | None = None


def blocks_of(value: object) -> list[Block]:
    """The blocks in a decoded `thinking_blocks`; none where it has another form."""
    try:
        return msgspec.convert(value, _BLOCKS)
    except msgspec.ValidationError:
        return []


def signature_of(value: object) -> str | None:
    """The signature in a decoded `extra_content`; None where it has another form."""
    try:
        extra = msgspec.convert(value, ExtraContent)
    except msgspec.ValidationError:
        return None
    return extra.google.thought_signature or None if extra.google is not None else None


def extra_content(signature: str) -> ExtraContent:
    """A signature as `extra_content`."""
    return ExtraContent(_Google(signature))


def block_of(part: ThinkingPart | RedactedThinkingPart) -> Block:
    """Reasoning of an earlier turn as a block."""
    if isinstance(part, RedactedThinkingPart):
        return RedactedBlock(part.data)
    return ThinkingBlock(part.text, part.signature)


def part_of(block: Block) -> ThinkingPart | RedactedThinkingPart:
    """A block as reasoning of an earlier turn."""
    if isinstance(block, RedactedBlock):
        return RedactedThinkingPart(block.data)
    return ThinkingPart(block.thinking, block.signature or None)
