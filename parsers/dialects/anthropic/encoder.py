"""Events, as the events of a streamed message."""

from __future__ import annotations

from typing import assert_never

import msgspec

from parsers.dialects.anthropic.answers import (
    Stop,
    UsageObject,
    made_up_id,
    stop_of,
    usage_object,
)
from parsers.dialects.anthropic.blocks import Blocks
from parsers.dialects.anthropic.errors import error_frame
from parsers.dialects.base import Identity
from parsers.events import (
    Ended,
    Failed,
    Finished,
    RedactedThinking,
    Refusal,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

_json = msgspec.json.Encoder().encode

_START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":%b,"type":"message",'
    b'"role":"assistant","model":%b,"content":[],"stop_reason":null,"stop_sequence":null,'
    b'"usage":%b}}\n\n'
)
_DELTA = b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class MessageEncoder:
    """One streamed answer, in the strict order of events that the official SDK demands.

    `message_start` waits for the first content, so that it can say what an upstream told of the
    input by then. `message_delta` waits for the end, when the counts are final. A message is one
    answer: other choices than the first are left out. After a failure comes its error event and
    nothing else.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._blocks = Blocks()
        self._begun = False
        self._refused = False
        self._usage: Usage | None = None
        self._finished: Finished | None = None

    def encode(self, event: StreamEvent) -> bytes:
        """The frames for this event; empty where the dialect has no word for it, or not yet."""
        # per token
        match event:
            case (
                Text() | Refusal() | Thinking() | RedactedThinking() | ToolCall() | ToolArguments()
            ):
                if event.choice:
                    return b""
                out = self._content(event)
                return out if self._begun or not out else self._begin() + out
            case Finished():
                if not event.choice:
                    self._finished = event
            case Usage():
                self._usage = event
            case Started():
                pass
            case Failed():
                return error_frame(event.fault)
            case Ended():
                return self._end()
            case _:
                assert_never(event)
        return b""

    def _content(
        self, event: Text | Refusal | Thinking | RedactedThinking | ToolCall | ToolArguments
    ) -> bytes:
        # per token
        blocks = self._blocks
        match event:
            case Text():
                return blocks.text(event.text) if event.text else b""
            case ToolArguments():
                return blocks.arguments(event)
            case Thinking():
                return blocks.thinking(event)
            case Refusal():
                self._refused = True
                return blocks.text(event.text) if event.text else b""
            case RedactedThinking():
                return blocks.redacted(event)
            case ToolCall():
                return blocks.call(event, event.id or made_up_id(self._identity, event))
            case _:
                assert_never(event)

    def _begin(self) -> bytes:
        self._begun = True
        usage = usage_object(self._usage)
        head = UsageObject(
            usage.input_tokens,
            0,
            usage.cache_creation_input_tokens,
            usage.cache_read_input_tokens,
        )
        return _START % (_json(self._identity.id), _json(self._identity.model), _json(head))

    def _end(self) -> bytes:
        begin = b"" if self._begun else self._begin()
        stop: Stop = stop_of(self._finished, called=self._blocks.has_calls, refused=self._refused)
        delta = _DELTA % (_json(stop), _json(usage_object(self._usage)))
        return begin + self._blocks.close() + delta + _STOP
