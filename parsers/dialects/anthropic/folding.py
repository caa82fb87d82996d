"""A whole message put together from its events."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.dialects.anthropic.answers import UsageObject, made_up_id, stop_of, usage_object
from parsers.dialects.base import Identity
from parsers.dialects.objects import object_of
from parsers.events import (
    Finished,
    RedactedThinking,
    Refusal,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)


class _Text(msgspec.Struct):
    text: list[str]


class _Thought(msgspec.Struct):
    thinking: list[str]
    signature: str = ""


class _Call(msgspec.Struct):
    id: str
    name: str
    input: list[str]


class _Redacted(msgspec.Struct):
    data: str


class _Message(msgspec.Struct, tag="message"):
    id: str
    model: str
    content: list[dict[str, object]]
    stop_reason: str | None
    stop_sequence: str | None
    usage: UsageObject
    role: str = "assistant"


class _Answer:
    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._blocks: list[_Text | _Thought | _Redacted | _Call] = []
        self._calls: dict[int, _Call] = {}
        self._refused = False
        self._finished: Finished | None = None
        self._usage: Usage | None = None

    def add(self, event: StreamEvent) -> None:
        match event:
            case Usage():
                self._usage = event
            case Finished(choice=0):
                self._finished = event
            case Text(choice=0):
                self._add_text(event.text)
            case Refusal(choice=0):
                self._refused = True
                self._add_text(event.text)
            case Thinking(choice=0):
                self._add_thought(event)
            case RedactedThinking(choice=0):
                self._blocks.append(_Redacted(event.data))
            case ToolCall(choice=0):
                call_id = event.id or made_up_id(self._identity, event)
                call = self._calls[event.call] = _Call(call_id, event.name, [])
                self._blocks.append(call)
            case ToolArguments(choice=0):
                self._calls[event.call].input.append(event.fragment)
            case _:
                pass

    def encode(self) -> bytes:
        stop = stop_of(self._finished, called=bool(self._calls), refused=self._refused)
        message = _Message(
            id=self._identity.id,
            model=self._identity.model,
            content=[_content(block) for block in self._blocks],
            stop_reason=stop.stop_reason,
            stop_sequence=stop.stop_sequence,
            usage=usage_object(self._usage),
        )
        return msgspec.json.encode(message)

    def _add_text(self, text: str) -> None:
        last = self._blocks[-1] if self._blocks else None
        if not text:
            return
        if not isinstance(last, _Text):
            last = _Text([])
            self._blocks.append(last)
        last.text.append(text)

    def _add_thought(self, event: Thinking) -> None:
        last = self._blocks[-1] if self._blocks else None
        if not event.text and not event.signature:
            return
        if not isinstance(last, _Thought) or last.signature:
            last = _Thought([])
            self._blocks.append(last)
        last.thinking.append(event.text)
        last.signature = event.signature or ""


def encode_body(events: Iterable[StreamEvent], identity: Identity) -> bytes:
    """The whole answer folded from its events; there is no `Failed` among them."""
    answer = _Answer(identity)
    for event in events:
        answer.add(event)
    return answer.encode()


def _content(block: _Text | _Thought | _Redacted | _Call) -> dict[str, object]:
    """A block as it is written."""
    match block:
        case _Text():
            return {"type": "text", "text": "".join(block.text)}
        case _Thought():
            thinking = "".join(block.thinking)
            return {"type": "thinking", "thinking": thinking, "signature": block.signature}
        case _Redacted():
            return {"type": "redacted_thinking", "data": block.data}
        case _Call():
            arguments = object_of("".join(block.input))
            return {"type": "tool_use", "id": block.id, "name": block.name, "input": arguments}
