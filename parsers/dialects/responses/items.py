"""The items of an answer while it is put together: messages, reasoning, calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypeAlias

import msgspec

from parsers.dialects.openai.blocks import extra_content
from parsers.dialects.openai.folding import Logprobs
from parsers.events import ToolCall

_Object = dict[str, object]
_json = msgspec.json.Encoder().encode

PartKind: TypeAlias = Literal["output_text", "refusal", "reasoning_text"]
Status: TypeAlias = Literal["in_progress", "completed", "incomplete"]


class Part:
    """A part of an item's content; `member` is the name of its text."""

    def __init__(self, kind: PartKind, index: int) -> None:
        self.kind = kind
        self.index = index
        self.member = "refusal" if kind == "refusal" else "text"
        self.pieces: list[str] = []
        self.logprobs: list[object] = []

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self.pieces)

    def object(self) -> _Object:
        """The part as it stands."""
        part: _Object = {"type": self.kind, self.member: self.text}
        if self.kind == "output_text":
            part |= {"annotations": [], "logprobs": self.logprobs}
        return part


class Item(ABC):
    """An entry of `output`; its id stays what it is for the whole answer."""

    prefix: ClassVar[str]

    def __init__(self, suffix: str, index: int) -> None:
        self.id = f"{self.prefix}_{suffix}_{index}"
        self.index = index
        self.status: Status = "in_progress"
        self.place = b'"item_id":%b,"output_index":%d' % (_json(self.id), index)

    @abstractmethod
    def object(self) -> _Object:
        """The item as it stands."""


class ContentItem(Item):
    """An item of parts: a message, unless a subclass says otherwise."""

    prefix = "msg"

    def __init__(self, suffix: str, index: int) -> None:
        super().__init__(suffix, index)
        self.parts: list[Part] = []

    def object(self) -> _Object:
        """The item as it stands."""
        return {
            "id": self.id,
            "type": "message",
            "status": self.status,
            "role": "assistant",
            "content": [part.object() for part in self.parts],
        }


class ReasoningItem(ContentItem):
    """What the model thought. What only it can read stands in `encrypted_content`."""

    prefix = "rs"

    def __init__(self, suffix: str, index: int) -> None:
        super().__init__(suffix, index)
        self.sealed: str | None = None

    def object(self) -> _Object:
        """The item as it stands."""
        return {
            "id": self.id,
            "type": "reasoning",
            "status": self.status,
            "summary": [],
            "content": [part.object() for part in self.parts],
            "encrypted_content": self.sealed,
        }


class CallItem(Item):
    """A call of a function."""

    prefix = "fc"

    def __init__(self, suffix: str, index: int, call_id: str, call: ToolCall) -> None:
        super().__init__(suffix, index)
        self.call_id = call_id
        self.name = call.name
        self.signature = call.signature
        self.pieces: list[str] = []

    @property
    def arguments(self) -> str:
        """All that was said of them."""
        return "".join(self.pieces)

    def object(self) -> _Object:
        """The item as it stands."""
        item: _Object = {
            "id": self.id,
            "type": "function_call",
            "status": self.status,
            "arguments": self.arguments,
            "call_id": self.call_id,
            "name": self.name,
        }
        if self.signature is not None:  # the next turn brings it back, as in chat
            item["extra_content"] = extra_content(self.signature)
        return item


def entries_of(logprobs: msgspec.Raw | None) -> list[object]:
    """The entries for some tokens, out of the form that chat gives them."""
    if logprobs is None:
        return []
    try:
        content = msgspec.json.decode(logprobs, type=Logprobs).content or []
        return [msgspec.json.decode(entry) for entry in content]
    except msgspec.DecodeError:  # not OpenAI's shape
        return []
