"""A conversation as one text, for servers that take raw text and know no chat template.

This is a plain transcript, not the model's template: see docs/adr/0006-chat-to-native-tgi.md.
Chat models should be served through the provider's OpenAI dialect, where the server applies
the template it loaded with the model.
"""

from __future__ import annotations

from parsers.chat import Message, Role, TextPart
from parsers.dialects.base import Untranslatable

_SPEAKERS: dict[Role, str] = {
    "system": "System",
    "developer": "System",
    "user": "User",
    "assistant": "Assistant",
}


def render(messages: tuple[Message, ...], target: str) -> str:
    """The conversation as the text that the model is to continue.

    A single user message is given verbatim. Anything longer becomes turns with a speaker each,
    blank lines between, and the assistant to speak: after an open `Assistant:`, or going on where
    the client began the answer for it. Raises Untranslatable for pictures and tool traffic, which
    have no place in a text; `target` names the server's dialect in its message.
    """
    for index, message in enumerate(messages):
        _require_text(message, index, target)
    if len(messages) == 1 and messages[0].role == "user":
        return messages[0].text
    turns = [_turn(message) for message in messages]
    if not messages or messages[-1].role != "assistant":
        turns.append("Assistant:")
    return "\n\n".join(turns)


def _turn(message: Message) -> str:
    speaker = _SPEAKERS[message.role]
    return f"{speaker}: {message.text}" if message.text else f"{speaker}:"


def _require_text(message: Message, index: int, target: str) -> None:
    if message.role not in _SPEAKERS:
        raise Untranslatable(f"messages[{index}].role", target)
    if message.tool_calls:
        raise Untranslatable(f"messages[{index}].tool_calls", target)
    for position, part in enumerate(message.parts):
        if not isinstance(part, TextPart):
            raise Untranslatable(f"messages[{index}].content[{position}]", target)
