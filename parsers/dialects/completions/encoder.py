"""Events, as the bytes of a text completion, streamed or whole.

A refusal is text here. Thinking and tool calls have no place in raw text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from parsers.dialects.base import Identity
from parsers.dialects.completions.logprobs import in_lists
from parsers.dialects.openai.errors import error_frame
from parsers.dialects.openai.folding import UsageObject, usage_object
from parsers.events import (
    Ended,
    Failed,
    Finished,
    RedactedThinking,
    Refusal,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

_json = msgspec.json.Encoder().encode
_NULL = msgspec.Raw(b"null")
_OBJECT = "text_completion"


class _Choice(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    index: int
    text: str
    logprobs: msgspec.Raw
    finish_reason: str | None
    # What OpenAI's words cannot say, under OpenRouter's and vLLM's names.
    native_finish_reason: str | None = None
    stop_reason: str | None = None


class _Logprobs(msgspec.Struct, omit_defaults=True):
    """One entry per token in each list, each still as it came."""

    tokens: list[msgspec.Raw] | None = None
    token_logprobs: list[msgspec.Raw] | None = None
    top_logprobs: list[msgspec.Raw] | None = None
    text_offset: list[msgspec.Raw] | None = None


_LOGPROBS = msgspec.json.Decoder(_Logprobs)


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: tuple[_Choice, ...]
    usage: UsageObject | None = None


class CompletionsEncoder:
    """One streamed answer: a chunk for each piece, a finish chunk for each choice, `[DONE]`.

    No finish reason is made up: a choice that the upstream ended without one has no finish chunk.
    After a failure comes its error frame and nothing else.
    """

    def __init__(self, identity: Identity, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._usage: Usage | None = None
        self._head = b'data: {"id":%s,"object":"%s","created":%d,"model":%s,"choices":[' % (
            _json(identity.id),
            _OBJECT.encode(),
            identity.created,
            _json(identity.model),
        )
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"

    def encode(self, event: StreamEvent) -> bytes:
        """The frames for this event; empty where the dialect has no word for it."""
        # per token
        match event:
            case Text():
                return self._chunk(_piece(event.choice, event.text, event.logprobs))
            case Refusal():
                return self._chunk(_piece(event.choice, event.text))
            case Finished():
                return self._chunk(_whole(event.choice, "", _NULL, event))
            case Usage():
                self._usage = event  # told at the end, when it is final
            case Failed():
                return error_frame(event.fault)
            case Ended():
                return self._end()
            case Started() | Thinking() | RedactedThinking() | ToolCall() | ToolArguments():
                pass
            case _:
                assert_never(event)
        return b""

    def _chunk(self, choice: _Choice) -> bytes:
        # per token
        return self._head + _json(choice) + self._tail

    def _end(self) -> bytes:
        report = b""
        if self._include_usage and self._usage is not None:
            report = self._head + b'],"usage":%b}\n\n' % _json(usage_object(self._usage))
        return report + b"data: [DONE]\n\n"


def _piece(choice: int, text: str, logprobs: msgspec.Raw | None = None) -> _Choice:
    return _Choice(choice, text, _NULL if logprobs is None else in_lists(logprobs), None)


def _whole(index: int, text: str, logprobs: msgspec.Raw, finished: Finished | None) -> _Choice:
    if finished is None:
        return _Choice(index, text, logprobs, None)
    return _Choice(
        index=index,
        text=text,
        logprobs=logprobs,
        finish_reason=finished.reason.value,
        native_finish_reason=finished.raw if finished.raw != finished.reason else None,
        stop_reason=finished.stop,
    )


class _Folded:
    """One choice while it is being put together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.logprobs: list[msgspec.Raw] = []
        self.finished: Finished | None = None


def encode_body(events: Iterable[StreamEvent], identity: Identity) -> bytes:
    """The whole answer folded from its events. One without any choice gets an empty one."""
    choices: dict[int, _Folded] = {}
    usage: Usage | None = None
    for event in events:
        if isinstance(event, Usage):
            usage = event
        elif isinstance(event, Text | Refusal | Finished):
            _fold(event, choices.setdefault(event.choice, _Folded()))
    choices = choices or {0: _Folded()}
    body = _Body(
        id=identity.id,
        object=_OBJECT,
        created=identity.created,
        model=identity.model,
        choices=tuple(_folded(index, choices[index]) for index in sorted(choices)),
        usage=usage_object(usage) if usage else None,
    )
    return _json(body)


def _fold(event: Text | Refusal | Finished, choice: _Folded) -> None:
    if isinstance(event, Finished):
        choice.finished = event
        return
    choice.text.append(event.text)
    if isinstance(event, Text) and event.logprobs is not None:
        choice.logprobs.append(in_lists(event.logprobs))


def _folded(index: int, choice: _Folded) -> _Choice:
    return _whole(index, "".join(choice.text), _joined(choice.logprobs), choice.finished)


def _joined(pieces: list[msgspec.Raw]) -> msgspec.Raw:
    """The lists of all pieces, one after another; what is not of this form is left out."""
    whole = _Logprobs()
    for piece in pieces:
        try:
            more = _LOGPROBS.decode(piece)
        except msgspec.DecodeError:
            continue
        for name in _Logprobs.__struct_fields__:
            if (entries := getattr(more, name)) is not None:
                setattr(whole, name, [*(getattr(whole, name) or ()), *entries])
    return _NULL if whole == _Logprobs() else msgspec.Raw(_json(whole))
