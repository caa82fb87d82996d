"""A chat completion put together from its events."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.dialects.base import Identity
from parsers.dialects.openai.blocks import (
    Block,
    ExtraContent,
    RedactedBlock,
    ThinkingBlock,
    extra_content,
)
from parsers.events import (
    Finished,
    FinishReason,
    RedactedThinking,
    Refusal,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)


class _Details(msgspec.Struct, frozen=True, omit_defaults=True):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


class UsageObject(msgspec.Struct, frozen=True, omit_defaults=True):
    """`usage`, as OpenAI writes it; what nobody counted is left out."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


def usage_object(usage: Usage) -> UsageObject:
    """The counts in OpenAI's words."""
    prompt = _Details(cached_tokens=usage.cached, cache_write_tokens=usage.cache_write)
    completion = _Details(reasoning_tokens=usage.reasoning)
    return UsageObject(
        prompt_tokens=usage.prompt,
        completion_tokens=usage.completion,
        total_tokens=usage.prompt + usage.completion,
        prompt_tokens_details=prompt if prompt != _Details() else None,
        completion_tokens_details=completion if completion != _Details() else None,
    )


class Logprobs(msgspec.Struct, frozen=True, omit_defaults=True):
    """`logprobs` of a choice: one entry per token, each still as it came."""

    content: list[msgspec.Raw] | None = None
    refusal: list[msgspec.Raw] | None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str = ""


class _Call(msgspec.Struct):
    id: str
    function: _Function
    type: str = "function"
    extra_content: ExtraContent | msgspec.UnsetType = msgspec.UNSET


class _Message(msgspec.Struct, omit_defaults=True):
    role: str
    content: str | None
    refusal: str | None = None
    reasoning_content: str | None = None
    thinking_blocks: list[Block] | None = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct, omit_defaults=True):
    index: int
    message: _Message
    finish_reason: str | None
    logprobs: Logprobs | None = None
    native_finish_reason: str | None = None
    stop_reason: str | None = None


class _Body(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: UsageObject | None = None


def made_up_id(identity: Identity, call: ToolCall) -> str:
    """An id for a call that the upstream gave none, the same whenever it is asked for."""
    answer = identity.id.rpartition("-")[2][:40]
    return f"call_{answer}_{call.choice}_{call.call}"


class _Folded:
    """One choice while it is being put together."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.refusal: list[str] = []
        self.reasoning: list[str] = []
        self.unsigned = 0  # where in it the last signed block ended
        self.blocks: list[Block] = []
        self.logprobs: list[msgspec.Raw] = []
        self.calls: list[_Call] = []
        self.arguments: list[list[str]] = []
        self.finished: Finished | None = None

    def think(self, event: Thinking) -> None:
        """Take in a piece of reasoning; a signature makes a block of all since the last one."""
        self.reasoning.append(event.text)
        if event.signature is not None:
            text = "".join(self.reasoning[self.unsigned :])
            self.unsigned = len(self.reasoning)
            self.blocks.append(ThinkingBlock(text, event.signature))

    def call(self, event: ToolCall, call_id: str) -> None:
        """Open a call; its arguments follow."""
        call = _Call(call_id, _Function(event.name))
        if event.signature is not None:
            call.extra_content = extra_content(event.signature)
        self.calls.append(call)
        self.arguments.append([])


class Answer:
    """The whole answer: `add` its events, then `encode` it."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._choices: dict[int, _Folded] = {}
        self._usage: Usage | None = None

    def add(self, event: StreamEvent) -> None:
        """Take one event in; those that have no place in a whole answer are passed over."""
        match event:
            case Text():
                choice = self._choice(event.choice)
                choice.text.append(event.text)
                if event.logprobs is not None:
                    choice.logprobs.append(event.logprobs)
            case Refusal():
                self._choice(event.choice).refusal.append(event.text)
            case Thinking():
                self._choice(event.choice).think(event)
            case RedactedThinking():
                self._choice(event.choice).blocks.append(RedactedBlock(event.data))
            case ToolCall():
                self._choice(event.choice).call(
                    event, event.id or made_up_id(self._identity, event)
                )
            case ToolArguments():
                self._choice(event.choice).arguments[event.call].append(event.fragment)
            case Finished():
                self._choice(event.choice).finished = event
            case Usage():
                self._usage = event
            case _:
                pass

    def encode(self) -> bytes:
        """The JSON body. An answer without any choice gets an empty one: clients read the first."""
        if not self._choices:
            self._choice(0)
        body = _Body(
            id=self._identity.id,
            object="chat.completion",
            created=self._identity.created,
            model=self._identity.model,
            choices=[_choice(index, self._choices[index]) for index in sorted(self._choices)],
            usage=usage_object(self._usage) if self._usage else None,
        )
        return msgspec.json.encode(body)

    def _choice(self, index: int) -> _Folded:
        return self._choices.setdefault(index, _Folded())


def _choice(index: int, folded: _Folded) -> _Choice:
    finished = folded.finished
    if finished is None and folded.calls:  # TGI names no reason then; else none is made up
        finished = Finished(FinishReason.TOOL_CALLS, index)
    choice = _Choice(index, _message(folded), None, _joined(folded.logprobs))
    if finished is not None:
        choice.finish_reason = finished.reason
        choice.native_finish_reason = finished.raw if finished.raw != finished.reason else None
        choice.stop_reason = finished.stop
    return choice


def _message(folded: _Folded) -> _Message:
    for call, pieces in zip(folded.calls, folded.arguments, strict=True):
        call.function.arguments = "".join(pieces)
    text = "".join(folded.text)
    return _Message(
        role="assistant",
        # null where the model said something else than text, as OpenAI has it
        content=None if not text and (folded.calls or folded.refusal) else text,
        refusal="".join(folded.refusal) or None,
        reasoning_content="".join(folded.reasoning) or None,
        thinking_blocks=folded.blocks or None,
        tool_calls=folded.calls or None,
    )


def _joined(pieces: Iterable[msgspec.Raw]) -> Logprobs | None:
    """The lists of all pieces, one after another; what is not OpenAI's shape is left out."""
    content: list[msgspec.Raw] = []
    for piece in pieces:
        try:
            content += msgspec.json.decode(piece, type=Logprobs).content or ()
        except msgspec.DecodeError:
            continue
    return Logprobs(content=content) if content else None
