"""The dialect of Messages as one object, for clients that speak it and for servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from parsers.chat import ChatRequest, Operation, Request
from parsers.dialects.anthropic import encoder, envelope, errors, folding, reader, request_reader
from parsers.dialects.anthropic.request_writer import request_members
from parsers.dialects.base import Amend, Identity, Members, RequestHead
from parsers.dialects.named import NamedSurface
from parsers.events import Fault, StreamEvent

SPOKEN = frozenset(
    {
        *("max_tokens", "stop", "temperature", "top_p", "top_k", "user", "images", "thinking"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort"),
    }
)
_WORDS = MappingProxyType(
    {
        "stop": "stop_sequences",
        "response_format": "output_config.format",
        "reasoning_effort": "thinking",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
        "user": "metadata.user_id",
    }
)


class AnthropicMessages(NamedSurface):
    """Anthropic's Messages, as Anthropic's own servers and clients speak it."""

    name = "anthropic-messages"
    operation = Operation.CHAT
    spoken = SPOKEN
    keepalive = b'event: ping\ndata: {"type": "ping"}\n\n'
    remembers = False
    words: Mapping[str, str] = _WORDS

    # For servers

    def members_of(self, request: Request, model: str) -> Members:
        """The members of a request body. Raises Untranslatable."""
        return request_members(request, model)

    def new_reader(self) -> reader.AnthropicReader:
        """A reader for the events of one streamed answer."""
        return reader.AnthropicReader()

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole, not streamed answer as the same events, terminal event included."""
        return reader.decode_body(body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """How a whole answer ended, without what was said in it."""
        return reader.judge_body(body)

    # For clients

    def peek(self, body: bytes) -> RequestHead:
        """Model and stream flag. Raises BadPayload, with a text for the client, on bad input."""
        return envelope.peek(body)

    def forward(
        self, body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
    ) -> bytes:
        """The same request under the upstream's model name; usage is always told."""
        del usage
        return envelope.forward(body, model, amend=amend, members=members)

    def decode_request(self, body: bytes) -> ChatRequest:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""
        return request_reader.decode_request(body)

    def stream_encoder(self, identity: Identity, *, include_usage: bool) -> encoder.MessageEncoder:
        """An encoder for one streamed answer; usage is always told."""
        del include_usage
        return encoder.MessageEncoder(identity)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""
        return folding.encode_body(events, identity)

    def encode_error(self, fault: Fault, status: int) -> bytes:  # noqa: ARG002  the body names no status
        """The body of an error answer."""
        return errors.encode_error(fault)

    def error_frame(self, fault: Fault, status: int) -> bytes:  # noqa: ARG002  as above
        """The event that tells of a failure after the first byte."""
        return errors.error_frame(fault)

    def error_status(self, fault: Fault, status: int, *, streaming: bool) -> int:
        """The status as it is, but for overload, which has one of its own here."""
        del streaming
        return errors.error_status(fault, status)


class AnthropicPrompt(AnthropicMessages):
    """The same for raw text, which no client asks for here, so that every request is translated."""

    name = "anthropic-messages-of-prompts"


ANTHROPIC = AnthropicMessages()
ANTHROPIC_PROMPT = AnthropicPrompt()
