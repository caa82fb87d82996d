"""How the conversation of a client without an api-version is put right (sourcegraph.md 3.4).

Such clients know no system role, and send the empty answers of requests that failed. Only
Anthropic's models refuse that; what other servers get is as sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec.structs import replace

from parsers.chat import Message, TextPart
from parsers.dialects.sourcegraph.turns import is_empty

_PREAMBLE = "You are Cody, an AI"
_TRAILING = " \t\n"


def rewritten(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation with its preamble as system message, and without empty answers."""
    start: tuple[Message, ...] = ()
    rest = messages
    if messages and messages[0].text.startswith(_PREAMBLE):
        start = (replace(messages[0], role="system"),)
        rest = messages[2:]  # the next is the assistant's "I am Cody"
    return (*start, *_answered(rest), *_last_two(rest))


def _answered(messages: tuple[Message, ...]) -> Iterator[Message]:
    """All but the last two, without empty answers and what was asked for in vain."""
    for index, message in enumerate(messages[:-2]):
        if not (_is_empty_answer(message) or _is_empty_answer(messages[index + 1])):
            yield message


def _last_two(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    kept = messages[-2:]
    if not kept or kept[-1].role != "assistant":
        return kept
    return kept[:-1] if is_empty(kept[-1]) else (*kept[:-1], _trimmed(kept[-1]))


def _is_empty_answer(message: Message) -> bool:
    return message.role == "assistant" and is_empty(message)


def _trimmed(message: Message) -> Message:
    """The message without white space at its end, which Anthropic refuses."""
    last = message.parts[-1] if message.parts else None
    if not isinstance(last, TextPart):
        return message
    trimmed = TextPart(last.text.rstrip(_TRAILING))
    return replace(message, parts=(*message.parts[:-1], trimmed))
