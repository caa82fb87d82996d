"""The dialect of Sourcegraph's completions API as one object per feature and api-version form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from parsers.chat import Operation, Request
from parsers.dialects.base import Identity, RequestHead
from parsers.dialects.sourcegraph import encoder, errors, request
from parsers.dialects.sourcegraph.form import NEWEST_VERSION, Form, form_of
from parsers.events import Fault, StreamEvent

__all__ = ["NEWEST_VERSION", "SourcegraphDialect", "dialect_for"]


_WORDS = MappingProxyType(
    {
        "max_tokens": "maxTokensToSample",
        "stop": "stopSequences",
        "top_k": "topK",
        "top_p": "topP",
    }
)


class SourcegraphDialect(msgspec.Struct, frozen=True):
    """What Cody clients speak. No server answers in it, so it is never the exact path."""

    operation: Operation
    form: Form
    upstream_name: str | None = None  # what answers may call the model; None: only its reference
    name: str = "sourcegraph"
    keepalive: bytes = b""  # clients fail on a comment
    error_content_type: str = "text/plain; charset=utf-8"

    @property
    def words(self) -> Mapping[str, str]:
        """Cody's own names."""
        return _WORDS

    def peek(self, body: bytes) -> RequestHead:
        """Model, `fast` and stream flag; chat streams unless told not to. Raises BadPayload."""
        return request.peek(body, stream=self.operation is Operation.CHAT)

    def decode_request(self, body: bytes) -> Request:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""
        if self.operation is Operation.CHAT:
            return request.decode_chat(body)
        return request.decode_code(body)

    def stream_encoder(
        self, identity: Identity, *, include_usage: bool
    ) -> encoder.SourcegraphEncoder:
        """An encoder for one streamed answer; the api-version alone says whether usage is told."""
        del include_usage
        return encoder.SourcegraphEncoder(self.form, identity, self.upstream_name)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""
        return encoder.encode_body(events, self.form, identity, self.upstream_name)

    def encode_error(self, fault: Fault, status: int) -> bytes:
        """One line of text; the status is the response's alone."""
        del status
        return errors.encode_error(fault)

    def error_frame(self, fault: Fault, status: int) -> bytes:
        """The `error` event and the `done` event."""
        del status
        return errors.error_frame(fault)

    def error_status(self, fault: Fault, status: int, *, streaming: bool) -> int:
        """200 where a stream fails before its first event, except 429."""
        return errors.error_status(fault, status, streaming=streaming)


def dialect_for(operation: Operation, version: int | None) -> SourcegraphDialect:
    """The dialect of a feature for an api-version from 1 to 9, or None where none is named."""
    return SourcegraphDialect(operation, form_of(version))
