"""The dialect of Responses as one object, for clients that speak it and for servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from parsers.chat import ChatRequest, Operation, Request
from parsers.dialects.base import Amend, Identity, Members, RequestHead
from parsers.dialects.named import NamedSurface
from parsers.dialects.openai import envelope
from parsers.dialects.openai import errors as openai_errors
from parsers.dialects.responses import decoder, encoder, errors, request_reader
from parsers.dialects.responses.answer import echo_of
from parsers.dialects.responses.request_writer import request_members
from parsers.events import Failed, Fault, StreamEvent

_NOTHING: Mapping[str, object] = MappingProxyType({})


class Responses(NamedSurface):
    """OpenAI Responses, without a request at hand."""

    name = "openai-responses"
    operation = Operation.CHAT
    spoken = frozenset(
        {
            *("max_tokens", "logprobs", "temperature", "top_p", "user", "reasoning_effort"),
            *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
            *("images", "thinking"),
        }
    )
    words: Mapping[str, str] = MappingProxyType(
        {
            "max_tokens": "max_output_tokens",
            "logprobs": "top_logprobs",
            "reasoning_effort": "reasoning",
            "response_format": "text.format",
        }
    )
    # The SDKs skip comments, if no `id:` line came before (upstreams.md 0).
    keepalive = b": keep-alive\n\n"
    remembers = True  # reasoning and calls by their ids, and `previous_response_id`

    # For servers

    def members_of(self, request: Request, model: str) -> Members:
        """The members of a request body. Raises Untranslatable for raw text."""
        return request_members(request, model)

    def new_reader(self) -> decoder.ResponsesReader:
        """A reader for the events of one streamed answer."""
        return decoder.ResponsesReader()

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole, not streamed answer as the same events, terminal event included."""
        return decoder.decode_body(body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """How a whole answer ended, without what was said in it."""
        return decoder.judge_body(body)

    # For clients

    def peek(self, body: bytes) -> RequestHead:
        """Model and stream flag. Raises BadPayload, with a text for the client, on bad input.

        Usage is always told here, and never in a frame of its own.
        """
        return msgspec.structs.replace(envelope.peek(body), include_usage=True)

    def decode_request(self, body: bytes) -> ChatRequest:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""
        return request_reader.decode_request(body)

    def forward(
        self, body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
    ) -> bytes:
        """The same request under the upstream's model name. Usage need not be asked for."""
        del usage
        return envelope.forward(body, model, usage=False, amend=amend, members=members)

    def stream_encoder(
        self, identity: Identity, *, include_usage: bool
    ) -> encoder.ResponsesEncoder:
        """An encoder for one streamed answer."""
        del include_usage
        return encoder.ResponsesEncoder(identity, _NOTHING)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""
        return encoder.encode_body(events, identity, _NOTHING)

    def encode_error(self, fault: Fault, status: int) -> bytes:
        """The body of an error answer, the same as in chat."""
        del status
        return openai_errors.encode_error(fault)

    def error_frame(self, fault: Fault, status: int) -> bytes:
        """The event `error`. Without the stream before it nobody knows what it belongs to."""
        del status
        return errors.error_event(fault)

    def error_status(self, fault: Fault, status: int, *, streaming: bool) -> int:
        """The status as it is."""
        del fault, streaming
        return status


class ResponsesExchange(Responses):
    """The same for one request, of which its answer repeats parts, and for its answer.

    A failure frame goes on where the stream stands: `error`, then `response.failed` with what had
    been said. Make one for each request.
    """

    def __init__(self) -> None:
        self._echo = _NOTHING
        self._encoder: encoder.ResponsesEncoder | None = None  # of the last attempt

    def decode_request(self, body: bytes) -> ChatRequest:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""
        request = super().decode_request(body)
        self._echo = echo_of(body)
        return request

    def forward(
        self, body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
    ) -> bytes:
        """The same request under the upstream's model name; the answer is the upstream's own."""
        self._encoder = None
        return super().forward(body, model, usage=usage, amend=amend, members=members)

    def stream_encoder(
        self, identity: Identity, *, include_usage: bool
    ) -> encoder.ResponsesEncoder:
        """An encoder for the answer."""
        del include_usage
        self._encoder = encoder.ResponsesEncoder(identity, self._echo)
        return self._encoder

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""
        return encoder.encode_body(events, identity, self._echo)

    def error_frame(self, fault: Fault, status: int) -> bytes:
        """The frames that tell of a failure after the first byte.

        On the exact path the stream is the upstream's, so there is no more than `error`.
        """
        if self._encoder is None:
            return super().error_frame(fault, status)
        return self._encoder.encode(Failed(fault))


RESPONSES = Responses()
