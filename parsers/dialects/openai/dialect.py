"""The dialect of chat completions as one object, for clients that speak it and for servers."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.chat import ChatRequest, Operation, Request
from parsers.dialects.base import Identity
from parsers.dialects.openai import encoder, request_reader, request_writer
from parsers.dialects.openai.request_writer import Habits, request_members
from parsers.dialects.openai.surface import OpenAISurface
from parsers.events import StreamEvent

# What OpenAI's own servers understand.
SPOKEN = frozenset(
    {
        *("max_tokens", "stop", "n", "logprobs", "temperature", "top_p", "seed", "user"),
        *("presence_penalty", "frequency_penalty", "reasoning_effort", "images"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format"),
    }
)
# What vLLM, SGLang and llama.cpp added.
SELF_HOSTED = frozenset({"top_k", "typical_p", "repetition_penalty"})


class OpenAIChat(OpenAISurface):
    """OpenAI chat completions. A server with habits of its own is a subclass with an `amend`."""

    name = "openai-chat"
    operation = Operation.CHAT
    spoken = SPOKEN
    habits: Habits = request_writer.OPENAI

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body, amended. Raises Untranslatable for raw text."""
        members = request_members(request, model, self.habits)
        self.amend(members)
        return msgspec.json.encode(members)

    def decode_request(self, body: bytes) -> ChatRequest:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""
        return request_reader.decode_request(body)

    def stream_encoder(self, identity: Identity, *, include_usage: bool) -> encoder.OpenAIEncoder:
        """An encoder for one streamed answer."""
        return encoder.OpenAIEncoder(identity, include_usage=include_usage)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""
        return encoder.encode_body(events, identity)


class SelfHostedChat(OpenAIChat):
    """Chat completions as the engines that one hosts oneself understand them."""

    spoken = SPOKEN | SELF_HOSTED | {"thinking"}
    habits = request_writer.SELF_HOSTED


OPENAI_CHAT = OpenAIChat()
SELF_HOSTED_CHAT = SelfHostedChat()
