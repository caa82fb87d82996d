"""What the two completion dialects of OpenAI share: envelope, usage frames, errors, answers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from parsers.dialects import faults
from parsers.dialects.base import MAX_EVENT_BYTES, Amend, Members, RequestHead
from parsers.dialects.framing import AnswerDecoder
from parsers.dialects.mending import mended
from parsers.dialects.openai import decoder, envelope, errors
from parsers.dialects.openai.chunks import ChunkReader
from parsers.events import Fault, StreamEvent


class OpenAISurface:
    """The part of a dialect object that does not depend on what is being completed."""

    # The SDKs skip comments, if no `id:` line came before (upstreams.md 0).
    keepalive = b": keep-alive\n\n"
    chunk_reader: type[ChunkReader] = ChunkReader
    error_content_type = "application/json"
    remembers = False
    words: Mapping[str, str] = MappingProxyType({})  # the hub's names are OpenAI's

    # For servers

    def amend(self, members: Members) -> None:
        """Nothing: the server reads its dialect as it is."""

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> AnswerDecoder:
        """A decoder for one streamed answer."""
        return decoder.OpenAIDecoder(self.chunk_reader(), max_event_bytes)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole, not streamed answer as the same events, terminal event included."""
        return decoder.decode_body(body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """How a whole answer ended, without what was said in it."""
        return decoder.judge_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, from whatever body came with it."""
        return faults.from_response(status, body)

    # For clients

    def peek(self, body: bytes) -> RequestHead:
        """Model and stream flag. Raises BadPayload, with a text for the client, on bad input."""
        return envelope.peek(body)

    def forward(
        self, body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
    ) -> bytes:
        """The same request under the upstream's model name, asking for usage if told to."""
        return envelope.forward(body, model, usage=usage, amend=amend, members=members)

    def without_usage(self, frames: bytes) -> bytes:
        """Whole frames as read, without those that only report usage."""
        return envelope.without_usage(frames)

    def mended(self, frames: bytes) -> bytes:
        """Whole frames as read, without what makes the SDKs fail."""
        return mended(frames, split=decoder.values_of)

    def encode_error(self, fault: Fault, status: int) -> bytes:  # noqa: ARG002  OpenAI's body names no status
        """The body of an error answer."""
        return errors.encode_error(fault)

    def error_frame(self, fault: Fault, status: int) -> bytes:  # noqa: ARG002  as above
        """The frame that tells of a failure after the first byte."""
        return errors.error_frame(fault)

    def error_status(self, fault: Fault, status: int, *, streaming: bool) -> int:
        """The status as it is."""
        del fault, streaming
        return status
