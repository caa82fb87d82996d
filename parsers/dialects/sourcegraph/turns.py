"""What the turns of a Cody conversation mean beyond their words."""

from __future__ import annotations

from msgspec.structs import replace

from parsers.chat import ImagePart, Message, TextPart


def is_empty(message: Message) -> bool:
    """Whether a message says nothing at all."""
    pictures = any(isinstance(part, ImagePart) for part in message.parts)
    return not (message.text or message.tool_calls or pictures)


def without_open_turn(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The conversation without an empty assistant message at its end.

    Cody means "your turn" by it; a chat template would close that turn and begin another.
    """
    last = messages[-1] if messages else None
    if last is not None and last.role == "assistant" and is_empty(last):
        return messages[:-1]
    return messages


def instructed(messages: tuple[Message, ...], text: str) -> tuple[Message, ...]:
    """The conversation with this text before it; an empty text changes nothing.

    It joins a system message that is there: many models take only one.
    """
    if not text:
        return messages
    if not messages or messages[0].role not in ("system", "developer"):
        return (Message("system", (TextPart(text),)), *messages)
    both = TextPart(f"{text}\n\n{messages[0].text}")
    return (replace(messages[0], parts=(both,)), *messages[1:])
