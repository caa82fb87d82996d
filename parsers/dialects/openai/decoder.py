"""The bytes of a completion, of a chat or of a text, streamed or whole, as events.

Rules of upstreams.md 0: an error is looked for before anything else; `[DONE]` ends a stream and
does not make it a success; an end without it is one only if every choice was finished.
"""

from __future__ import annotations

import re
from itertools import islice

from parsers.dialects import faults, repair
from parsers.dialects.framing import AnswerDecoder
from parsers.dialects.openai.chunks import ChunkReader, usage_of
from parsers.dialects.openai.wire import BARE, FIRST_CHUNK, BareChoice
from parsers.dialects.repair import NOT_JSON
from parsers.errors import BadPayload
from parsers.events import (
    TERMINAL,
    Ended,
    Failed,
    Finished,
    FinishReason,
    StreamEvent,
    Usage,
)

_DONE = b"[DONE]"


class OpenAIReader:
    """The payloads of one streamed answer."""

    def __init__(self, chunks: ChunkReader) -> None:
        self._chunks = chunks
        self.joined = False  # whether some payload was several chunks, which clients cannot read

    @property
    def complete(self) -> bool:
        """Whether each choice was finished."""
        return self._chunks.finished_all

    @property
    def started(self) -> bool:
        """Whether a chunk has begun the answer."""
        return self._chunks.started

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one payload says; whether that ends the answer. Raises BadPayload."""
        # per token
        if payload == _DONE:  # decoding it would raise, which costs as much as three tokens
            return self._read_odd(payload, name, events)
        try:
            chunk = self._chunks.decode(payload)
        except NOT_JSON:
            return self._read_odd(payload.strip(), name, events)
        if not chunk.choices or chunk.error or name == "error":
            fault = faults.recognise(payload, name)
            if fault is not None:
                events.append(Failed(fault))
                return True
        return self._chunks.read(chunk, events)

    def _read_odd(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """A payload that is no chunk: the end mark, one to be repaired, or several chunks."""
        if payload == _DONE:
            events += self._chunks.release()
            events.append(Ended(proven=self._chunks.finished_any))
            return True
        values = values_of(payload)
        self.joined = self.joined or len(values) > 1
        return any(self.read(value, name, events) for value in values)


class OpenAIDecoder(AnswerDecoder):
    """A decoder for one streamed answer."""

    def __init__(self, chunks: ChunkReader, max_event_bytes: int) -> None:
        self._chunks = OpenAIReader(chunks)
        super().__init__(self._chunks, decode_body, max_event_bytes)

    @property
    def odd(self) -> bool:
        """Whether there was what OpenAI's own clients fail on, and we do not."""
        return super().odd or self._chunks.joined


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer, or the error or the page that came in its place, as events."""
    reader, events = ChunkReader(), list[StreamEvent]()
    try:
        answer = repair.decode(FIRST_CHUNK, body)
        if answer.error or not answer.choices:
            return [Failed(faults.from_response(200, body))]
        failed = reader.read(answer, events)
    except BadPayload:
        return [Failed(faults.from_response(200, body))]
    return events if failed else [*events, *reader.release(), Ended()]


def judge_body(body: bytes) -> list[StreamEvent]:
    """What `decode_body` says of how a whole answer ended, without what was said in it.

    The usual answer, one choice that stopped by itself or at its limit, is read by a struct that
    holds no more than that; every other goes the long way.
    """
    try:
        answer = BARE.decode(body)
    except NOT_JSON:
        return _endings(body)
    if answer.error or answer.choices is None or len(answer.choices) != 1:
        return _endings(body)
    reason = _plain_ending(answer.choices[0])
    if reason is None:
        return _endings(body)
    usage = None if answer.usage is None else usage_of(answer.usage)
    finished = Finished(reason, 0, reason.value)
    return [finished, Ended()] if usage is None else [finished, usage, Ended()]


_PLAIN_ENDINGS: dict[str, FinishReason] = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
}


def _plain_ending(choice: BareChoice) -> FinishReason | None:
    odd = choice.index != 0 or choice.native_finish_reason or choice.stop_reason
    calls = choice.message.tool_calls if choice.message is not None else None
    if odd or calls is not None:
        return None
    word = choice.finish_reason
    return _PLAIN_ENDINGS.get(word) if isinstance(word, str) else None


def _endings(body: bytes) -> list[StreamEvent]:
    kept = (Finished, Usage, *TERMINAL)
    return [event for event in decode_body(body) if isinstance(event, kept)]


# A tolerance, not a feature: what is larger or has more seams is refused, for each seam may cost
# a scan of the whole.
_MAX_SEAMS = 32
_MAX_CONCATENATED_BYTES = 1024 * 1024
_SEAM = re.compile(rb"\}[ \t\r\n]{0,8}\{")


def values_of(payload: bytes) -> list[bytes]:
    """The chunks in a payload that is not simply one, repaired. Raises BadPayload if it has none.

    Some servers write several JSON values into one payload.
    """
    payload = repair.repaired(payload)
    values: list[bytes] = []
    start = 0
    if not _is_chunk(payload) and len(payload) <= _MAX_CONCATENATED_BYTES:
        seams = [*islice(_SEAM.finditer(payload), _MAX_SEAMS + 1)]
        for seam in seams if len(seams) <= _MAX_SEAMS else ():
            value = payload[start : seam.start() + 1]
            if _is_chunk(value):
                values.append(value)
                start = seam.end() - 1
    if not _is_chunk(payload[start:]):
        raise BadPayload("an event that is no chunk")
    return [*values, payload[start:]]


def _is_chunk(payload: bytes) -> bool:
    try:
        FIRST_CHUNK.decode(payload)
    except NOT_JSON:
        return False
    return True
