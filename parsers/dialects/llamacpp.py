"""llama.cpp's own protocol for text completions: `/completion` (upstreams.md 3).

The end mark is `"stop": true`; there is no `[DONE]`. An error in a stream is followed by its end.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from parsers.chat import CompletionRequest, Request
from parsers.dialects import faults, repair
from parsers.dialects.base import Untranslatable
from parsers.dialects.native import NativeServer
from parsers.events import (
    MAX_COUNT,
    Ended,
    Failed,
    Finished,
    FinishReason,
    StreamEvent,
    Text,
    Usage,
)

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _Piece(msgspec.Struct, frozen=True, gc=False):
    content: str | None = None
    stop: bool = False
    stop_type: str | None = None
    stopping_word: str | None = None
    tokens_evaluated: _Count | None = None  # of the prompt, those in the cache included
    tokens_predicted: _Count | None = None
    error: object = None


_PIECE = msgspec.json.Decoder(_Piece)
_REASONS = {
    "eos": FinishReason.STOP,
    "word": FinishReason.STOP,
    "limit": FinishReason.LENGTH,
}


class _Reader:
    complete = False  # the end mark is the only end

    def __init__(self) -> None:
        self.started = False

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether that ends the answer. Raises BadPayload."""
        # per token
        piece = repair.decode(_PIECE, payload)
        if piece.content is None or piece.error or name == "error":
            fault = faults.recognise(payload, name)
            if fault is not None:
                events.append(Failed(fault))
            return fault is not None
        self.started = True
        if piece.content:
            events.append(Text(piece.content))
        if piece.stop:
            events += _end(piece)
        return piece.stop


def _end(piece: _Piece) -> list[StreamEvent]:
    events: list[StreamEvent] = []
    if piece.stop_type:
        # A word that nobody knows is told as a stop, and stays in `raw`.
        reason = _REASONS.get(piece.stop_type, FinishReason.STOP)
        events.append(Finished(reason, 0, piece.stop_type, piece.stopping_word or None))
    if piece.tokens_evaluated is not None and piece.tokens_predicted is not None:
        events.append(Usage(piece.tokens_evaluated, piece.tokens_predicted))
    return [*events, Ended()]


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    prompt: str
    stream: bool = False
    n_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    typical_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None


class LlamaCpp(NativeServer):
    """The native protocol of llama.cpp's server."""

    name = "llamacpp"
    reader = _Reader
    spoken = frozenset(
        {
            *("max_tokens", "stop", "temperature", "top_p", "top_k", "typical_p", "seed"),
            *("presence_penalty", "frequency_penalty", "repetition_penalty"),
        }
    )

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body, which names no model. Raises Untranslatable for a conversation."""
        del model
        if not isinstance(request, CompletionRequest):
            raise Untranslatable("messages", self.name)
        sampling = request.sampling
        return msgspec.json.encode(
            _Request(
                prompt=request.prompt,
                stream=request.stream,
                n_predict=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                typical_p=sampling.typical_p,
                seed=sampling.seed,
                stop=sampling.stop,
                presence_penalty=sampling.presence_penalty,
                frequency_penalty=sampling.frequency_penalty,
                repeat_penalty=sampling.repetition_penalty,
            )
        )


LLAMA_CPP = LlamaCpp()
