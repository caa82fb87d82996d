"""Anthropic's route that counts a prompt's tokens: passed on to who has it, and never guessed.

Its requests are those of Messages without a limit, its answer is one number.
"""

from __future__ import annotations

import msgspec

from parsers.chat import ChatRequest
from parsers.dialects import faults
from parsers.dialects.anthropic import envelope
from parsers.dialects.anthropic.dialect import AnthropicMessages
from parsers.dialects.base import RequestHead
from parsers.dialects.repair import NOT_JSON
from parsers.errors import BadPayload
from parsers.events import Ended, Failed, StreamEvent


class _Count(msgspec.Struct, frozen=True):
    input_tokens: int


_COUNT = msgspec.json.Decoder(_Count)


class AnthropicTokenCount(AnthropicMessages):
    """The dialect of `count_tokens`, exact or not at all."""

    name = "anthropic-count-tokens"

    def peek(self, body: bytes) -> RequestHead:
        """The model; a count is never streamed, whatever else of a request comes with it."""
        return msgspec.structs.replace(envelope.peek(body), stream=False)

    def decode_request(self, body: bytes) -> ChatRequest:
        """Raises BadPayload: there is no server to translate it for."""
        del body
        raise BadPayload("the tokens of a prompt for this model cannot be counted beforehand")

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """That it was counted; the number itself is nobody's usage."""
        try:
            _COUNT.decode(body)
        except NOT_JSON:
            return [Failed(faults.from_response(200, body))]
        return [Ended()]

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """As `decode_body`."""
        return self.decode_body(body)


ANTHROPIC_TOKEN_COUNT = AnthropicTokenCount()
