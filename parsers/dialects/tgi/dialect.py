"""TGI's own protocol, for its clients and its servers: `/generate`, `/generate_stream`, `POST /`.

The body names neither a model nor, except on `POST /`, whether to stream: the route says both. So
`RequestHead.stream` and `CompletionRequest.stream` of the native dialect are always false, and
the caller sets what its route means.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from parsers.chat import CompletionRequest, Operation, Request
from parsers.dialects import client_input, faults
from parsers.dialects.base import MAX_EVENT_BYTES, Amend, Identity, Members, RequestHead
from parsers.dialects.framing import AnswerDecoder
from parsers.dialects.mending import mended
from parsers.dialects.tgi import decoder, encoder, generate
from parsers.events import Fault, StreamEvent

_WORDS = MappingProxyType(
    {
        "max_tokens": "parameters.max_new_tokens",
        "stop": "parameters.stop",
        "echo": "parameters.return_full_text",
        "response_format": "parameters.grammar",
    }
)
_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)


class TgiDialect(msgspec.Struct, frozen=True):
    """TGI's native protocol; `compat` is the form that `POST /` takes and gives.

    There the request has `stream`, and a whole answer is an array with one object.
    """

    name: str
    compat: bool
    operation: Operation = Operation.COMPLETION
    keepalive: bytes = b":\n\n"  # as axum writes it
    error_content_type: str = "application/json"
    remembers: bool = False
    spoken: frozenset[str] = frozenset(
        {
            *("max_tokens", "stop", "temperature", "top_p", "top_k", "typical_p", "seed"),
            *("frequency_penalty", "repetition_penalty", "response_format", "echo"),
        }
    )

    @property
    def words(self) -> Mapping[str, str]:
        """TGI's own names."""
        return _WORDS

    # The client's side

    def peek(self, body: bytes) -> RequestHead:
        """No model, and `include_usage` if details were asked for. Raises BadPayload."""
        return generate.peek(body, compat=self.compat)

    def decode_request(self, body: bytes) -> CompletionRequest:
        """The request without a model. Raises BadPayload, also for what the hub cannot say."""
        return generate.decode(body, compat=self.compat)

    def forward(
        self, body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
    ) -> bytes:
        """The body as it came, unless `amend` changes it.

        There is no model in it, and no way to get details that could be taken out again.
        """
        del model, usage
        members = client_input.decode(_MEMBERS, body)
        before = dict(members)
        amend(members)
        return body if members == before else msgspec.json.encode(members)

    def without_usage(self, frames: bytes) -> bytes:
        """The frames as they are: none only reports usage."""
        return frames

    def mended(self, frames: bytes) -> bytes:
        """Whole frames as read, without what makes clients fail."""
        return mended(frames)

    def stream_encoder(self, identity: Identity, *, include_usage: bool) -> encoder.TgiEncoder:
        """An encoder for one answer; TGI's answers have no name, so the identity is not used."""
        del identity
        return encoder.TgiEncoder(details=include_usage)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer, with details if they are known, asked for or not."""
        del identity
        body = encoder.encode_body(events)
        return b"[%b]" % body if self.compat else body

    def encode_error(self, fault: Fault, status: int) -> bytes:
        """`{"error", "error_type"}`; the status is the response's alone."""
        del status
        return encoder.encode_error(fault)

    def error_frame(self, fault: Fault, status: int) -> bytes:
        """The error as the stream's last event."""
        del status
        return encoder.error_frame(fault)

    def error_status(self, fault: Fault, status: int, *, streaming: bool) -> int:
        """The status as it is."""
        del fault, streaming
        return status

    # The server's side

    def amend(self, members: Members) -> None:
        """Nothing: the dialect is TGI's own."""

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body; a conversation becomes a transcript. Raises Untranslatable."""
        del model
        return generate.encode(request, compat=self.compat)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> AnswerDecoder:
        """A decoder for one streamed answer."""
        return AnswerDecoder(decoder.TokenReader(), decoder.decode_body, max_event_bytes)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole answer as events, without Usage: TGI tells that in a header alone."""
        return decoder.decode_body(body)

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """As `decode_body`: the answers are short work."""
        return self.decode_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about; a wrong key gives 401 without any body."""
        return faults.from_response(status, body)


TGI = TgiDialect(name="tgi", compat=False)
TGI_COMPAT = TgiDialect(name="tgi-compat", compat=True)
