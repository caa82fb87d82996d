"""What a streamed and a whole answer have in common: the head, the stop reason, the counts."""

from __future__ import annotations

import msgspec

from parsers.dialects.anthropic.reader import REASONS
from parsers.dialects.base import Identity
from parsers.events import Finished, FinishReason, ToolCall, Usage

_WORDS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.CONTENT_FILTER: "refusal",
}


class _Details(msgspec.Struct, frozen=True):
    thinking_tokens: int


class UsageObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """`usage`, as Anthropic writes it; clients need the first two, known or not."""

    input_tokens: int
    output_tokens: int
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens_details: _Details | None = None


def usage_object(usage: Usage | None) -> UsageObject:
    """The counts in Anthropic's way: its input leaves the cache out."""
    if usage is None:
        return UsageObject(0, 0)
    cache = (usage.cached or 0) + (usage.cache_write or 0)
    return UsageObject(
        input_tokens=max(usage.prompt - cache, 0),
        output_tokens=usage.completion,
        cache_creation_input_tokens=usage.cache_write,
        cache_read_input_tokens=usage.cached,
        output_tokens_details=None if usage.reasoning is None else _Details(usage.reasoning),
    )


class Stop(msgspec.Struct, frozen=True):
    """Why the message ended; both None where nobody said."""

    stop_reason: str | None = None
    stop_sequence: str | None = None


def stop_of(finished: Finished | None, *, called: bool, refused: bool) -> Stop:
    """The reason in Anthropic's words, as exact as the upstream was.

    None is made up, but calls are reason enough (TGI tells none). A refusal that the model put
    in words, which OpenAI's tell apart from an answer, is named here.
    """
    if finished is None:
        return Stop("tool_use") if called else Stop()
    if refused and finished.reason is FinishReason.STOP:
        return Stop("refusal")
    raw = finished.raw
    word = raw if raw is not None and REASONS.get(raw) is finished.reason else None
    if finished.stop is not None and finished.reason is FinishReason.STOP:
        return Stop("stop_sequence", finished.stop)
    return Stop(word or _WORDS[finished.reason])


def made_up_id(identity: Identity, call: ToolCall) -> str:
    """An id for a call that the upstream gave none, the same whenever it is asked for."""
    answer = "".join(c for c in identity.id if c.isascii() and c.isalnum())[-40:]
    return f"toolu_{answer}_{call.call}"
