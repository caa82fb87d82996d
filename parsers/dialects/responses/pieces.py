"""What the items of an answer say, piece by piece, however often a server repeats it.

A stream tells everything three times: in deltas, in the `done` of a part, in the `done` of its
item. The first to say it counts, so that a server which leaves out the deltas is understood too.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from parsers.dialects.openai.blocks import signature_of
from parsers.dialects.responses.wire import Event, Item, number_of, text_of
from parsers.errors import BadPayload
from parsers.events import (
    RedactedThinking,
    Refusal,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
)

# Well above any real answer; bounds on what a broken server can make us remember.
_MAX_CALLS = 1024
_MAX_PIECES = 16 * 1024

_CALLS = frozenset({"function_call", "custom_tool_call"})
_PARAGRAPH = "\n\n"  # between the parts of a summary


class _Call:
    __slots__ = ("number", "told")

    def __init__(self, number: int) -> None:
        self.number = number
        self.told = False  # whether arguments were


class Pieces:
    """Appends to a list of events what an answer's items have said for the first time."""

    def __init__(self) -> None:
        self._told: set[tuple[type, int, int]] = set()
        self._calls: list[_Call] = []
        self._by_place: dict[int | str, _Call] = {}

    @property
    def called(self) -> bool:
        """Whether a call was made."""
        return bool(self._calls)

    @property
    def spoke(self) -> bool:
        """Whether anything was said."""
        return bool(self._told or self._calls)

    # A piece

    def text(self, event: Event, events: list[StreamEvent]) -> None:
        """A piece of the visible answer."""
        # per token
        self._say_text(event, event.delta, events)

    def refusal(self, event: Event, events: list[StreamEvent]) -> None:
        """A piece of a refusal."""
        self._say_refusal(event, event.delta, events)

    def thinking(self, event: Event, events: list[StreamEvent]) -> None:
        """A piece of reasoning, or of its summary."""
        # per token
        self._say_thought(event.output_index, event.delta, events)

    def paragraph(self, event: Event, events: list[StreamEvent]) -> None:
        """Another part of a summary begins."""
        if number_of(event.summary_index) and self._was_told(Thinking, event.output_index, None):
            events.append(Thinking(_PARAGRAPH))

    def arguments(self, event: Event, events: list[StreamEvent]) -> None:
        """A piece of a call's arguments."""
        # per token
        if (call := self._call_at(event)) is not None:
            _say_arguments(call, event.delta, events)

    # The whole of a piece

    def whole_text(self, event: Event, events: list[StreamEvent]) -> None:
        """The text of a part that has ended."""
        if not self._was_told(Text, event.output_index, event.content_index):
            self._say_text(event, event.text, events)

    def whole_refusal(self, event: Event, events: list[StreamEvent]) -> None:
        """The refusal that has ended."""
        if not self._was_told(Refusal, event.output_index, event.content_index):
            self._say_refusal(event, event.refusal, events)

    def whole_arguments(self, event: Event, events: list[StreamEvent]) -> None:
        """The arguments of a call."""
        call = self._call_at(event)
        if call is not None and not call.told:
            _say_arguments(call, event.arguments or event.input, events)

    # An item

    def opened_item(self, event: Event, events: list[StreamEvent]) -> None:
        """An item begins; only a call has something to say then."""
        if event.item is not None and text_of(event.item.type) in _CALLS:
            self._open_call(event.item, event.output_index, events)

    def whole_item(self, event: Event, events: list[StreamEvent]) -> None:
        """An item has ended."""
        if event.item is not None:
            self.item(event.item, event.output_index, events)

    def item(self, item: Item, place: object, events: list[StreamEvent]) -> None:
        """All of an item. Raises BadPayload for numbers of parts that no answer has."""
        if text_of(item.type) in _CALLS:
            call = self._open_call(item, place, events)
            if not call.told:
                _say_arguments(call, item.arguments or item.input, events)
        elif item.type == "reasoning":
            self._whole_reasoning(item, place, events)
        elif item.type == "message":
            self._whole_message(item, place, events)

    def _whole_message(self, item: Item, place: object, events: list[StreamEvent]) -> None:
        for index, part in enumerate(_parts(item.content)):
            event = Event(
                text=part.get("text"),
                refusal=part.get("refusal"),
                output_index=place,
                content_index=index,
                logprobs=part.get("logprobs"),
            )
            self.whole_text(event, events)
            self.whole_refusal(event, events)

    def _whole_reasoning(self, item: Item, place: object, events: list[StreamEvent]) -> None:
        parts = [*_parts(item.summary), *_parts(item.content)]
        if not self._was_told(Thinking, place, None):
            texts = [text for part in parts if (text := text_of(part.get("text")))]
            self._say_thought(place, _PARAGRAPH.join(texts), events)
        if (sealed := text_of(item.encrypted_content)) is None:
            return
        if not self._was_told(RedactedThinking, place, None):
            self._tell(RedactedThinking, place, None)
            events.append(Thinking("", signature=sealed) if parts else RedactedThinking(sealed))

    # Saying it

    def _say_text(self, event: Event, text: object, events: list[StreamEvent]) -> None:
        # per token
        logprobs = None if event.logprobs is None else _logprobs(event.logprobs)
        # A token may have no text yet, and still a probability.
        if type(text) is str and (text or logprobs is not None):
            self._tell(Text, event.output_index, event.content_index)
            events.append(Text(text, 0, logprobs))

    def _say_refusal(self, event: Event, text: object, events: list[StreamEvent]) -> None:
        if type(text) is str and text:
            self._tell(Refusal, event.output_index, event.content_index)
            events.append(Refusal(text))

    def _say_thought(self, place: object, text: object, events: list[StreamEvent]) -> None:
        # per token
        if type(text) is str and text:
            self._tell(Thinking, place, None)
            events.append(Thinking(text))

    # What was told

    def _tell(self, kind: type, item: object, part: object) -> None:
        # per token
        self._told.add((kind, number_of(item) or 0, number_of(part) or 0))
        if len(self._told) > _MAX_PIECES:
            raise BadPayload("too many parts in one answer")

    def _was_told(self, kind: type, item: object, part: object) -> bool:
        return (kind, number_of(item) or 0, number_of(part) or 0) in self._told

    # Calls

    def _call_at(self, event: Event) -> _Call | None:
        """By `output_index`, for ids may change under way; then by id; then it is the last."""
        # per token
        for place in (number_of(event.output_index), text_of(event.item_id)):
            if place is not None and place in self._by_place:
                return self._by_place[place]
        return self._calls[-1] if self._calls else None

    def _open_call(self, item: Item, place: object, events: list[StreamEvent]) -> _Call:
        number, ids = number_of(place), (text_of(item.id), text_of(item.call_id))
        named: list[int | str] = [at for at in ids if at is not None]
        # Where items are numbered, ids prove nothing: TGI's calls are all called "0".
        for at in named if number is None else (number,):
            if at in self._by_place:
                return self._by_place[at]
        if len(self._calls) == _MAX_CALLS:
            raise BadPayload("too many tool calls in one answer")
        call = _Call(len(self._calls))
        self._calls.append(call)
        for at in named if number is None else (number, *named):
            self._by_place[at] = call
        signature = None if item.extra_content is None else signature_of(item.extra_content)
        name = text_of(item.name) or ""
        events.append(ToolCall(call.number, ids[1] or ids[0], name, signature=signature))
        return call


def _say_arguments(call: _Call, text: object, events: list[StreamEvent]) -> None:
    # per token
    if type(text) is str and text:
        call.told = True
        events.append(ToolArguments(call.number, text))


def _logprobs(value: object) -> msgspec.Raw | None:
    """The entries for some tokens, in the form that chat gives them; None for none."""
    if not isinstance(value, list) or not value:
        return None
    return msgspec.Raw(msgspec.json.encode({"content": value}))


def _parts(value: object) -> Iterator[dict[object, object]]:
    if isinstance(value, list):
        yield from (part for part in value if isinstance(part, dict))
