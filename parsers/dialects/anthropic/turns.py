"""A conversation as Anthropic takes it: system texts apart, users and model in turn.

It refuses blank text, tool results that do not come together and first, thoughts without their
signature, and blanks at the end of an answer that it is to continue (translation.md 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from parsers.chat import (
    ImagePart,
    Message,
    Part,
    RedactedThinkingPart,
    TextPart,
    ThinkingPart,
    ToolUse,
)
from parsers.dialects.base import Untranslatable
from parsers.dialects.objects import object_of
from parsers.dialects.turns import SYSTEM, in_turn

TARGET = "anthropic-messages"

_Object: TypeAlias = dict[str, object]

_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_PICTURE = re.compile(r"data:(?P<type>[^;,]+)(?:;[^;,]+)*;base64,", re.IGNORECASE)


def system_of(messages: Iterable[Message]) -> str | list[_Object] | None:
    """All system texts; wherever they stood, they come first. None without any.

    Raises Untranslatable for a picture among them.
    """
    blocks = [
        block for message in messages if message.role in SYSTEM for block in _system_blocks(message)
    ]
    if len(blocks) == 1:
        return str(blocks[0]["text"])
    return blocks or None


def turns_of(messages: Iterable[Message]) -> list[_Object]:
    """Everything else, neighbours of one role in one turn. Raises Untranslatable."""
    turns = in_turn(messages, _blocks, _strip_end)
    return [{"role": role, "content": _content(blocks)} for role, blocks in turns]


def _system_blocks(message: Message) -> Iterator[_Object]:
    for part in message.parts:
        if isinstance(part, ImagePart):
            raise Untranslatable("images", TARGET)
        if isinstance(part, TextPart):
            yield from _block(part)


def _blocks(message: Message) -> Iterator[_Object]:
    if message.role == "tool":
        yield _result(message)
        return
    for part in message.parts:
        yield from _block(part)
    for use in message.tool_calls:
        yield _use(use)


def _block(part: Part) -> Iterator[_Object]:
    match part:
        case TextPart(text):
            if not text.isspace() and text:
                yield {"type": "text", "text": text}
        case ImagePart(url):
            yield {"type": "image", "source": _source(url)}
        case ThinkingPart(text, signature):
            if signature:
                yield {"type": "thinking", "thinking": text, "signature": signature}
        case RedactedThinkingPart(data):
            yield {"type": "redacted_thinking", "data": data}


def _source(url: str) -> _Object:
    found = _PICTURE.match(url)
    if found is not None:
        return {"type": "base64", "media_type": found["type"], "data": url[found.end() :]}
    if url.startswith(("https:", "http:")):
        return {"type": "url", "url": url}
    raise Untranslatable("images", TARGET)


def _use(use: ToolUse) -> _Object:
    return {
        "type": "tool_use",
        "id": _id(use.id),
        "name": use.name,
        "input": object_of(use.arguments),
    }


def _result(message: Message) -> _Object:
    result: _Object = {"type": "tool_result", "tool_use_id": _id(message.tool_call_id or "")}
    content = [block for part in message.parts for block in _block(part)]
    if content:
        result["content"] = _content(content)
    if message.is_error:
        result["is_error"] = True
    return result


def _id(text: str) -> str:
    """The id, in the characters that one may have; always the same for the same."""
    return _NOT_IN_ID.sub("_", text) or "_"


def _content(blocks: list[_Object]) -> str | list[_Object]:
    """The blocks, tool results first; a single text as itself."""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return str(blocks[0]["text"])
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _strip_end(blocks: list[_Object]) -> None:
    last = blocks[-1]
    if last["type"] == "text":  # never blank
        blocks[-1] = {"type": "text", "text": str(last["text"]).rstrip()}
