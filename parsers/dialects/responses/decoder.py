"""The bytes of a response, streamed or whole, as events.

A stream ends in `response.completed`, `.incomplete` or `.failed`; without one of these it broke
off, whatever was said. OpenAI reports an exhausted quota after two good events, on a 200
(upstreams.md 5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from parsers.dialects import faults, repair
from parsers.dialects.responses.pieces import Pieces
from parsers.dialects.responses.wire import (
    EVENT,
    RESPONSE,
    Event,
    Response,
    text_of,
    usage_of,
)
from parsers.errors import BadPayload
from parsers.events import (
    TERMINAL,
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Usage,
)

_Take: TypeAlias = Callable[[Pieces, Event, list[StreamEvent]], None]
_PIECES: Mapping[str, _Take] = MappingProxyType(
    {
        "response.output_text.delta": Pieces.text,
        "response.output_text.done": Pieces.whole_text,
        "response.refusal.delta": Pieces.refusal,
        "response.refusal.done": Pieces.whole_refusal,
        "response.reasoning_text.delta": Pieces.thinking,
        "response.reasoning_summary_text.delta": Pieces.thinking,
        "response.reasoning_summary_part.added": Pieces.paragraph,
        "response.function_call_arguments.delta": Pieces.arguments,
        "response.function_call_arguments.done": Pieces.whole_arguments,
        "response.custom_tool_call_input.delta": Pieces.arguments,
        "response.custom_tool_call_input.done": Pieces.whole_arguments,
        "response.output_item.added": Pieces.opened_item,
        "response.output_item.done": Pieces.whole_item,
    }
)
_DONE = b"[DONE]"  # not of this dialect; some servers send it all the same
_LIFE = frozenset({"response.created", "response.queued", "response.in_progress"})
_ENDINGS = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
_STATUSES = frozenset({"completed", "incomplete", "failed", "cancelled"})
_UNENDED = frozenset({"queued", "in_progress"})
_UNTOLD = Fault(FaultKind.UPSTREAM, "upstream", "upstream ended the answer with an error")
_CANCELLED = Fault(FaultKind.UPSTREAM, "upstream", "the answer was cancelled upstream")


class ResponsesReader:
    """The payloads of one streamed answer."""

    def __init__(self) -> None:
        self._pieces = Pieces()
        self.started = False

    @property
    def complete(self) -> bool:
        """Never: only its last event makes an answer whole."""
        return False

    def read(self, payload: bytes, name: str, events: list[StreamEvent]) -> bool:
        """Append what one payload says; whether that ends the answer. Raises BadPayload."""
        # per token
        try:
            event = EVENT.decode(payload)
        except repair.NOT_JSON:
            if payload.strip() == _DONE:
                return False
            event = repair.decode(EVENT, payload)
        kind = event.type if isinstance(event.type, str) and name != "error" else name
        take = _PIECES.get(kind)
        if take is not None:
            take(self._pieces, event, events)
            return False
        if kind in _ENDINGS:
            self._end(event.response or Response(), _ENDINGS[kind], events)
            return True
        if kind in _LIFE:
            self._start(event.response or Response(), events)
            return False
        return _read_error(payload, kind, events)  # or an event that is not for us

    def _start(self, response: Response, events: list[StreamEvent]) -> None:
        # Who names the answer only after it has begun to speak comes too late.
        if not self.started and not self._pieces.spoke:
            events.append(_started(response))
        self.started = True

    def _end(self, response: Response, status: str, events: list[StreamEvent]) -> None:
        if not self._pieces.spoke:  # no event of its own for anything: the whole is all there is
            _read_output(response, self._pieces, events)
        events += _ending(response, status, called=self._pieces.called)


def decode_body(body: bytes) -> list[StreamEvent]:
    """A whole answer, or the error or the page that came in its place, as events."""
    pieces, events = Pieces(), list[StreamEvent]()
    try:
        response = repair.decode(RESPONSE, body)
        status = text_of(response.status)
        if status not in _UNENDED | _STATUSES and response.output is None:
            return [Failed(faults.from_response(200, body))]
        events.append(_started(response))
        _read_output(response, pieces, events)
    except BadPayload:
        return [Failed(faults.from_response(200, body))]
    if status in _UNENDED:  # it was asked for in the background
        return [*events, *usage_of(response.usage), Ended()]
    return events + _ending(response, "completed", called=pieces.called)


def judge_body(body: bytes) -> list[StreamEvent]:
    """What `decode_body` says of how a whole answer ended, without what was said in it."""
    kept = (Finished, Usage, *TERMINAL)
    return [event for event in decode_body(body) if isinstance(event, kept)]


def _started(response: Response) -> Started:
    created = response.created_at
    is_time = isinstance(created, int | float) and created > 0
    return Started(
        text_of(response.id),
        text_of(response.model),
        int(created) if is_time and isinstance(created, int | float) else None,
    )


def _read_output(response: Response, pieces: Pieces, events: list[StreamEvent]) -> None:
    for place, item in enumerate(response.output or ()):
        pieces.item(item, place, events)


def _read_error(payload: bytes, kind: str, events: list[StreamEvent]) -> bool:
    fault = faults.recognise(payload, kind)
    if fault is not None:
        events.append(Failed(fault))
    return fault is not None


def _ending(response: Response, status: str, *, called: bool) -> list[StreamEvent]:
    """How the answer ended; what it says of itself outranks the name of the event."""
    told = text_of(response.status)
    if told in _STATUSES:
        status = told
    usage = usage_of(response.usage)
    if response.error or status in ("failed", "cancelled"):
        return [*usage, Failed(_fault(response, status))]
    return [_finished(response, status, called=called), *usage, Ended()]


def _finished(response: Response, status: str, *, called: bool) -> Finished:
    raw, stop = text_of(response.native_finish_reason), text_of(response.stop_reason)
    if status == "incomplete":
        details = response.incomplete_details
        word = text_of(details.reason) if details else None
        filtered = word == "content_filter"
        # A word that nobody knows still says that the answer is not whole.
        reason = FinishReason.CONTENT_FILTER if filtered else FinishReason.LENGTH
        return Finished(reason, 0, raw or word or status, stop)
    reason = FinishReason.TOOL_CALLS if called else FinishReason.STOP
    return Finished(reason, 0, raw or status, stop)


def _fault(response: Response, status: str) -> Fault:
    if not response.error:
        return _CANCELLED if status == "cancelled" else _UNTOLD
    told = faults.recognise(msgspec.json.encode({"error": response.error}))
    return told or _UNTOLD
