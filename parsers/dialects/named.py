"""What the dialects share whose events have names: Messages and Responses."""

from __future__ import annotations

from abc import ABC, abstractmethod

import msgspec

from parsers.chat import Request
from parsers.dialects import faults
from parsers.dialects.base import MAX_EVENT_BYTES, Members
from parsers.dialects.framing import AnswerDecoder, PayloadReader
from parsers.dialects.mending import mended
from parsers.events import Fault, StreamEvent


class NamedSurface(ABC):
    """The part of a dialect object that does not depend on what its events say."""

    error_content_type = "application/json"

    @abstractmethod
    def members_of(self, request: Request, model: str) -> Members:
        """The members of a request body. Raises Untranslatable."""

    @abstractmethod
    def new_reader(self) -> PayloadReader:
        """A reader for the events of one streamed answer."""

    @abstractmethod
    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole, not streamed answer as the same events, terminal event included."""

    def amend(self, members: Members) -> None:
        """Nothing: the server reads its dialect as it is."""
        del members

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body, amended. Raises Untranslatable."""
        members = self.members_of(request, model)
        self.amend(members)
        return msgspec.json.encode(members)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> AnswerDecoder:
        """A decoder for one streamed answer."""
        return AnswerDecoder(self.new_reader(), self.decode_body, max_event_bytes, named=True)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, from whatever body came with it."""
        return faults.from_response(status, body)

    def without_usage(self, frames: bytes) -> bytes:
        """The frames as they are: none reports usage only, and the clients count on it."""
        return frames

    def mended(self, frames: bytes) -> bytes:
        """Whole frames as read, with the names by which the SDKs go."""
        return mended(frames, named=True)
