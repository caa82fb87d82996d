"""What a server answers to a text completion, streamed or whole.

It differs from chat in two things only: a choice has `text` where chat has a delta, and TGI
reports usage for each prompt apart, on its last chunk (tgi.md 6.3), which has to be added up.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.dialects import faults, repair
from parsers.dialects.openai.chunks import ChunkReader
from parsers.dialects.openai.wire import ABSENT, Choice, Counts, Delta, FirstChunk
from parsers.errors import BadPayload
from parsers.events import Ended, Failed, StreamEvent, Usage


class _TextChoice(msgspec.Struct, frozen=True, gc=False):
    index: object = 0
    text: object = None
    finish_reason: object = None
    native_finish_reason: object = None
    stop_reason: object = None
    logprobs: msgspec.Raw = ABSENT


class _TextChunk(msgspec.Struct, frozen=True, gc=False):
    choices: list[_TextChoice] | None = None
    usage: Counts | None = None
    error: object = None
    id: object = None
    model: object = None
    created: object = None


_CHUNK = msgspec.json.Decoder(_TextChunk)


class TextReader:
    """The events of one streamed answer."""

    def __init__(self) -> None:
        self._chunks = ChunkReader()
        self._usage: dict[int, Usage] = {}  # by choice; as many as ChunkReader admits

    @property
    def complete(self) -> bool:
        """Whether each choice was finished."""
        return self._chunks.finished_all

    def read(self, payload: bytes, name: str) -> list[StreamEvent]:
        """What one event says. Raises BadPayload."""
        # per token
        if payload == b"[DONE]":
            return [Ended(proven=self._chunks.finished_any)]
        chunk = repair.decode(_CHUNK, payload)
        if not chunk.choices or chunk.error or name == "error":
            fault = faults.recognise(payload, name)
            if fault is not None:
                return [Failed(fault)]
        events: list[StreamEvent] = []
        self._chunks.read(_as_chat(chunk), events)
        if chunk.choices and events and isinstance(events[-1], Usage):
            events[-1] = self._total(chunk.choices[0].index, events[-1])
        return events

    def _total(self, choice: object, usage: Usage) -> Usage:
        """All choices together; a report without choices is already about them all."""
        self._usage[choice if isinstance(choice, int) else 0] = usage
        reports = self._usage.values()
        return Usage(
            prompt=sum(report.prompt for report in reports),
            completion=sum(report.completion for report in reports),
            cached=_sum(report.cached for report in reports),
            reasoning=_sum(report.reasoning for report in reports),
            cache_write=_sum(report.cache_write for report in reports),
        )


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer, or the error or the page that came in its place, as events."""
    try:
        answer = repair.decode(_CHUNK, body)
        if answer.error or not answer.choices:
            return [Failed(faults.from_response(200, body))]
        events: list[StreamEvent] = []
        ChunkReader().read(_as_chat(answer), events)
    except BadPayload:
        return [Failed(faults.from_response(200, body))]
    if not isinstance(events[-1], Failed):
        events.append(Ended())
    return events


def _as_chat(chunk: _TextChunk) -> FirstChunk:
    choices = [_as_chat_choice(choice) for choice in chunk.choices or ()]
    return FirstChunk(choices, chunk.usage, None, chunk.id, chunk.model, chunk.created)


def _as_chat_choice(choice: _TextChoice) -> Choice:
    # per token
    return Choice(
        index=choice.index,
        delta=Delta(choice.text),
        finish_reason=choice.finish_reason,
        native_finish_reason=choice.native_finish_reason,
        stop_reason=choice.stop_reason,
        logprobs=choice.logprobs,
    )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
