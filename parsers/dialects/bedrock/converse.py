"""Bedrock's Converse API: one dialect for every model that AWS hosts, upstream side only."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from parsers.chat import Request
from parsers.dialects.base import MAX_EVENT_BYTES, Members
from parsers.dialects.bedrock import converse_request
from parsers.dialects.bedrock.converse_decoder import ConverseReader, decode_body
from parsers.dialects.bedrock.errors import refusal
from parsers.dialects.bedrock.framing import MessageDecoder
from parsers.events import Fault, StreamEvent

_SPOKEN = frozenset(
    {
        *("max_tokens", "stop", "temperature", "top_p", "images", "user"),
        *("tools", "tool_choice", "response_format"),
    }
)
# Fields of Anthropic's own, which other models refuse.
_SPOKEN_BY_ANTHROPIC = _SPOKEN | {"top_k", "reasoning_effort", "thinking"}


class Converse(msgspec.Struct, frozen=True):
    """Converse; models of Anthropic's may be told more than others."""

    anthropic: str | None = None  # the model's name there, if it is one of theirs
    latency: str | None = None  # asked for, if it is given
    name: str = "bedrock-converse"

    @property
    def spoken(self) -> frozenset[str]:
        """What the API has words for, and what else Anthropic's models understand."""
        return _SPOKEN_BY_ANTHROPIC if self.anthropic is not None else _SPOKEN

    def amend(self, members: Members) -> None:
        """Nothing: no client speaks it."""

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body; the model is named by the path. Raises Untranslatable."""
        del model
        members = converse_request.members_of(request, anthropic=self.anthropic)
        if self.latency is not None:
            members["performanceConfig"] = {"latency": self.latency}
        return msgspec.json.encode(members)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> MessageDecoder:
        """A decoder for one streamed answer."""
        return MessageDecoder(ConverseReader(), max_event_bytes, marked=True)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole answer as events."""
        return decode_body(body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """As `decode_body`: there is no exact path to be quick on."""
        return decode_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, for who has not seen its headers."""
        return refusal(status, {}, body)

    def decode_refusal(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Fault:
        """What a failed call was about; its kind stands in a header."""
        return refusal(status, headers, body)


CONVERSE = Converse()
