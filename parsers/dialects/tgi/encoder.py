"""What a TGI client is told: events as native stream frames, or as one JSON object.

Two things a hub cannot know are filled in so that the official clients (huggingface_hub 0.36,
text-generation 0.7) take the answer: each token has id 0 and logprob 0.0, and if no count was
reported, `generated_tokens` is the number of pieces that were sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from parsers.events import (
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    FinishReason,
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
from parsers.sse import encode_event


class _Token(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    id: int = 0
    text: str
    logprob: float = 0.0
    special: bool = False


class _Details(msgspec.Struct, frozen=True):
    finish_reason: str
    generated_tokens: int
    seed: None = None
    input_length: int | msgspec.UnsetType = msgspec.UNSET  # streams only
    prefill: tuple[()] | msgspec.UnsetType = msgspec.UNSET  # bodies only
    tokens: tuple[()] | msgspec.UnsetType = msgspec.UNSET  # bodies only


class _Frame(msgspec.Struct, frozen=True, gc=False):
    index: int
    token: _Token
    generated_text: str | None = None
    details: _Details | None = None


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    generated_text: str
    details: _Details | None = None


class _Error(msgspec.Struct, frozen=True):
    error: str
    error_type: str


class _Answer:
    """What the events of an answer amount to. TGI knows one choice; others are not heard."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._finished: Finished | None = None
        self._usage: Usage | None = None

    @property
    def text(self) -> str:
        """All that was said."""
        return "".join(self._texts)

    @property
    def details(self) -> _Details | None:
        """How it ended; None if that is not known."""
        if self._finished is None:
            return None
        usage = self._usage
        return _Details(
            finish_reason=_reason(self._finished),
            generated_tokens=usage.completion if usage else len(self._texts),
            input_length=usage.prompt if usage else msgspec.UNSET,
        )

    def hear(self, event: StreamEvent) -> str:
        """Take note of the event; what it adds to the text."""
        # per token
        match event:
            case Text(text=text, choice=0) | Refusal(text=text, choice=0):
                if text:
                    self._texts.append(text)
                return text
            case Finished(choice=0):
                self._finished = event
            case Usage():
                self._usage = event
            case Started() | Thinking() | RedactedThinking() | ToolCall() | ToolArguments():
                pass  # no word for them
            case Failed() | Ended():
                pass
            case Text() | Refusal() | Finished():
                pass  # another choice
            case _:
                assert_never(event)
        return ""


def _reason(finished: Finished) -> str:
    """The clients check this word against TGI's three.

    So an answer that was filtered fails loudly in the strict one; it must not look complete.
    """
    if finished.reason in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER):
        return finished.reason.value
    stopped = finished.stop is not None or finished.raw == "stop_sequence"
    return "stop_sequence" if stopped else "eos_token"


class TgiEncoder:
    """Events as the frames of `/generate_stream`; `details` says whether the client asked.

    The last event is a special token without text, because a translated stream does not know its
    last token as such. It repeats the whole text, so the text is kept until then.
    """

    def __init__(self, *, details: bool) -> None:
        self._details = details
        self._answer = _Answer()
        self._index = 0

    def encode(self, event: StreamEvent) -> bytes:
        """The frame for this event; empty where TGI has no word for it."""
        # per token
        if text := self._answer.hear(event):
            return self._frame(_Token(text=text))
        if isinstance(event, Ended):
            details = self._answer.details if self._details else None
            return self._frame(_Token(text="", special=True), self._answer.text, details)
        if isinstance(event, Failed):
            return error_frame(event.fault)
        return b""

    def _frame(
        self, token: _Token, text: str | None = None, details: _Details | None = None
    ) -> bytes:
        self._index += 1
        return encode_event(msgspec.json.encode(_Frame(self._index, token, text, details)))


def encode_body(events: Iterable[StreamEvent]) -> bytes:
    """The whole answer as an object, with details wherever the finish reason is known."""
    answer = _Answer()
    for event in events:
        answer.hear(event)
    details = answer.details
    if details is not None:
        details = msgspec.structs.replace(
            details, input_length=msgspec.UNSET, prefill=(), tokens=()
        )
    return msgspec.json.encode(_Body(answer.text, details))


# TGI's words, which the clients turn into exceptions; other kinds keep our own word, and the
# clients then go by the status.
_TYPES = {
    FaultKind.INVALID_REQUEST: "validation",
    FaultKind.CONTEXT_LENGTH: "validation",
    FaultKind.RATE_LIMITED: "overloaded",
    FaultKind.OVERLOADED: "overloaded",
    FaultKind.UNREACHABLE: "generation",
    FaultKind.TRUNCATED: "incomplete_generation",
    FaultKind.PROTOCOL: "generation",
    FaultKind.UPSTREAM: "generation",
    FaultKind.INTERNAL: "generation",
}


def encode_error(fault: Fault) -> bytes:
    """The body of an error, and the data of an error frame: TGI has one form for both."""
    return msgspec.json.encode(_Error(fault.message, _TYPES.get(fault.kind, fault.kind.value)))


def error_frame(fault: Fault) -> bytes:
    """The error as the stream's last event."""
    return encode_event(encode_error(fault))
