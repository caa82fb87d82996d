"""Chunks of a completion, of a chat or of a text, as events."""

from __future__ import annotations

import msgspec

from parsers.dialects.openai.blocks import RedactedBlock, blocks_of
from parsers.dialects.openai.calls import Calls
from parsers.dialects.openai.wire import (
    ABSENT,
    CHUNK,
    FIRST_CHUNK,
    CallDelta,
    Choice,
    Chunk,
    CompletionDetails,
    Counts,
    Delta,
    FirstChunk,
    PromptDetails,
)
from parsers.errors import BadPayload
from parsers.events import (
    MAX_COUNT,
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
    Usage,
)

# OpenAI allows `n` up to 128; a bound on what a broken server can make us remember.
_MAX_CHOICES = 128

# Words for "the model stopped by itself"; after a tool call they mean that it made one.
_STOPS = frozenset({"stop", "eos_token", "stop_sequence", "end_turn", "eos"})
_REASONS = {
    **dict.fromkeys(_STOPS, FinishReason.STOP),
    "length": FinishReason.LENGTH,
    "max_tokens": FinishReason.LENGTH,
    "model_length": FinishReason.LENGTH,  # Mistral
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
# vLLM promises an error event with it; OpenRouter sends one beside it.
_ERROR = "error"
_FAILED = Fault(FaultKind.UPSTREAM, "upstream", "upstream ended the answer with an error")


class _ChoiceState:
    __slots__ = ("calls", "finished")

    def __init__(self) -> None:
        self.calls: Calls | None = None
        self.finished = False


class ChunkReader:
    """Turns the chunks of one answer into events; knows which choices are still open."""

    def __init__(self) -> None:
        # What `read` wants next: who answers, and when, is read until it has been told.
        self.decode = FIRST_CHUNK.decode
        self.started = False
        self._failed = False
        self._choices: dict[int, _ChoiceState] = {}

    @property
    def finished_any(self) -> bool:
        """Whether a choice was finished."""
        return any(state.finished for state in self._choices.values())

    @property
    def finished_all(self) -> bool:
        """Whether there was a choice, and each was finished."""
        return bool(self._choices) and all(state.finished for state in self._choices.values())

    def read(self, chunk: Chunk, events: list[StreamEvent]) -> bool:
        """Append the events of one chunk; whether the last is a `Failed`.

        Raises BadPayload for numbers of choices or calls that no answer has.
        """
        # per token
        if not self.started:
            self._start(chunk, events)
        for choice in chunk.choices or ():
            self._read_choice(choice, events)
        if chunk.usage is not None and (usage := usage_of(chunk.usage)) is not None:
            events.append(self._total(usage, chunk))
        if self._failed:
            events.append(Failed(_FAILED))
        return self._failed

    def release(self) -> list[StreamEvent]:
        """What open choices have still to say when the answer ends without their finish."""
        events: list[StreamEvent] = []
        for state in self._choices.values():
            if state.calls is not None and not state.finished:
                events += state.calls.finish()
        return events

    def _total(self, usage: Usage, chunk: Chunk) -> Usage:  # noqa: ARG002  for the subclass
        """The counts of the answer so far, now that this chunk reports these."""
        return usage

    def _start(self, chunk: Chunk, events: list[StreamEvent]) -> None:
        # Azure's first chunk names nothing: it is about the prompt, the next one begins.
        if isinstance(chunk, FirstChunk) and (chunk.choices or chunk.usage):
            self.started = True
            self.decode = CHUNK.decode
            events.append(Started(_text(chunk.id), _text(chunk.model), _seconds(chunk.created)))

    def _read_choice(self, choice: Choice, events: list[StreamEvent]) -> None:
        # per token
        index = choice.index if type(choice.index) is int else 0
        state = self._choices.get(index) or self._open(index)
        if state.finished:  # Azure's annotations, usage on a repeated finish chunk
            return
        delta = choice.delta or choice.message
        if delta is not None:
            if delta.reasoning_content or delta.reasoning or delta.thinking_blocks:
                _read_thought(choice, delta, index, events)
            if delta.content or choice.logprobs is not ABSENT:
                _read_content(choice, delta.content, index, events)
            if delta.refusal and (text := _plain(delta.refusal)):
                events.append(Refusal(text, index))
            if delta.tool_calls:
                _read_calls(choice, delta.tool_calls, state, index, events)
        elif choice.text is not None:
            _read_content(choice, choice.text, index, events)
        if choice.finish_reason:
            self._finish(choice, state, index, events)

    def _finish(
        self, choice: Choice, state: _ChoiceState, index: int, events: list[StreamEvent]
    ) -> None:
        word = _plain(choice.finish_reason)
        if word == _ERROR:
            self._failed = True  # told when the chunk has said the rest: `Failed` is the last
            return
        if state.calls is not None:
            events += state.calls.finish()
        # A word that nobody knows is told as a stop, and stays in `raw`: encoders pass it on.
        reason = _REASONS.get(word, FinishReason.STOP)
        if word in _STOPS and state.calls is not None:  # Ollama, Gemini, TGI
            reason = FinishReason.TOOL_CALLS
        raw = _text(choice.native_finish_reason) or word
        state.finished = True
        events.append(Finished(reason, index, raw, _text(choice.stop_reason)))

    def _open(self, index: int) -> _ChoiceState:
        if len(self._choices) == _MAX_CHOICES:
            raise BadPayload("too many choices in one answer")
        state = self._choices[index] = _ChoiceState()
        return state


def _read_content(choice: Choice, content: object, index: int, events: list[StreamEvent]) -> None:
    # per token
    text = content if type(content) is str else _plain(content)
    logprobs = choice.logprobs
    if logprobs is ABSENT or bytes(logprobs) == b"null":
        if text:
            events.append(Text(text, index))
    elif content is not None:  # a token may have no text yet, and still a probability
        events.append(Text(text, index, _on_one_line(logprobs)))


def _on_one_line(value: msgspec.Raw) -> msgspec.Raw:
    """JSON without line ends, which would break a frame; within its strings there are none."""
    # per token
    raw = bytes(value)
    if b"\n" not in raw and b"\r" not in raw:
        return value
    return msgspec.Raw(b"".join(raw.splitlines()))


def _read_thought(choice: Choice, delta: Delta, index: int, events: list[StreamEvent]) -> None:
    """Reasoning, and the blocks of it that somebody signed.

    In a stream the text of a block comes before it, piece by piece; a whole answer has both.
    """
    text = _plain(delta.reasoning_content or delta.reasoning)  # some send both, alike
    streamed = choice.message is None
    if streamed and text:
        events.append(Thinking(text, index))
    for block in blocks_of(delta.thinking_blocks) if delta.thinking_blocks else ():
        if isinstance(block, RedactedBlock):
            events.append(RedactedThinking(block.data, index))
            continue
        piece = "" if streamed else block.thinking
        if piece or block.signature:
            events.append(Thinking(piece, index, block.signature or None))
        text = text.removeprefix(piece)
    if text and not streamed:
        events.append(Thinking(text, index))


def _read_calls(
    choice: Choice,
    deltas: list[CallDelta],
    state: _ChoiceState,
    index: int,
    events: list[StreamEvent],
) -> None:
    if state.calls is None:
        state.calls = Calls(index)
    whole = choice.message is not None
    for position, delta in enumerate(deltas):
        events += state.calls.take(delta, position if whole else None)


def usage_of(counts: object) -> Usage | None:
    """The counts as an event; None where nothing was counted."""
    if not isinstance(counts, Counts):
        return None
    prompt, completion = _count(counts.prompt_tokens), _count(counts.completion_tokens)
    if prompt is None and completion is None:
        return None
    before, after = counts.prompt_tokens_details, counts.completion_tokens_details
    before = before if isinstance(before, PromptDetails) else None
    return Usage(
        prompt=prompt or 0,
        completion=completion or 0,
        cached=_count(before.cached_tokens) if before else None,
        reasoning=_count(after.reasoning_tokens) if isinstance(after, CompletionDetails) else None,
        cache_write=_count(before.cache_write_tokens) if before else None,
    )


def _plain(value: object) -> str:
    """The text of a leaf: a string, or the texts in a list of parts (Mistral)."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return ""
    return "".join(_plain(part.get("text")) for part in value if isinstance(part, dict))


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else None


def _seconds(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and value > 0 else None
