"""Bedrock's InvokeModel for Anthropic's models: their own dialect within AWS's frames.

The body is that of Messages without the model, which the path names, and without `stream`, which
it tells too. Each frame of a stream holds one of Anthropic's events, in base64; an overload may
come as such an event, inside a frame that is none (BerriAI/litellm#29187).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from parsers.chat import Request
from parsers.dialects import repair
from parsers.dialects.anthropic import AnthropicReader, decode_body, judge_body, request_members
from parsers.dialects.base import MAX_EVENT_BYTES, Members
from parsers.dialects.bedrock.errors import refusal
from parsers.dialects.bedrock.framing import MessageDecoder
from parsers.events import Fault, StreamEvent

_SPOKEN = frozenset(
    {
        *("max_tokens", "stop", "temperature", "top_p", "top_k", "user", "images", "thinking"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
    }
)
_VERSION = msgspec.Raw(b'"bedrock-2023-05-31"')


class _Chunk(msgspec.Struct, frozen=True, gc=False):
    event: bytes = msgspec.field(name="bytes")  # base64 on the wire


_CHUNK = msgspec.json.Decoder(_Chunk)


class _ChunkReader:
    """Gives what is in each chunk to the reader of what models of Anthropic's say."""

    def __init__(self) -> None:
        self._reader = AnthropicReader()

    @property
    def complete(self) -> bool:
        """Whether the message has said why it ends."""
        return self._reader.complete

    @property
    def started(self) -> bool:
        """Whether the message has begun."""
        return self._reader.started

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether that ends the answer. Raises BadPayload."""
        # per token
        if name != "chunk":
            return False
        return self._reader.read(repair.decode(_CHUNK, payload).event, "", events)


class InvokeAnthropic(msgspec.Struct, frozen=True):
    """InvokeModel. It demands `max_tokens`: whoever plans the request sees to that."""

    model: str = ""  # its name at Anthropic, which says what it can; the upstream's if not given
    name: str = "bedrock-invoke-anthropic"

    @property
    def spoken(self) -> frozenset[str]:
        """What Anthropic's own servers understand."""
        return _SPOKEN

    def amend(self, members: Members) -> None:
        """Make a request for Messages one for InvokeModel."""
        members.pop("model", None)
        members.pop("stream", None)
        members["anthropic_version"] = _VERSION

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body. Raises Untranslatable."""
        members = request_members(request, self.model or model)
        self.amend(members)
        return msgspec.json.encode(members)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> MessageDecoder:
        """A decoder for one streamed answer."""
        return MessageDecoder(_ChunkReader(), max_event_bytes, marked=False)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole answer as events."""
        return decode_body(body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """How a whole answer ended, without what was said in it."""
        return judge_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, for who has not seen its headers."""
        return refusal(status, {}, body)

    def decode_refusal(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Fault:
        """What a failed call was about; its kind stands in a header."""
        return refusal(status, headers, body)
