"""How much a model is to think, in Anthropic's words: by a budget, or adaptively by an effort.

Models up to 4.5 know budgets alone, later ones are told an effort and choose for themselves. The
list of the old ones is complete: it is the past.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from parsers.chat import (
    ChatRequest,
    Message,
    Reasoning,
    RedactedThinkingPart,
    ThinkingPart,
)

_Object: TypeAlias = dict[str, object]

_KNOWS_BUDGETS_ALONE = re.compile(
    r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:-\d{8}|-latest|-v|[^0-9-]|$))"
)

# Tokens of thought for OpenAI's words; Anthropic takes no fewer than the least of them.
_MIN_BUDGET = 1024
_BUDGETS = {
    "minimal": _MIN_BUDGET,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 32768,
}
_EFFORTS = {"minimal": "low"}  # where Anthropic has another word


def thinking_members(request: ChatRequest, model: str) -> tuple[_Object | None, str | None]:
    """`thinking` and `output_config.effort`, None for what is not to be said.

    A client that names a budget, or asks for no more than that the model thinks, speaks
    Anthropic's dialect and gets what it says. An effort in OpenAI's words is a wish: it gives way
    to whatever Anthropic would refuse beside it.
    """
    reasoning = request.reasoning
    if reasoning is None:
        return None, None
    if reasoning.effort == "none":
        return {"type": "disabled"}, None
    effort = _EFFORTS.get(reasoning.effort or "", reasoning.effort)
    if reasoning.budget is not None:
        return {"type": "enabled", "budget_tokens": reasoning.budget}, effort
    if effort is None or not _KNOWS_BUDGETS_ALONE.search(model):
        return {"type": "adaptive"}, effort
    budget = _budget(reasoning, request.sampling.max_tokens)
    if budget is None or _is_forced(request) or _lost_thoughts(request.messages):
        return None, None
    return {"type": "enabled", "budget_tokens": budget}, None


def _budget(reasoning: Reasoning, max_tokens: int | None) -> int | None:
    """Tokens of thought, at most half of the answer's; None if Anthropic would take no so few."""
    budget = _BUDGETS.get(reasoning.effort or "")
    if budget is not None and max_tokens is not None:
        budget = min(budget, max_tokens // 2)
    return budget if budget is not None and budget >= _MIN_BUDGET else None


def _is_forced(request: ChatRequest) -> bool:
    choice = request.tool_choice
    return choice is not None and choice.mode in ("required", "tool")


def _lost_thoughts(messages: tuple[Message, ...]) -> bool:
    """Whether the last answer called tools, and what was thought before is not there."""
    for message in reversed(messages):
        if message.role == "assistant":
            thoughts = (ThinkingPart, RedactedThinkingPart)
            kept = any(isinstance(part, thoughts) for part in message.parts)
            return bool(message.tool_calls) and not kept
    return False
