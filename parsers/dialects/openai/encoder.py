"""Events, as the bytes of a chat completion, streamed or whole."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, assert_never

import msgspec

from parsers.dialects.base import Identity
from parsers.dialects.openai.blocks import RedactedBlock, ThinkingBlock, extra_content
from parsers.dialects.openai.errors import error_frame
from parsers.dialects.openai.folding import Answer, made_up_id, usage_object
from parsers.events import (
    Ended,
    Failed,
    Finished,
    FinishReason,
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

_ARGUMENTS = b'"tool_calls":[{"index":%d,"function":{"arguments":%s}}]'
_CALL = (
    b'"tool_calls":[{"index":%d,"id":%s,"type":"function","function":{"name":%s,"arguments":""}%b}]'
)
_EXTRA = b',"extra_content":%b'
_BLOCKS = b'"thinking_blocks":[%b]'

_Piece: TypeAlias = ToolCall | ToolArguments | Thinking | RedactedThinking | Refusal


class OpenAIEncoder:
    """One streamed answer: a role chunk per choice, deltas, a finish chunk per choice, `[DONE]`.

    No finish reason is made up: a choice that the upstream ended without one has no finish chunk,
    unless it made calls (TGI), which is reason enough. After a failure comes its error frame and
    nothing else.
    """

    def __init__(self, identity: Identity, *, include_usage: bool) -> None:
        self._identity = identity
        self._include_usage = include_usage
        self._usage: Usage | None = None
        self._heads: dict[int, bytes] = {}  # of the choices that have had their role chunk
        self._thoughts: dict[int, list[str]] = {}  # by choice: since the last block that was signed
        self._calling: dict[int, None] = {}  # the choices that made a call and have not finished
        self._head = b'data: {"id":%s,"object":"chat.completion.chunk","created":%d,"model":%s' % (
            _json(identity.id),
            identity.created,
            _json(identity.model),
        )
        self._tail = b',"usage":null}\n\n' if include_usage else b"}\n\n"
        self._end = b'},"finish_reason":null}]' + self._tail

    def encode(self, event: StreamEvent) -> bytes:
        """The frames for this event; empty where the dialect has no word for it."""
        # per token
        if isinstance(event, Text):
            return self._text(event)
        match event:
            case ToolArguments() | Refusal() | ToolCall() | Thinking() | RedactedThinking():
                return self._piece(event)
            case Finished():
                return self._finish(event)
            case Usage():
                self._usage = event  # told at the end, when it is final
            case Started():
                pass
            case Failed():
                return error_frame(event.fault)
            case Ended():
                return self._done()
            case _:
                assert_never(event)
        return b""

    def _text(self, event: Text) -> bytes:
        # per token
        content = b'"content":' + _json(event.text)
        if event.logprobs is None:
            return self._delta(event.choice, content)
        role, head = self._opened(event.choice)
        end = b'},"logprobs":%s,"finish_reason":null}]' % bytes(event.logprobs)
        return role + head + content + end + self._tail

    def _piece(self, event: _Piece) -> bytes:
        # per token
        match event:
            case ToolArguments():
                delta = _ARGUMENTS % (event.call, _json(event.fragment))
            case Refusal():
                delta = b'"refusal":' + _json(event.text)
            case ToolCall():
                return self._call(event)
            case Thinking():
                return self._thought(event)
            case RedactedThinking():
                delta = _BLOCKS % _json(RedactedBlock(event.data))
            case _:
                assert_never(event)
        return self._delta(event.choice, delta)

    def _thought(self, event: Thinking) -> bytes:
        # per token
        out = b""
        if event.text:
            self._thoughts.setdefault(event.choice, []).append(event.text)
            out = self._delta(event.choice, b'"reasoning_content":' + _json(event.text))
        if event.signature is None:
            return out
        # Whole, for pieces of a block could not be sent back (translation.md 8).
        block = ThinkingBlock("".join(self._thoughts.pop(event.choice, ())), event.signature)
        return out + self._delta(event.choice, _BLOCKS % _json(block))

    def _delta(self, choice: int, delta: bytes) -> bytes:
        # per token
        head = self._heads.get(choice)
        if head is None:
            role, head = self._opened(choice)
            return role + head + delta + self._end
        return head + delta + self._end

    def _opened(self, choice: int) -> tuple[bytes, bytes]:
        """The role chunk, if the choice has not had it, and the beginning of its chunks."""
        head = self._heads.get(choice)
        if head is not None:
            return b"", head
        # OpenAI's own SDK fails on a stream that begins with another choice than the first.
        first = self._opened(0)[0] if choice and not self._heads else b""
        head = self._head + b',"choices":[{"index":%d,"delta":{' % choice
        self._heads[choice] = head
        return first + head + b'"role":"assistant","content":""' + self._end, head

    def _call(self, event: ToolCall) -> bytes:
        call_id = event.id or made_up_id(self._identity, event)
        extra = b"" if event.signature is None else _EXTRA % _json(extra_content(event.signature))
        delta = _CALL % (event.call, _json(call_id), _json(event.name), extra)
        self._calling[event.choice] = None
        return self._delta(event.choice, delta)

    def _finish(self, event: Finished) -> bytes:
        role, head = self._opened(event.choice)
        self._calling.pop(event.choice, None)
        members = b'},"finish_reason":' + _json(event.reason)
        # What our words cannot say stays readable under OpenRouter's and vLLM's names.
        if event.raw is not None and event.raw != event.reason:
            members += b',"native_finish_reason":' + _json(event.raw)
        if event.stop is not None:
            members += b',"stop_reason":' + _json(event.stop)
        return role + head + members + b"}]" + self._tail

    def _done(self) -> bytes:
        role = b"" if self._heads else self._opened(0)[0]
        frames = [
            self._finish(Finished(FinishReason.TOOL_CALLS, choice)) for choice in [*self._calling]
        ]
        if self._include_usage and self._usage is not None:
            usage = _json(usage_object(self._usage))
            frames.append(self._head + b',"choices":[],"usage":' + usage + b"}\n\n")
        return role + b"".join(frames) + b"data: [DONE]\n\n"


def encode_body(events: Iterable[StreamEvent], identity: Identity) -> bytes:
    """The whole answer folded from its events; there is no `Failed` among them."""
    answer = Answer(identity)
    for event in events:
        answer.add(event)
    return answer.encode()
