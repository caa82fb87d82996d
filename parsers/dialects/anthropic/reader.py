"""What Anthropic answers: the events of a stream, and the one JSON object (upstreams.md 7).

Events are told apart by the `type` in them, for compatible servers leave the `event:` line out,
and those of an unknown type say nothing. What a piece says is chosen by which member is there, and
only confirmed by its type: so no string but the text itself decides what is told of a text, which
is what `glance` builds upon.

A block may lack its end (at `max_tokens`), and a call may come whole with its block's start.
"""

from __future__ import annotations

from parsers.dialects import faults, repair
from parsers.dialects.anthropic.tally import Tally
from parsers.dialects.anthropic.wire import BARE, BODY, EVENT, KIND, Block, Delta, Event, Head
from parsers.dialects.repair import NOT_JSON
from parsers.errors import BadPayload
from parsers.events import (
    TERMINAL,
    Ended,
    Failed,
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

# Well above any real answer; bounds on what a broken server can make us remember.
_MAX_CALLS = 1024
_MAX_OPEN = 1024
_NO_ARGUMENTS = "{}"  # what a call without arguments means; clients parse it
_EMPTY_INPUTS = frozenset({"", "null", '""', _NO_ARGUMENTS})
_DONE = b"[DONE]"  # some compatible servers end with OpenAI's mark, which proves nothing

_KNOWN = frozenset(
    {
        *("message_start", "message_delta", "message_stop", "ping", "error"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
    }
)

REASONS = {
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,
    "tool_use": FinishReason.TOOL_CALLS,
    "max_tokens": FinishReason.LENGTH,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "refusal": FinishReason.CONTENT_FILTER,
}


class _OpenCall:
    __slots__ = ("number", "unsaid")

    def __init__(self, number: int, unsaid: str) -> None:
        self.number = number
        self.unsaid = unsaid  # its arguments, if no pieces of them come


class AnthropicReader:
    """The events of one streamed answer, whatever they were framed in."""

    def __init__(self) -> None:
        self.started = False
        self.complete = False
        self._tally = Tally()
        self._calls = 0
        self._open: dict[int, _OpenCall | None] = {}  # by index; None for a block of no call

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether that ends the answer. Raises BadPayload."""
        # per token
        try:
            event = EVENT.decode(payload)
        except NOT_JSON:
            return self._read_odd(payload, name, events)
        return self._read_event(event, payload, name, events)

    def _read_event(
        self, event: Event, payload: bytes, name: str, events: list[StreamEvent]
    ) -> bool:
        # per token
        if event.error or name == "error":
            return _recognised(payload, name, events)
        if event.delta is not None and event.type == "content_block_delta":
            self._read_delta(event.delta, event.index, events)
            return False
        over = self._read_mark(event, events)
        return _recognised(payload, name, events) if over is None else over

    def read_body(self, body: bytes) -> list[StreamEvent]:
        """A whole answer, or the error or the page that came in its place."""
        events: list[StreamEvent] = []
        try:
            answer = repair.decode(BODY, body)
            if answer.error or answer.content is None:
                return [Failed(faults.from_response(200, body))]
            self._start(answer, events)
            for index, block in enumerate(answer.content):
                self._open_block(block, index, events)
                self._close_block(index, events)
        except BadPayload:
            return [Failed(faults.from_response(200, body))]
        self._finish(answer.stop_reason, answer.stop_sequence, events)
        return [*events, Ended()]

    def _read_odd(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """A payload that needs repair, or is of a kind unheard of. Raises BadPayload."""
        if payload.strip() == _DONE:
            return False
        try:
            event = repair.decode(EVENT, payload)
        except BadPayload:
            if repair.decode(KIND, payload).type in _KNOWN:
                raise
            return _recognised(payload, name, events)
        return self._read_event(event, payload, name, events)

    def _read_mark(self, event: Event, events: list[StreamEvent]) -> bool | None:
        """Everything but the pieces of blocks; None for an event of no known type."""
        match event.type:
            case "message_start":
                self._start(event.message or Head(), events)
            case "content_block_start" if event.content_block is not None and event.delta is None:
                self.started = True
                self._open_block(event.content_block, event.index, events)
            case "content_block_stop":
                self._close_block(event.index, events)
            case "message_delta":
                if event.delta is not None:
                    self._finish(event.delta.stop_reason, event.delta.stop_sequence, events)
                self._count(event, events)
            case "message_stop":
                events.append(Ended(proven=self.complete))
                return True
            case "ping":
                pass
            case _:
                return None
        return False

    def _start(self, head: Head, events: list[StreamEvent]) -> None:
        # Some compatible servers begin twice.
        if not self.started:
            self.started = True
            events.append(Started(_text(head.id), _text(head.model)))
        self._count(head, events)

    def _count(self, told: Head | Event, events: list[StreamEvent]) -> None:
        usage = self._tally.add(told.usage)
        if usage is not None:
            events.append(usage)

    def _read_delta(self, delta: Delta, index: object, events: list[StreamEvent]) -> None:
        # per token
        if self.complete:
            return
        self.started = True
        if delta.text is not None:
            if delta.type == "text_delta" and (text := _text(delta.text)):
                events.append(Text(text))
        elif delta.thinking is not None:
            if delta.type == "thinking_delta" and (text := _text(delta.thinking)):
                events.append(Thinking(text))
        elif delta.partial_json is not None:
            self._read_arguments(delta.partial_json, index, events)
        elif delta.type == "signature_delta" and (text := _text(delta.signature)):
            events.append(Thinking("", signature=text))

    def _read_arguments(self, piece: object, index: object, events: list[StreamEvent]) -> None:
        # per token
        if not isinstance(piece, str) or not piece:
            return
        if not isinstance(index, int) or index not in self._open:
            raise BadPayload("arguments of a tool call that was not opened")
        call = self._open[index]
        if call is not None:  # else it is a call that the server makes itself
            call.unsaid = ""
            events.append(ToolArguments(call.number, piece))

    def _open_block(self, block: Block, index: object, events: list[StreamEvent]) -> None:
        if self.complete:
            return
        if not isinstance(index, int):
            raise BadPayload("a block without a number")
        self._close_block(index, events)  # some compatible servers number all blocks 0
        if len(self._open) == _MAX_OPEN:
            raise BadPayload("too many open blocks in one answer")
        call = None
        match block.type:
            case "text" if text := _text(block.text):
                events.append(Text(text))
            case "thinking":
                text, signature = _text(block.thinking), _text(block.signature)
                if text or signature:
                    events.append(Thinking(text or "", signature=signature))
            case "redacted_thinking" if data := _text(block.data):
                events.append(RedactedThinking(data))
            case "tool_use":
                call = self._open_call(block, events)
            case _:
                pass
        self._open[index] = call

    def _open_call(self, block: Block, events: list[StreamEvent]) -> _OpenCall:
        if self._calls == _MAX_CALLS:
            raise BadPayload("too many tool calls in one answer")
        call = _OpenCall(self._calls, _input(block))
        self._calls += 1
        events.append(ToolCall(call.number, _text(block.id), _text(block.name) or ""))
        return call

    def _close_block(self, index: object, events: list[StreamEvent]) -> None:
        call = self._open.pop(index, None) if isinstance(index, int) else None
        if call is not None and call.unsaid and not self.complete:
            events.append(ToolArguments(call.number, call.unsaid))

    def _finish(self, word: object, sequence: object, events: list[StreamEvent]) -> None:
        """The message's end, if this names a reason for it; once."""
        raw = _text(word)
        if raw is None or self.complete:
            return
        # A word that nobody knows is told as a stop, and stays in `raw`.
        reason = REASONS.get(raw, FinishReason.STOP)
        if reason is FinishReason.STOP and self._calls:  # some compatible servers
            reason = FinishReason.TOOL_CALLS
        if reason is not FinishReason.LENGTH:  # else what is open was cut off
            for index in [*self._open]:
                self._close_block(index, events)
        self.complete = True
        events.append(Finished(reason, raw=raw, stop=_text(sequence)))


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer, or the error or the page that came in its place, as events."""
    return AnthropicReader().read_body(body)


def judge_body(body: bytes) -> list[StreamEvent]:
    """What `decode_body` says of how a whole answer ended, without what was said in it."""
    try:
        answer = BARE.decode(body)
    except NOT_JSON:
        return _endings(body)
    word = _text(answer.stop_reason)
    reason = REASONS.get(word or "")
    if answer.error or answer.content is None or reason is None:
        return _endings(body)
    if any(block.type == "tool_use" for block in answer.content):
        return _endings(body)  # what comes with a call is told as ending in one
    finished = Finished(reason, raw=word, stop=_text(answer.stop_sequence))
    usage = Tally().add(answer.usage)
    return [finished, Ended()] if usage is None else [usage, finished, Ended()]


def _endings(body: bytes) -> list[StreamEvent]:
    kept = (Finished, Usage, *TERMINAL)
    return [event for event in decode_body(body) if isinstance(event, kept)]


def _recognised(payload: bytes, name: str, events: list[StreamEvent]) -> bool:
    """Whether an event is an error; those of unknown types are not, and say nothing."""
    fault = faults.recognise(payload, name)
    if fault is not None:
        events.append(Failed(fault))
    return fault is not None


def _input(block: Block) -> str:
    """The arguments that came with the start of a call, as JSON text; usually there are none."""
    text = bytes(block.input).decode("utf-8", "replace")
    return _NO_ARGUMENTS if text in _EMPTY_INPUTS else text


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
