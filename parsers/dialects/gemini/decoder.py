"""What Gemini answers: chunks in server-sent events, one whole object, or an array of chunks.

A chunk and a whole answer have the same shape. There is no end mark but the `finishReason` of
each candidate, and older models named one in every chunk; so how a candidate finished is told at
the end of the body. An error may come as an event, or as bare JSON lines after good events; the
framing finds the latter. Source: upstreams.md 9, translation.md 6 and 7.
"""

from __future__ import annotations

import msgspec

from parsers.dialects import faults, repair
from parsers.dialects.framing import AnswerDecoder
from parsers.dialects.gemini.wire import CHUNK, CHUNKS, Candidate, Chunk, Counts, Part
from parsers.errors import BadPayload
from parsers.events import (
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

# Well above any real answer; a bound on what a broken server can make us remember.
_MAX_CALLS = 1024
_MAX_CANDIDATES = 128
_NO_ARGUMENTS = "{}"

_REASONS = {
    "STOP": FinishReason.STOP,
    "MAX_TOKENS": FinishReason.LENGTH,
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER"),
            "MODEL_ARMOR",  # Vertex's own filter
        ),
        FinishReason.CONTENT_FILTER,
    ),
}
# The model broke off, and what it said is no answer.
_FAILURES = {
    "MALFORMED_FUNCTION_CALL": "the model's function call is malformed",
    "UNEXPECTED_TOOL_CALL": "the model called a function although there are none",
    "TOO_MANY_TOOL_CALLS": "the model called too many functions in a row",
}
_EMPTY = "the model stopped without an answer"
_TRUNCATED = Failed(Fault(FaultKind.TRUNCATED, "upstream", "upstream's answer broke off"))


class _Choice:
    """One candidate so far."""

    __slots__ = ("blocked", "calls", "spoke", "word")

    def __init__(self) -> None:
        self.calls = 0
        self.spoke = False
        self.word = ""  # Gemini's for why it finished
        self.blocked = False  # it is the prompt that was filtered


