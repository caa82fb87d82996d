"""A conversation as Converse takes it: system texts apart, users and model in turn.

It refuses two turns of one role in a row, tool results that do not come together and first, blank
text where there should be some, and blanks at the end of an answer that it is to continue
(translation.md 1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
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
from parsers.dialects.turns import SYSTEM, Block, in_turn

Turn: TypeAlias = dict[str, object]

TARGET = "bedrock-converse"

# AWS allows dots and colons as well, but not every model behind it does.
_TOOL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PICTURE = re.compile(r"data:image/(png|jpe?g|gif|webp);base64,", re.IGNORECASE)


def system_of(messages: Iterable[Message]) -> list[Block]:
    """All system texts as one, a blank line between them; wherever they stood, they come first.

    Raises Untranslatable for a picture among them.
    """
    texts = []
    for message in messages:
        if message.role in SYSTEM:
            if any(isinstance(part, ImagePart) for part in message.parts):
                raise Untranslatable("messages[].content[].image_url", TARGET)
            texts.append(message.text)
    text = "\n\n".join(filter(None, texts))
    return [{"text": text}] if text else []


def turns_of(messages: Iterable[Message]) -> list[Turn]:
    """Everything else, neighbours of one role in one turn. Raises Untranslatable."""
    turns = in_turn(messages, _blocks, _strip_end)
    return [{"role": role, "content": _results_first(blocks)} for role, blocks in turns]


def _blocks(message: Message) -> Iterator[Block]:
    if message.role == "tool":
        yield _result(message)
        return
    for part in message.parts:
        yield from _block(part)
    for use in message.tool_calls:
        yield _use(use)


def _block(part: Part) -> Iterator[Block]:
    match part:
        case TextPart(text):
            if text.strip():
                yield {"text": text}
        case ImagePart(url):
            yield _picture(url)
        case ThinkingPart(text, signature):
            if signature:  # it would be refused without
                thought = {"text": text, "signature": signature}
                yield {"reasoningContent": {"reasoningText": thought}}
        case RedactedThinkingPart(data):
            yield {"reasoningContent": {"redactedContent": data}}


def _picture(url: str) -> Block:
    """A picture by its bytes, which AWS takes in base64 as they are; it fetches none."""
    found = _PICTURE.match(url)
    if found is None:
        raise Untranslatable("messages[].content[].image_url", TARGET)
    kind = found[1].lower().replace("jpg", "jpeg")
    return {"image": {"format": kind, "source": {"bytes": url[found.end() :]}}}


def _use(use: ToolUse) -> Block:
    call = {"toolUseId": _tool_id(use.id), "name": use.name, "input": object_of(use.arguments)}
    return {"toolUse": call}


def _result(message: Message) -> Block:
    result: Block = {
        "toolUseId": _tool_id(message.tool_call_id or ""),
        "content": [block for part in message.parts for block in _block(part)],
    }
    if message.is_error:
        result["status"] = "error"
    return {"toolResult": result}


def _tool_id(text: str) -> str:
    """The id, or one made out of it that AWS takes: always the same one."""
    if _TOOL_ID.fullmatch(text):
        return text
    return f"call_{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def _results_first(blocks: list[Block]) -> list[Block]:
    return sorted(blocks, key=lambda block: "toolResult" not in block)


def _strip_end(blocks: list[Block]) -> None:
    last = blocks[-1].get("text")
    if isinstance(last, str):  # never blank
        blocks[-1] = {"text": last.rstrip()}
