"""Events, as the bytes of a response, streamed or whole.

Every item runs through its whole life: it is added, its parts are, they grow, they are done, it is
done, each time with all that has been said. A message or a piece of reasoning ends where
something else begins. Calls stay open to the end, since servers of chat may stream two at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import assert_never

import msgspec

from parsers.dialects.base import Identity
from parsers.dialects.openai.folding import made_up_id
from parsers.dialects.responses import errors
from parsers.dialects.responses.answer import (
    ended,
    is_cut,
    response_id,
    response_object,
    usage_object,
)
from parsers.dialects.responses.items import (
    CallItem,
    ContentItem,
    Item,
    Part,
    PartKind,
    ReasoningItem,
    entries_of,
)
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

_Object = dict[str, object]
_json = msgspec.json.Encoder().encode

_FRAME = b'event: %b\ndata: {"type":"%b","sequence_number":%d,%b}\n\n'
_NO_LOGPROBS = b',"logprobs":[]'  # the SDKs look at it in every piece of text
_MAX_ID_CHARS = 40
# Part by part: the events of its pieces and of its end.
_EVENTS: dict[PartKind, tuple[bytes, bytes]] = {
    "output_text": (b"response.output_text.delta", b"response.output_text.done"),
    "refusal": (b"response.refusal.delta", b"response.refusal.done"),
    "reasoning_text": (b"response.reasoning_text.delta", b"response.reasoning_text.done"),
}


class ResponsesEncoder:
    """One streamed answer, from `response.created` to its end, of which there is exactly one.

    There is one choice: what is said of others is passed over, for no client can have asked.
    """

    def __init__(self, identity: Identity, echo: Mapping[str, object]) -> None:
        self._identity = identity
        self._suffix = response_id(identity).removeprefix("resp_")[-_MAX_ID_CHARS:]
        self._response = response_object(identity, echo)
        self._sequence = 0
        self._items: list[Item] = []
        self._open: ContentItem | None = (
            None  # a message or reasoning; then its part, if it has one
        )
        self._part: Part | None = None
        self._part_place = b""
        self._calls: dict[int, CallItem] = {}
        self._finished: Finished | None = None
        self._usage: Usage | None = None
        self._begun = False
        self._over = False

    def encode(self, event: StreamEvent) -> bytes:
        """The frames for this event; empty where the dialect has no word for it."""
        # per token
        if self._over:
            return b""
        frames = b"" if self._begun else self._begin()
        match event:
            case Text():
                frames += self._text(event)
            case Thinking() | Refusal() | RedactedThinking() | ToolCall() | ToolArguments():
                frames += self._content(event)
            case Finished():
                frames += self._finish(event)
            case Usage():
                self._usage = event  # told at the end, when it is final
            case Started():
                pass
            case Failed():
                frames += self._fail(event)
            case Ended():
                frames += self._complete()
            case _:
                assert_never(event)
        return frames

    def response(self) -> _Object:
        """The answer as it stands."""
        output = [item.object() for item in self._items]
        return {**self._response, "output": output, "usage": usage_object(self._usage)}

    # The life of the answer

    def _begin(self) -> bytes:
        self._begun = True
        created = self._life(b"response.created", self._response)
        return created + self._life(b"response.in_progress", self._response)

    def _finish(self, event: Finished) -> bytes:
        if event.choice:
            return b""
        self._finished = event
        return self._close_all()

    def _complete(self) -> bytes:
        self._over = True
        frames = self._close_all()  # of an answer without a finish reason
        self._response = ended(self._response, self._finished)
        name = b"response.incomplete" if is_cut(self._finished) else b"response.completed"
        return frames + self._life(name, self.response())

    def _fail(self, event: Failed) -> bytes:
        self._over = True
        for item in self._items:
            if item.status == "in_progress":
                item.status = "incomplete"
        told = errors.error_event(event.fault, self._sequence)
        self._sequence += 1
        self._response |= {"status": "failed", "error": errors.failure(event.fault)}
        return told + self._life(b"response.failed", self.response())

    def _life(self, name: bytes, response: _Object) -> bytes:
        return self._frame(name, b'"response":' + _json(response))

    # Content

    def _text(self, event: Text) -> bytes:
        # per token
        if event.choice or not (event.text or event.logprobs is not None):
            return b""
        frames = self._turn_to("output_text")
        entries = entries_of(event.logprobs)
        if not entries or self._part is None:
            return frames + self._piece(event.text, _NO_LOGPROBS)
        self._part.logprobs += entries
        return frames + self._piece(event.text, b',"logprobs":' + _json(entries))

    def _content(
        self, event: Thinking | Refusal | RedactedThinking | ToolCall | ToolArguments
    ) -> bytes:
        # per token
        if event.choice:
            return b""
        match event:
            case ToolArguments():
                return self._arguments(event.call, event.fragment)
            case ToolCall():
                return self._call(event)
            case Thinking():
                return self._think(event)
            case Refusal():
                return self._refuse(event.text)
            case RedactedThinking():
                frames = self._close()
                return frames + self._add(self._new_reasoning()) + self._seal(event.data)
            case _:
                assert_never(event)

    def _refuse(self, text: str) -> bytes:
        return self._turn_to("refusal") + self._piece(text) if text else b""

    def _think(self, event: Thinking) -> bytes:
        # per token
        if not event.text and event.signature is None:
            return b""
        frames = self._turn_to("reasoning_text")
        if event.text:
            frames += self._piece(event.text)
        return frames if event.signature is None else frames + self._seal(event.signature)

    def _seal(self, sealed: str) -> bytes:
        """A block of reasoning is signed at its end."""
        if isinstance(self._open, ReasoningItem):
            self._open.sealed = sealed
        return self._close()

    def _turn_to(self, kind: PartKind) -> bytes:
        """Open a part of this kind, and an item for it, unless they are open."""
        # per token
        if self._part is not None and self._part.kind == kind:
            return b""
        is_reasoning = kind == "reasoning_text"
        item = self._open
        if item is not None and isinstance(item, ReasoningItem) is is_reasoning:
            return self._close_part() + self._add_part(item, kind)
        frames = self._close()
        content = self._new_reasoning() if is_reasoning else ContentItem(*self._next())
        return frames + self._add(content) + self._add_part(content, kind)

    def _piece(self, text: str, more: bytes = b"") -> bytes:
        # per token
        part = self._part
        if part is None:
            return b""
        part.pieces.append(text)
        return self._frame(
            _EVENTS[part.kind][0], b'%b,"delta":%b%b' % (self._part_place, _json(text), more)
        )

    def _call(self, event: ToolCall) -> bytes:
        frames = self._close()
        call_id = event.id or made_up_id(self._identity, event)
        item = self._calls[event.call] = CallItem(*self._next(), call_id, event)
        self._items.append(item)
        return frames + self._item_frame(b"response.output_item.added", item)

    def _arguments(self, call: int, fragment: str) -> bytes:
        # per token
        item = self._calls.get(call)
        if item is None or not fragment:
            return b""
        item.pieces.append(fragment)
        return self._frame(
            b"response.function_call_arguments.delta",
            b'%b,"delta":%b' % (item.place, _json(fragment)),
        )

    # Items and parts

    def _next(self) -> tuple[str, int]:
        return self._suffix, len(self._items)

    def _new_reasoning(self) -> ReasoningItem:
        return ReasoningItem(*self._next())

    def _add(self, item: ContentItem) -> bytes:
        self._items.append(item)
        self._open = item
        return self._item_frame(b"response.output_item.added", item)

    def _add_part(self, item: ContentItem, kind: PartKind) -> bytes:
        part = self._part = Part(kind, len(item.parts))
        item.parts.append(part)
        self._part_place = b'%b,"content_index":%d' % (item.place, part.index)
        return self._part_frame(b"response.content_part.added", part)

    def _close(self) -> bytes:
        """End the message or the reasoning that is open."""
        frames, item = self._close_part(), self._open
        self._open = None
        return frames if item is None else frames + self._close_item(item)

    def _close_part(self) -> bytes:
        part, self._part = self._part, None
        if part is None:
            return b""
        whole = b'%b,"%b":%b' % (self._part_place, part.member.encode(), _json(part.text))
        if part.kind == "output_text":
            whole += b',"logprobs":' + _json(part.logprobs)
        done = self._frame(_EVENTS[part.kind][1], whole)
        return done + self._part_frame(b"response.content_part.done", part)

    def _close_call(self, item: CallItem) -> bytes:
        frames = b""
        if not item.pieces and not is_cut(self._finished):
            item.pieces.append("{}")  # clients parse it, and "" is no JSON (translation.md 2)
            frames = self._frame(
                b"response.function_call_arguments.delta", item.place + b',"delta":"{}"'
            )
        whole = b'%b,"name":%b,"arguments":%b' % (
            item.place,
            _json(item.name),
            _json(item.arguments),
        )
        frames += self._frame(b"response.function_call_arguments.done", whole)
        return frames + self._close_item(item)

    def _close_item(self, item: Item) -> bytes:
        item.status = "incomplete" if is_cut(self._finished) else "completed"
        return self._item_frame(b"response.output_item.done", item)

    def _close_all(self) -> bytes:
        frames = [self._close(), *map(self._close_call, self._calls.values())]
        self._calls.clear()
        return b"".join(frames)

    # Frames

    def _item_frame(self, name: bytes, item: Item) -> bytes:
        return self._frame(
            name, b'"output_index":%d,"item":%b' % (item.index, _json(item.object()))
        )

    def _part_frame(self, name: bytes, part: Part) -> bytes:
        return self._frame(name, b'%b,"part":%b' % (self._part_place, _json(part.object())))

    def _frame(self, name: bytes, members: bytes) -> bytes:
        # per token
        number = self._sequence
        self._sequence = number + 1
        return _FRAME % (name, name, number, members)


def encode_body(
    events: Iterable[StreamEvent], identity: Identity, echo: Mapping[str, object]
) -> bytes:
    """The whole answer folded from its events; there is no `Failed` among them.

    It is what the last event of a stream of them carries.
    """
    encoder = ResponsesEncoder(identity, echo)
    for event in events:
        encoder.encode(event)
    return _json(encoder.response())
