"""The dialect of chat completions as one object, for clients that speak it and for servers."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.chat import ChatRequest, Operation, Request
from parsers.dialects import faults
from parsers.dialects.base import MAX_EVENT_BYTES, Amend, Identity, Members, RequestHead
from parsers.dialects.openai import decoder, encoder, envelope, errors, request_reader
from parsers.dialects.openai.request_writer import request_members
from parsers.events import Fault, StreamEvent


class OpenAIChat:
    """OpenAI chat completions. A server with habits of its own is a subclass with an `amend`."""

    name = "openai-chat"
    operation = Operation.CHAT
    # The SDKs skip comments, if no `id:` line came before (upstreams.md 0).
    keepalive = b": keep-alive\n\n"

    # For servers

    def amend(self, members: Members) -> None:
        """Nothing: the server reads its dialect as it is."""

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body, amended. Raises Untranslatable for raw text."""
        members = request_members(request, model)
        self.amend(members)
        return msgspec.json.encode(members)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> decoder.OpenAIDecoder:
        """A decoder for one streamed answer."""
        return decoder.OpenAIDecoder(max_event_bytes)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole, not streamed answer as the same events, terminal event included."""
        return decoder.decode_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, from whatever body came with it."""
        return faults.from_response(status, body)

    # For clients

    def peek(self, body: bytes) -> RequestHead:
        """Model and stream flag. Raises BadPayload, with a text for the client, on bad input."""
        return envelope.peek(body)

    def decode_request(self, body: bytes) -> ChatRequest:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""
        return request_reader.decode_request(body)

    def forward(self, body: bytes, model: str, *, usage: bool, amend: Amend) -> bytes:
        """The same request under the upstream's model name, asking for usage if told to."""
        return envelope.forward(body, model, usage=usage, amend=amend)

    def without_usage(self, frames: bytes) -> bytes:
        """Whole frames as read, without those that only report usage."""
        return envelope.without_usage(frames)

    def stream_encoder(self, identity: Identity, *, include_usage: bool) -> encoder.OpenAIEncoder:
        """An encoder for one streamed answer."""
        return encoder.OpenAIEncoder(identity, include_usage=include_usage)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""
        return encoder.encode_body(events, identity)

    def encode_error(self, fault: Fault, status: int) -> bytes:  # noqa: ARG002  OpenAI's body names no status
        """The body of an error answer."""
        return errors.encode_error(fault)

    def error_frame(self, fault: Fault, status: int) -> bytes:  # noqa: ARG002  as above
        """The frame that tells of a failure after the first byte."""
        return errors.error_frame(fault)


OPENAI_CHAT = OpenAIChat()
