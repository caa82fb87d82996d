"""The dialect of `generateContent` and `streamGenerateContent` as one object, upstream side only.

The path names the model and says whether to stream, so neither stands in the body.
"""

from __future__ import annotations

from parsers.chat import ChatRequest, Request
from parsers.dialects.base import MAX_EVENT_BYTES, Members
from parsers.dialects.gemini import decoder, errors, request_writer
from parsers.dialects.prompt_chat import as_chat
from parsers.events import Fault, StreamEvent

_SPOKEN = frozenset(
    {
        *("max_tokens", "stop", "n", "temperature", "top_p", "top_k", "seed"),
        *("presence_penalty", "frequency_penalty", "reasoning_effort", "images"),
        *("tools", "tool_choice", "response_format"),
    }
)


class Gemini:
    """Gemini. A text to be continued goes to it as the one message of a conversation."""

    name = "gemini"
    spoken = _SPOKEN

    def amend(self, members: Members) -> None:
        """Nothing: no client speaks it."""

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body. Raises Untranslatable."""
        chat = request if isinstance(request, ChatRequest) else as_chat(request)
        return request_writer.encode(chat, model)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> decoder.GeminiDecoder:
        """A decoder for one answer in server-sent events (`alt=sse`)."""
        return decoder.GeminiDecoder(max_event_bytes)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole answer as events, also one that came as an array of chunks."""
        return decoder.decode_body(body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """As `decode_body`: there is no exact path to be quick on."""
        return decoder.decode_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, and when to come back if the server says it."""
        return errors.from_response(status, body)


GEMINI = Gemini()