class ChunkReader:
    """The events of one answer's chunks; `finish` tells what holds only at the end."""

    def __init__(self) -> None:
        self.started = False
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None

    @property
    def complete(self) -> bool:
        """Whether each candidate was finished."""
        choices = self._choices
        return bool(choices) and all(choice.word for choice in choices.values())

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one event says; whether that ends the answer. Raises BadPayload."""
        # per token
        chunk = repair.decode(CHUNK, payload)
        if not chunk.candidates or chunk.error or name == "error":
            fault = faults.recognise(payload, name)
            if fault is not None:
                events.append(Failed(fault))
                return True
        return self.take(chunk, events)

    def take(self, chunk: Chunk, events: list[StreamEvent]) -> bool:
        """Append what a chunk says, which is no error; whether that ends the answer."""
        # per token
        if not self.started:
            self.started = True
            events.append(Started(chunk.response_id, chunk.model_version))
        if chunk.usage_metadata is not None:
            usage = _usage(chunk.usage_metadata)
            if usage != self._usage:
                self._usage = usage
                events.append(usage)
        if chunk.prompt_feedback is not None and not chunk.candidates:
            self._block(chunk.prompt_feedback.block_reason)
        return any(self._read_candidate(candidate, events) for candidate in chunk.candidates)

    def finish(self) -> list[StreamEvent]:
        """How each candidate finished, once the answer is complete."""
        return [
            Finished(_reason(choice), index, choice.word)
            for index, choice in sorted(self._choices.items())
        ]

    def _block(self, word: str) -> None:
        """The prompt was refused; there will be no candidate."""
        if word:
            choice = self._choice(0)
            choice.word, choice.blocked = word, True

    def _choice(self, index: int) -> _Choice:
        choice = self._choices.get(index)
        if choice is None:
            if len(self._choices) == _MAX_CANDIDATES:
                raise BadPayload("too many candidates in one answer")
            choice = self._choices[index] = _Choice()
        return choice

    def _read_candidate(self, candidate: Candidate, events: list[StreamEvent]) -> bool:
        # per token
        index, word = candidate.index, candidate.finish_reason
        choice = self._choice(index)
        for part in candidate.content.parts if candidate.content is not None else ():
            if part.function_call is not None:
                events += _call(part, choice, index)
            elif part.thought:
                if part.text or part.thought_signature:
                    events.append(Thinking(part.text, index, part.thought_signature))
            elif part.text:
                choice.spoke = True
                events.append(Text(part.text, index))
        if word:
            choice.word = word
            fault = _failure(word, spoke=choice.spoke or choice.calls > 0)
            if fault is not None:
                events.append(Failed(fault))
                return True
        return False


class GeminiDecoder:
    """A StreamDecoder over server-sent events."""

    def __init__(self, max_event_bytes: int) -> None:
        self._reader = ChunkReader()
        self._answer = AnswerDecoder(self._reader, decode_body, max_event_bytes)

    odd = False  # no client speaks it

    @property
    def frames(self) -> int:
        """How many events it has read."""
        return self._answer.frames

    @property
    def pending_bytes(self) -> int:
        """How many of the bytes fed last belong to an event that is not complete."""
        return self._answer.pending_bytes

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that these bytes complete. Raises FrameTooLarge."""
        # per token
        return self._answer.feed(data)

    def close(self) -> list[StreamEvent]:
        """The last events; the end of the body is the end mark, if each candidate was finished."""
        events = self._answer.close()
        if events and events[-1] == Ended(marked=False):
            events[-1:] = [*self._reader.finish(), Ended()]
        return events


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer, or the error that came in its place, as events."""
    try:
        value = repair.decode(CHUNKS, body)
        chunks = (value,) if isinstance(value, Chunk) else value
        return _whole(chunks, body)
    except BadPayload:
        return [Failed(faults.from_response(200, body))]


def _whole(chunks: tuple[Chunk, ...], body: bytes) -> list[StreamEvent]:
    reader, events = ChunkReader(), list[StreamEvent]()
    for chunk in chunks:
        if chunk.error:
            return [*events, Failed(_error_of(chunk))]
        if reader.take(chunk, events):
            return events
    if reader.complete:
        return [*events, *reader.finish(), Ended()]
    if any(chunk.candidates for chunk in chunks):
        return [*events, _TRUNCATED]
    return [Failed(faults.from_response(200, body))]


def _error_of(chunk: Chunk) -> Fault:
    payload = msgspec.json.encode({"error": chunk.error})
    return faults.from_response(200, payload)


def _call(part: Part, choice: _Choice, index: int) -> tuple[ToolCall, ToolArguments]:
    """A call, which always comes whole. Its signature has to come back on the next turn."""
    call = part.function_call
    if call is None or choice.calls == _MAX_CALLS:
        raise BadPayload("too many function calls in one answer")
    number = choice.calls
    choice.calls += 1
    return (
        ToolCall(number, call.id or None, call.name, index, part.thought_signature),
        ToolArguments(number, _compact(call.args), index),
    )


def _compact(args: msgspec.Raw) -> str:
    """The arguments in one line: whole answers are pretty-printed. A call may have none."""
    if bytes(args) in (b"", b"null"):
        return _NO_ARGUMENTS
    return msgspec.json.format(bytes(args), indent=-1).decode("utf-8", "replace")


def _failure(word: str, *, spoke: bool) -> Fault | None:
    text = _EMPTY if word == "OTHER" and not spoke else _FAILURES.get(word)
    return None if text is None else Fault(FaultKind.UPSTREAM, "upstream", text, type=word)


def _reason(choice: _Choice) -> FinishReason:
    """Why a candidate finished. A word that nobody knows is told as a stop, and stays in `raw`."""
    if choice.blocked:
        return FinishReason.CONTENT_FILTER
    reason = _REASONS.get(choice.word, FinishReason.STOP)
    if choice.calls and reason is FinishReason.STOP:
        return FinishReason.TOOL_CALLS
    return reason


def _usage(counts: Counts) -> Usage:
    """The counts in OpenAI's way; Gemini's own output count leaves the thoughts out."""
    return Usage(
        prompt=counts.prompt_token_count + counts.tool_use_prompt_token_count,
        completion=counts.candidates_token_count + (counts.thoughts_token_count or 0),
        cached=counts.cached_content_token_count,
        reasoning=counts.thoughts_token_count,
    )
