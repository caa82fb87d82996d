"""SGLang's own protocol for text completions: `/generate` (upstreams.md 2).

Each event repeats the whole text so far, unless the server was told to write what is new alone. It
then lists the new tokens alone too, which is how the two are told apart.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from parsers.chat import CompletionRequest, Request
from parsers.dialects import faults, repair
from parsers.dialects.base import Members, Untranslatable
from parsers.dialects.native import NativeServer
from parsers.errors import BadPayload
from parsers.events import (
    MAX_COUNT,
    Ended,
    Failed,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Text,
    Usage,
)

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]

_MAX_CHOICES = 128  # as for OpenAI's: a bound on what a broken server can make us remember


class _Reason(msgspec.Struct, frozen=True, gc=False):
    type: str = ""
    matched: object = None  # the text, or the id of a token
    message: str | None = None  # of an abort that is an error
    err_type: str | None = None
    status_code: int | None = None


class _Meta(msgspec.Struct, frozen=True, gc=False):
    id: str | None = None
    finish_reason: _Reason | None = None
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    cached_tokens: _Count | None = None


class _Piece(msgspec.Struct, frozen=True, gc=False):
    text: str | None = None
    output_ids: list[msgspec.Raw] | None = None
    meta_info: _Meta = _Meta()
    index: _Count = 0
    error: object = None


_PIECE = msgspec.json.Decoder(_Piece)
_REASONS = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.STOP,  # by its operator, gracefully
}


class _Choice:
    def __init__(self) -> None:
        self.text = ""
        self.finished = False
        self.tokens = 0


class _Reader:
    def __init__(self) -> None:
        self.started = False
        self._choices: dict[int, _Choice] = {}

    @property
    def complete(self) -> bool:
        """Whether there was a choice, and each was finished."""
        return bool(self._choices) and all(each.finished for each in self._choices.values())

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether that ends the answer. Raises BadPayload."""
        # per token
        if payload.strip() == b"[DONE]":
            events.append(Ended(proven=any(each.finished for each in self._choices.values())))
            return True
        piece = repair.decode(_PIECE, payload)
        if piece.text is None or piece.error or name == "error":
            fault = faults.recognise(payload, name)
            if fault is not None:
                events.append(Failed(fault))
            return fault is not None
        return self._take(piece, piece.text, events)

    def _take(self, piece: _Piece, text: str, events: list[StreamEvent]) -> bool:
        # per token
        if not self.started:
            self.started = True
            events.append(Started(piece.meta_info.id or None))
        choice = self._choices.get(piece.index) or self._open(piece.index)
        if choice.finished:
            return False
        new = text[len(choice.text) :] if _is_whole(piece, text, choice.text) else text
        choice.text += new
        if new:
            events.append(Text(new, piece.index))
        reason = piece.meta_info.finish_reason
        return reason is not None and self._finish(piece, reason, choice, events)

    def _open(self, index: int) -> _Choice:
        if len(self._choices) == _MAX_CHOICES:
            raise BadPayload("too many choices in one answer")
        choice = self._choices[index] = _Choice()
        return choice

    def _finish(
        self, piece: _Piece, reason: _Reason, choice: _Choice, events: list[StreamEvent]
    ) -> bool:
        if reason.type == "abort" and reason.message:
            told = faults.from_words(
                reason.message, type=reason.err_type, status=reason.status_code
            )
            events.append(Failed(told))
            return True
        choice.finished = True
        stop = reason.matched if isinstance(reason.matched, str) else None
        found = _REASONS.get(reason.type, FinishReason.STOP)
        events.append(Finished(found, piece.index, reason.type or None, stop))
        meta = piece.meta_info
        if meta.prompt_tokens is not None and meta.completion_tokens is not None:
            choice.tokens = meta.completion_tokens
            total = sum(each.tokens for each in self._choices.values())
            events.append(Usage(meta.prompt_tokens, total, meta.cached_tokens))
        return False


def _is_whole(piece: _Piece, text: str, before: str) -> bool:
    """Whether the text is all so far, and not only what is new."""
    count = piece.meta_info.completion_tokens
    if piece.output_ids is not None and count is not None and len(piece.output_ids) != count:
        return False
    return text.startswith(before)


class _Sampling(msgspec.Struct, frozen=True, omit_defaults=True):
    max_new_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    text: str
    sampling_params: _Sampling | None = None
    stream: bool = False


class SGLang(NativeServer):
    """The native protocol of SGLang's server."""

    name = "sglang"
    reader = _Reader
    spoken = frozenset(
        {
            *("max_tokens", "stop", "n", "temperature", "top_p", "top_k"),
            *("presence_penalty", "frequency_penalty", "repetition_penalty"),
        }
    )

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body, which names no model. Raises Untranslatable for a conversation."""
        del model
        if not isinstance(request, CompletionRequest):
            raise Untranslatable("messages", self.name)
        sampling = request.sampling
        wanted = _Sampling(
            max_new_tokens=sampling.max_tokens,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=sampling.top_k,
            stop=sampling.stop,
            n=sampling.choices,
            presence_penalty=sampling.presence_penalty,
            frequency_penalty=sampling.frequency_penalty,
            repetition_penalty=sampling.repetition_penalty,
        )
        given = None if wanted == _Sampling() else wanted
        return msgspec.json.encode(_Request(request.prompt, given, request.stream))

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole answer, an array of them where several were asked for."""
        reader, events = _Reader(), list[StreamEvent]()
        try:
            for piece in _pieces(body):
                if reader.read(piece, "", events):
                    return events
        except BadPayload:
            return [Failed(faults.from_response(200, body))]
        whole = reader.complete
        return [*events, Ended()] if whole else [Failed(faults.from_response(200, body))]


_PIECES: msgspec.json.Decoder[list[Members]] = msgspec.json.Decoder(list[Members])


def _pieces(body: bytes) -> list[bytes]:
    if not body.lstrip().startswith(b"["):
        return [body]
    # Each counts from 0 there, so the place in the array is the index.
    pieces: list[Members] = repair.decode(_PIECES, body)
    return [msgspec.json.encode({**piece, "index": at}) for at, piece in enumerate(pieces)]


SGLANG = SGLang()
