"""Ollama's own protocol as one object.

Its OpenAI route loses the errors of a stream: there an error line becomes an empty chunk, and the
body just ends (upstreams.md 4). Here they are told.
"""

from __future__ import annotations

from parsers.chat import CompletionRequest, Request
from parsers.dialects.base import MAX_EVENT_BYTES
from parsers.dialects.native import NativeServer
from parsers.dialects.ndjson import LineDecoder
from parsers.dialects.ollama import request as requests
from parsers.dialects.ollama.decoder import LineReader
from parsers.dialects.prompt_chat import as_chat


class Ollama(NativeServer):
    """The native protocol of Ollama's server, for chat and for raw text."""

    name = "ollama"
    reader = LineReader
    spoken = frozenset(
        {
            *("max_tokens", "stop", "temperature", "top_p", "top_k", "typical_p", "seed"),
            *("presence_penalty", "frequency_penalty", "repetition_penalty", "tools", "images"),
            *("response_format", "reasoning_effort", "thinking", "suffix"),
        }
    )

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body. Raises Untranslatable for a picture by its URL."""
        return requests.encode(request, model)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> LineDecoder:
        """A decoder for one streamed answer."""
        return LineDecoder(LineReader(), max_event_bytes)


class OllamaPrompts(Ollama):
    """The same for completions of models that have no other template than that of a chat."""

    name = "ollama-of-prompts"
    spoken = Ollama.spoken - {"suffix"}

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body. Raises Untranslatable for what a conversation cannot say."""
        if isinstance(request, CompletionRequest):
            request = as_chat(request)
        return super().encode_request(request, model)


OLLAMA = Ollama()
OLLAMA_PROMPTS = OllamaPrompts()
