"""What an Ollama server answers: lines of JSON, the last of them with `"done": true`.

Calls come whole, their arguments as an object, and all with index 0; after them the reason still
says `stop` (upstreams.md 4). Counts that are 0 are left out.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from parsers.dialects import faults, repair
from parsers.errors import BadPayload
from parsers.events import (
    MAX_COUNT,
    Ended,
    Failed,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
_ABSENT = msgspec.Raw(b"")
_MAX_CALLS = 1024  # as for OpenAI's: a bound on what a broken server can make us remember


class _Function(msgspec.Struct, frozen=True, gc=False):
    name: str = ""
    arguments: msgspec.Raw = _ABSENT


class _Call(msgspec.Struct, frozen=True, gc=False):
    function: _Function
    id: str | None = None


class _Message(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct, frozen=True, gc=False):
    model: str | None = None
    message: _Message | None = None  # of a chat
    response: str | None = None  # of `/api/generate`, as the next
    thinking: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: _Count = 0
    eval_count: _Count = 0
    error: object = None


_LINE = msgspec.json.Decoder(_Line)
_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "load": FinishReason.STOP,  # of an answer to nothing
    "unload": FinishReason.STOP,
}


class LineReader:
    """The lines of one answer."""

    complete = False  # the end mark is the only end

    def __init__(self) -> None:
        self.started = False
        self._calls = 0

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one line says; whether that ends the answer. Raises BadPayload."""
        # per token
        line = repair.decode(_LINE, payload)
        message = line.message
        if line.error or (message is None and line.response is None and not line.done):
            fault = faults.recognise(payload, name)
            if fault is None:
                raise BadPayload("a line that is no part of an answer")
            events.append(Failed(fault))
            return True
        if not self.started:
            self.started = True
            events.append(Started(model=line.model or None))
        if message is None:
            _say(line.thinking, line.response, events)
        else:
            _say(message.thinking, message.content, events)
            for call in message.tool_calls or ():
                self._call(call, events)
        if line.done:
            self._end(line, events)
        return line.done

    def _call(self, call: _Call, events: list[StreamEvent]) -> None:
        if self._calls == _MAX_CALLS:
            raise BadPayload("too many tool calls in one answer")
        number, self._calls = self._calls, self._calls + 1
        events.append(ToolCall(number, call.id or None, call.function.name))
        arguments = bytes(call.function.arguments)
        if arguments not in (b"", b"null"):
            events.append(ToolArguments(number, arguments.decode("utf-8", "replace")))

    def _end(self, line: _Line, events: list[StreamEvent]) -> None:
        # A word that nobody knows is told as a stop, and stays in `raw`.
        reason = _REASONS.get(line.done_reason or "stop", FinishReason.STOP)
        if reason is FinishReason.STOP and self._calls:
            reason = FinishReason.TOOL_CALLS
        events.append(Finished(reason, raw=line.done_reason or None))
        if line.prompt_eval_count or line.eval_count:
            events.append(Usage(line.prompt_eval_count, line.eval_count))
        events.append(Ended())


def _say(thinking: str | None, text: str | None, events: list[StreamEvent]) -> None:
    # per token
    if thinking:
        events.append(Thinking(thinking))
    if text:
        events.append(Text(text))
