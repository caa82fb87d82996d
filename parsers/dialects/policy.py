"""What happens to the parts of a request that a server has no word for: dropped, or refused.

A hint shapes how tokens are drawn or who is billed; without it the answer still is what was asked
for, so it is dropped, told by name and counted. A term is part of what the client will rely on
when it reads the answer; without it there had better be no answer. `docs/dialects.md` shows this
table, and for each upstream dialect the fields it speaks. Source: translation.md 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    ImagePart,
    RedactedThinkingPart,
    Request,
    ThinkingPart,
)
from parsers.dialects.base import Untranslatable

_THINKING = (ThinkingPart, RedactedThinkingPart)

Said: TypeAlias = Callable[[Request], bool]
Without: TypeAlias = Callable[[Request], Request]


class Field(msgspec.Struct, frozen=True):
    """An optional part of a request, under OpenAI's name for it where it has one.

    `without` gives the request less this part; None where it must not be lost.
    """

    meaning: str
    said: Said
    without: Without | None = None

    @property
    def is_hint(self) -> bool:
        """Whether it may be lost."""
        return self.without is not None


def _sampling(name: str, meaning: str, neutral: object = None, *, is_hint: bool = True) -> Field:
    def said(request: Request) -> bool:
        value = getattr(request.sampling, name)
        return value is not None and value != neutral

    def without(request: Request) -> Request:
        less = msgspec.structs.replace(request.sampling, **{name: None})
        return msgspec.structs.replace(request, sampling=less)

    return Field(meaning, said, without if is_hint else None)


def _member(name: str, meaning: str, *, is_hint: bool = False) -> Field:
    def said(request: Request) -> bool:
        return bool(getattr(request, name, None))

    def without(request: Request) -> Request:
        return msgspec.structs.replace(request, **{name: None})

    return Field(meaning, said, without if is_hint else None)


def _is_choosy(request: Request) -> bool:
    choice = request.tool_choice if isinstance(request, ChatRequest) else None
    return choice is not None and choice.mode != "auto"


def _wants_one_call(request: Request) -> bool:
    return isinstance(request, ChatRequest) and request.parallel_tool_calls is False


def _without_one_call(request: Request) -> Request:
    return msgspec.structs.replace(request, parallel_tool_calls=None)


def _holds(*kinds: type) -> Said:
    def said(request: Request) -> bool:
        messages = () if isinstance(request, CompletionRequest) else request.messages
        return any(isinstance(part, kinds) for message in messages for part in message.parts)

    return said


def _without_thinking(request: Request) -> Request:
    if isinstance(request, CompletionRequest):
        return request
    messages = tuple(
        msgspec.structs.replace(
            message, parts=tuple(part for part in message.parts if not isinstance(part, _THINKING))
        )
        for message in request.messages
    )
    return msgspec.structs.replace(request, messages=messages)


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "max_tokens": _sampling("max_tokens", "how long the answer may be", is_hint=False),
        "stop": Field("texts that end the answer", lambda request: bool(request.sampling.stop)),
        "n": _sampling("choices", "several answers at once", 1, is_hint=False),
        "logprobs": _sampling("logprobs", "probabilities beside the tokens", is_hint=False),
        "temperature": _sampling("temperature", "how freely tokens are drawn"),
        "top_p": _sampling("top_p", "out of which share of the likeliest tokens", 1),
        "top_k": _sampling("top_k", "out of how many of the likeliest tokens"),
        "typical_p": _sampling("typical_p", "typical sampling", 1),
        "seed": _sampling("seed", "repeatable drawing; best effort everywhere"),
        "presence_penalty": _sampling("presence_penalty", "against repetition", 0),
        "frequency_penalty": _sampling("frequency_penalty", "against repetition", 0),
        "repetition_penalty": _sampling("repetition_penalty", "against repetition", 1),
        "tools": _member("tools", "functions the model may call"),
        "tool_choice": Field("which of them it must or must not call", _is_choosy),
        "parallel_tool_calls": Field("one call at a time", _wants_one_call, _without_one_call),
        "response_format": _member("output", "the form that the answer must have"),
        "reasoning_effort": _member("reasoning", "how much to think", is_hint=True),
        "images": Field("pictures in messages", _holds(ImagePart)),
        "thinking": Field("reasoning of earlier turns", _holds(*_THINKING), _without_thinking),
        "suffix": _member("suffix", "the text after the gap that is to be filled"),
        "echo": _member("echo", "the prompt before its continuation"),
        "user": _member("user", "on whose behalf", is_hint=True),
    }
)


def settle(
    request: Request, spoken: frozenset[str], target: str
) -> tuple[Request, tuple[str, ...]]:
    """The request less the hints that such a server does not understand, and their names.

    `spoken` are the names in FIELDS that it does understand. Raises Untranslatable for a term that
    is none of them; `target` names the dialect in the message.
    """
    lost = list(request.passed_over)
    settled = request
    for name, field in FIELDS.items():
        if name not in spoken and field.said(request):
            if field.without is None:
                raise Untranslatable(name, target)
            settled = field.without(settled)
            lost.append(name)
    return settled, tuple(lost)
