"""Work that is not generation: embeddings, reranking, tokens.

Servers agree about these requests only roughly, so they are never translated: what a client asks is
what the server reads, but for the model's name, and the bytes of the answer are the server's.
Nothing is streamed. Of an answer no more is read than whether it is one, and what it cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

import msgspec

from parsers.chat import Operation, Request
from parsers.dialects import client_input, faults
from parsers.dialects.base import (
    MAX_EVENT_BYTES,
    Amend,
    Identity,
    Members,
    RequestHead,
    StreamDecoder,
    StreamEncoder,
    Untranslatable,
)
from parsers.dialects.openai.errors import encode_error, error_frame
from parsers.dialects.repair import NOT_JSON
from parsers.errors import BadPayload
from parsers.events import MAX_COUNT, Ended, Failed, Fault, StreamEvent, Usage

_NULL = b"null"
_ABSENT = msgspec.Raw(b"")


class _Counts(msgspec.Struct, frozen=True):
    prompt_tokens: object = None
    total_tokens: object = None


class _Answer(msgspec.Struct, frozen=True):
    """What tells an answer from an error: `data` of embeddings, `results` of reranking, …"""

    data: msgspec.Raw = _ABSENT
    results: msgspec.Raw = _ABSENT
    tokens: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT  # vLLM's word for a text
    content: msgspec.Raw = _ABSENT  # llama.cpp's
    usage: _Counts | None = None
    error: object = None


_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)
_MODEL: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
_ANSWER = msgspec.json.Decoder(_Answer)
_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class Passthrough(msgspec.Struct, frozen=True):
    """One kind of such work, for its clients and its servers.

    `answers` names the members of which an answer has one; `lists` says that it may be a bare
    array as well (TGI's tokens, the scores of text-embeddings-inference).
    """

    name: str
    operation: Operation
    answers: tuple[str, ...]
    lists: bool = False
    names_model: bool = True  # else the model is named to the server only if the client names it
    keepalive: bytes = b""
    error_content_type: str = "application/json"
    remembers: bool = False
    spoken: frozenset[str] = frozenset()

    @property
    def words(self) -> Mapping[str, str]:
        """None: nothing is translated."""
        return MappingProxyType({})

    # For clients

    def peek(self, body: bytes) -> RequestHead:
        """The model. Raises BadPayload, with a text for the client, on bad input."""
        members = client_input.decode(_MEMBERS, body)
        model = members.get("model")
        name = None if model is None else client_input.decode(_MODEL, model, "model")
        return RequestHead(model=name or "", members=members)

    def forward(
        self, body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
    ) -> bytes:
        """The same request under the upstream's model name; else the bytes as they came."""
        del usage
        before = client_input.decode(_MEMBERS, body) if members is None else members
        after = dict(before)
        if self.names_model or bytes(before.get("model", _NULL)) != _NULL:
            after["model"] = msgspec.Raw(msgspec.json.encode(model))
        amend(after)
        return body if after == before else msgspec.json.encode(after)

    def renamed(self, body: bytes, model: str) -> bytes:
        """A whole answer as read, by a model of this name, if it names one."""
        try:
            members = _MEMBERS.decode(body)
        except NOT_JSON:
            return body
        if "model" not in members:
            return body
        members["model"] = msgspec.Raw(msgspec.json.encode(model))
        return msgspec.json.encode(members)

    def without_usage(self, frames: bytes) -> bytes:
        """The frames as they are: nothing is streamed."""
        return frames

    def mended(self, frames: bytes) -> bytes:
        """The frames as they are, for the same reason."""
        return frames

    def decode_request(self, body: bytes) -> Request:
        """Nothing, for the hub has no word for it. Raises BadPayload.

        It is asked for only where a server does other work.
        """
        del body
        raise BadPayload(f"{self.operation}: not supported for this model")

    def stream_encoder(self, identity: Identity, *, include_usage: bool) -> StreamEncoder:
        """Nothing. Raises Untranslatable: nothing is streamed."""
        del identity, include_usage
        raise Untranslatable("stream", self.name)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """Nothing. Raises Untranslatable: no event says what such an answer says."""
        del events, identity
        raise Untranslatable(str(self.operation), self.name)

    def encode_error(self, fault: Fault, status: int) -> bytes:
        """The body of an error answer, in OpenAI's form."""
        del status
        return encode_error(fault)

    def error_frame(self, fault: Fault, status: int) -> bytes:
        """The frame that tells of a failure after the first byte."""
        del status
        return error_frame(fault)

    def error_status(self, fault: Fault, status: int, *, streaming: bool) -> int:
        """The status as it is."""
        del fault, streaming
        return status

    # For servers

    def amend(self, members: Members) -> None:
        """Nothing: the server reads its dialect as it is."""

    def encode_request(self, request: Request, model: str) -> bytes:
        """Nothing. Raises Untranslatable: no other request asks for such work."""
        del request, model
        raise Untranslatable("prompt", self.name)

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> StreamDecoder:
        """Nothing. Raises Untranslatable: nothing is streamed."""
        del max_event_bytes
        raise Untranslatable("stream", self.name)

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """What an answer cost, and that it is one; or the error that came in its place."""
        answer = _answer(body)
        if answer is None:
            whole = self.lists and _is_list(body)
            return [Ended()] if whole else [Failed(faults.from_response(200, body))]
        if answer.error or all(getattr(answer, name) is _ABSENT for name in self.answers):
            return [Failed(faults.from_response(200, body))]
        usage = _usage(answer.usage)
        return [Ended()] if usage is None else [usage, Ended()]

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """As `decode_body`."""
        return self.decode_body(body)

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, from whatever body came with it."""
        return faults.from_response(status, body)


def _answer(body: bytes) -> _Answer | None:
    try:
        return _ANSWER.decode(body)
    except NOT_JSON:
        return None


def _is_list(body: bytes) -> bool:
    try:
        _LIST.decode(body)
    except NOT_JSON:
        return False
    return True


def _usage(counts: _Counts | None) -> Usage | None:
    """The tokens that were read; rerankers only know the total."""
    if counts is None:
        return None
    read = counts.total_tokens if counts.prompt_tokens is None else counts.prompt_tokens
    return Usage(read, 0) if isinstance(read, int) and 0 <= read <= MAX_COUNT else None


EMBEDDINGS = Passthrough("openai-embeddings", Operation.EMBEDDING, ("data",))
RERANK = Passthrough("rerank", Operation.RERANK, ("results", "data"), lists=True)
TOKENIZE = Passthrough("tokenize", Operation.TOKENIZE, ("tokens",), lists=True, names_model=False)
DETOKENIZE = Passthrough(
    "detokenize", Operation.DETOKENIZE, ("prompt", "content"), names_model=False
)
