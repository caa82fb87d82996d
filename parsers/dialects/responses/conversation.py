"""The items of a request's `input`, as messages.

What the model did in one turn stands in several items: reasoning, a message, calls. Elsewhere
that is one message of the assistant's, so neighbours among them are gathered (translation.md 1).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from parsers.chat import (
    ImagePart,
    Message,
    Part,
    RedactedThinkingPart,
    TextPart,
    ThinkingPart,
    ToolUse,
)
from parsers.dialects.openai.blocks import signature_of
from parsers.errors import BadPayload

_TEXTS = frozenset({"input_text", "output_text", "text", "summary_text", "reasoning_text"})


class ContentPart(msgspec.Struct, frozen=True):
    """A part of an item's content."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None


class InputItem(msgspec.Struct, frozen=True):
    """An entry of `input`; a message need not say that it is one."""

    type: str = "message"
    role: Literal["user", "assistant", "system", "developer"] | None = None
    content: str | list[ContentPart] | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str = ""
    output: str | list[ContentPart] | None = None
    summary: list[ContentPart] | None = None
    encrypted_content: str | None = None
    extra_content: object = None  # a call's signature, as in chat


def messages_of(items: list[InputItem]) -> list[Message]:
    """The conversation. Raises BadPayload, with a text for the client, for other kinds of items."""
    turns = _Turns()
    for at, item in enumerate(items):
        _add(turns, item, f"input[{at}]")
    return turns.close()


class _Turns:
    """Messages so far, and the assistant's turn that is still open."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._parts: list[Part] = []
        self._calls: list[ToolUse] = []

    def say(self, *parts: Part) -> None:
        """The assistant said or thought this."""
        self._parts += parts

    def call(self, use: ToolUse) -> None:
        """The assistant called a function."""
        self._calls.append(use)

    def add(self, message: Message) -> None:
        """Somebody else's turn."""
        self.close().append(message)

    def close(self) -> list[Message]:
        """All messages. Thoughts without a word or a deed are no turn: servers refuse them."""
        parts, calls = tuple(self._parts), tuple(self._calls)
        if calls or any(isinstance(part, TextPart | ImagePart) for part in parts):
            self._messages.append(Message("assistant", parts, tool_calls=calls))
        self._parts.clear()
        self._calls.clear()
        return self._messages


def _add(turns: _Turns, item: InputItem, path: str) -> None:
    match item.type:
        case "message":
            _add_message(turns, item, path)
        case "reasoning":
            turns.say(*_thoughts(item))
        case "function_call":
            call_id, name = _named(item.call_id, path, "call_id"), _named(item.name, path, "name")
            signature = signature_of(item.extra_content)
            turns.call(ToolUse(call_id, name, item.arguments, signature))
        case "function_call_output":
            parts = _parts(item.output, f"{path}.output")
            call_id = _named(item.call_id, path, "call_id")
            turns.add(Message("tool", parts, tool_call_id=call_id))
        case "item_reference":
            raise BadPayload(f"{path}.type: nothing is stored here to refer to; send the item")
        case _:
            raise BadPayload(f"{path}.type: this kind of item is not supported for this model")


def _add_message(turns: _Turns, item: InputItem, path: str) -> None:
    if item.role is None:
        raise BadPayload(f"{path}: object missing required field `role`")
    parts = _parts(item.content, f"{path}.content")
    if item.role == "assistant":
        turns.say(*parts)
    else:
        turns.add(Message(item.role, parts))


def _named(value: str | None, path: str, member: str) -> str:
    if value is None:
        raise BadPayload(f"{path}: object missing required field `{member}`")
    return value


def _parts(content: str | list[ContentPart] | None, path: str) -> tuple[Part, ...]:
    if content is None:
        raise BadPayload(f"{path}: expected a text or a list of parts")
    if isinstance(content, str):
        return (TextPart(content),)
    return tuple(_part(part, f"{path}[{n}]") for n, part in enumerate(content))


def _part(part: ContentPart, path: str) -> Part:
    if part.type == "input_image":
        if part.image_url is None:
            raise BadPayload(f"{path}.image_url: missing; files by id are not supported here")
        return ImagePart(part.image_url, part.detail)
    text = part.refusal if part.type == "refusal" else part.text
    if part.type not in _TEXTS and part.type != "refusal":
        raise BadPayload(f"{path}.type: only texts and pictures are supported for this model")
    if text is None:
        raise BadPayload(f"{path}: missing the member that its type names")
    return TextPart(text)


def _thoughts(item: InputItem) -> list[Part]:
    """Reasoning as its model wants it back; a summary stands in for thoughts that were not told."""
    content = item.content if isinstance(item.content, list) else []
    text = "".join(part.text or "" for part in content)
    text = text or "\n\n".join(part.text or "" for part in item.summary or ())
    if item.encrypted_content and not (content or item.summary):
        return [RedactedThinkingPart(item.encrypted_content)]
    return [ThinkingPart(text, item.encrypted_content)] if text or item.encrypted_content else []
