"""What Converse answers: the events of a stream, and the one JSON object (upstreams.md 8).

A text block is not opened by an event of its own, a tool call is. The end mark is `messageStop`;
`metadata`, with the token counts, comes after it, or before.
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
    Fault,
    FaultKind,
    Finished,
    FinishReason,
    RedactedThinking,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

_MAX_CALLS = 1024  # well above any real answer
_NO_ARGUMENTS = "{}"  # what a call without arguments means; clients parse it

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _Wire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    pass


class _ToolDelta(_Wire, frozen=True, gc=False):
    input: str = ""


class _Reasoning(_Wire, frozen=True, gc=False):
    text: str | None = None
    signature: str | None = None
    redacted_content: str | None = None  # base64


class _Delta(_Wire, frozen=True, gc=False):
    text: str | None = None
    tool_use: _ToolDelta | None = None
    reasoning_content: _Reasoning | None = None


class _ToolStart(_Wire, frozen=True, gc=False):
    name: str
    tool_use_id: str | None = None


class _Start(_Wire, frozen=True, gc=False):
    tool_use: _ToolStart | None = None


class _Counts(_Wire, frozen=True, gc=False):
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cache_read_input_tokens: _Count | None = None
    cache_write_input_tokens: _Count | None = None


class _Event(_Wire, frozen=True, gc=False):
    """Any event of a stream; their members do not collide."""

    content_block_index: int = 0
    start: _Start | None = None
    delta: _Delta | None = None
    stop_reason: str = ""
    usage: _Counts | None = None


class _ReasoningText(_Wire, frozen=True):
    text: str = ""
    signature: str | None = None


class _ReasoningBlock(_Wire, frozen=True):
    reasoning_text: _ReasoningText | None = None
    redacted_content: str | None = None


class _ToolUse(_ToolStart, frozen=True, gc=False):
    input: msgspec.Raw = msgspec.Raw(_NO_ARGUMENTS.encode())


class _Block(_Wire, frozen=True):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _ReasoningBlock | None = None


class _Message(_Wire, frozen=True):
    content: tuple[_Block, ...] = ()


class _Output(_Wire, frozen=True):
    message: _Message


class _Body(_Wire, frozen=True):
    output: _Output
    stop_reason: str = ""
    usage: _Counts | None = None


_EVENT = msgspec.json.Decoder(_Event)
_BODY = msgspec.json.Decoder(_Body)

_REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "guardrail_intervened": FinishReason.CONTENT_FILTER,
    "content_filtered": FinishReason.CONTENT_FILTER,
}
# The model broke off, and what it said is no answer (translation.md 6).
_FAILURES = {
    "malformed_model_output": "the model's output is malformed",
    "malformed_tool_use": "the model's tool call is malformed",
}


# Others, and there will be others, say nothing that there is a word for here.
_KNOWN = frozenset(
    {
        *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"),
        *("messageStop", "metadata"),
    }
)


class _OpenCall:
    __slots__ = ("is_bare", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_bare = True  # no arguments have come


class ConverseReader:
    """The events of one streamed answer."""

    def __init__(self) -> None:
        self.started = False
        self.complete = False
        self._counted = False
        self._calls = 0
        self._open: dict[int, _OpenCall] = {}  # by the index of their block

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether that ends the answer. Raises BadPayload."""
        # per token
        if name not in _KNOWN or (self.complete and name != "metadata"):
            return False
        event = repair.decode(_EVENT, payload)
        if not self.started:
            self.started = True
            events.append(Started())
        if event.delta is not None:
            self._read_delta(event.delta, event.content_block_index, events)
            return False
        return self._read_mark(event, name, events)

    def _read_delta(self, delta: _Delta, index: int, events: list[StreamEvent]) -> None:
        # per token
        if delta.text:
            events.append(Text(delta.text))
        if delta.tool_use is not None and delta.tool_use.input:
            call = self._open.get(index)
            if call is None:
                raise BadPayload("arguments of a tool call that was not opened")
            call.is_bare = False
            events.append(ToolArguments(call.number, delta.tool_use.input))
        if delta.reasoning_content is not None:
            events += _reasoning(delta.reasoning_content)

    def _read_mark(self, event: _Event, name: str, events: list[StreamEvent]) -> bool:
        match name:
            case "contentBlockStart" if event.start is not None and event.start.tool_use:
                events.append(self._opened(event.start.tool_use, event.content_block_index))
            case "contentBlockStop":
                call = self._open.pop(event.content_block_index, None)
                if call is not None and call.is_bare:
                    events.append(ToolArguments(call.number, _NO_ARGUMENTS))
            case "metadata" if event.usage is not None:
                self._counted = True
                events.append(_usage(event.usage))
            case "messageStop":
                self.complete = True
                events.append(_last(event.stop_reason, called=self._calls > 0))
            case _:
                pass
        return self._is_over(events)

    def _opened(self, start: _ToolStart, index: int) -> ToolCall:
        if self._calls == _MAX_CALLS:
            raise BadPayload("too many tool calls in one answer")
        call = self._open[index] = _OpenCall(self._calls)
        self._calls += 1
        return ToolCall(call.number, start.tool_use_id, start.name)

    def _is_over(self, events: list[StreamEvent]) -> bool:
        """Whether nothing more is to come; says so in an event."""
        if events and isinstance(events[-1], Failed):
            return True
        over = self.complete and self._counted
        if over:
            events.append(Ended())
        return over


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer, or the error that came in its place, as events."""
    try:
        answer = repair.decode(_BODY, body)
    except BadPayload:
        return [Failed(faults.from_response(200, body))]
    events: list[StreamEvent] = [Started()]
    calls = 0
    for block in answer.output.message.content:
        if block.text:
            events.append(Text(block.text))
        if block.reasoning_content is not None:
            events += _whole_reasoning(block.reasoning_content)
        if block.tool_use is not None:
            use = block.tool_use
            events.append(ToolCall(calls, use.tool_use_id, use.name))
            events.append(ToolArguments(calls, bytes(use.input).decode("utf-8", "replace")))
            calls += 1
    if answer.usage is not None:
        events.append(_usage(answer.usage))
    events.append(_last(answer.stop_reason, called=calls > 0))
    return events if isinstance(events[-1], Failed) else [*events, Ended()]


def _reasoning(delta: _Reasoning) -> list[StreamEvent]:
    if delta.redacted_content:
        return [RedactedThinking(delta.redacted_content)]
    if delta.text or delta.signature:
        return [Thinking(delta.text or "", signature=delta.signature or None)]
    return []


def _whole_reasoning(block: _ReasoningBlock) -> list[StreamEvent]:
    text = block.reasoning_text or _ReasoningText()
    return _reasoning(_Reasoning(text.text, text.signature, block.redacted_content))


def _last(word: str, *, called: bool) -> Finished | Failed:
    """How the message ended. A word that nobody knows is told as a stop, and stays in `raw`."""
    if word in _FAILURES:
        return Failed(Fault(FaultKind.UPSTREAM, "upstream", _FAILURES[word], type=word))
    reason = _REASONS.get(word, FinishReason.STOP)
    if called and reason is FinishReason.STOP:  # some models call a tool and end their turn
        reason = FinishReason.TOOL_CALLS
    return Finished(reason, raw=word or None)


def _usage(counts: _Counts) -> Usage:
    """The counts in OpenAI's way; Bedrock's own input count leaves the cache out."""
    read, written = counts.cache_read_input_tokens, counts.cache_write_input_tokens
    return Usage(
        prompt=counts.input_tokens + (read or 0) + (written or 0),
        completion=counts.output_tokens,
        cached=read,
        cache_write=written,
    )
