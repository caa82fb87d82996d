"""Which call a piece of a streamed tool call belongs to.

By `index`, says the standard. But Ollama and dynamo give every call index 0, Mistral gives none,
TGI repeats the id, vLLM splits one call over two entries of one chunk (translation.md 2, rules
3 and 4).
"""

from __future__ import annotations

import msgspec

from parsers.dialects.openai.blocks import signature_of
from parsers.dialects.openai.wire import CallDelta
from parsers.errors import BadPayload
from parsers.events import StreamEvent, ToolArguments, ToolCall

# Well above any real answer; a bound on what a broken server can make us remember.
_MAX_CALLS = 1024


class _Call:
    __slots__ = ("id", "number", "opened", "signature")

    def __init__(self, number: int, id_: str | None) -> None:
        self.number = number
        self.id = id_
        self.opened = False
        self.signature: str | None = None


class Calls:
    """The tool calls of one choice, in the order in which they were opened."""

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._all: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    def take(self, delta: CallDelta, position: int | None = None) -> list[StreamEvent]:
        """The events of one entry of `tool_calls`.

        `position` stands in for a missing index in a whole answer, where each entry is a call.
        Raises BadPayload for a number of calls that no answer has.
        """
        function = delta.function
        name = _text(function.name) if function else None
        arguments = _arguments(function.arguments) if function else ""
        call = self._find(_index(delta.index, position), _text(delta.id), name)
        events: list[StreamEvent] = []
        if delta.extra_content is not None and not call.opened:
            call.signature = signature_of(delta.extra_content)
        # An id may come alone, before its name; arguments do not wait for one.
        if not call.opened and (name or arguments):
            events.append(self._opened(call, name or ""))
        if arguments:
            events.append(ToolArguments(call.number, arguments, self._choice))
        return events

    def finish(self) -> list[StreamEvent]:
        """Calls that were announced and never named."""
        return [self._opened(call, "") for call in self._all if not call.opened]

    def _opened(self, call: _Call, name: str) -> ToolCall:
        call.opened = True
        return ToolCall(call.number, call.id, name, self._choice, call.signature)

    def _find(self, index: int | None, id_: str | None, name: str | None) -> _Call:
        if id_ is not None and id_ in self._by_id:
            return self._by_id[id_]
        known = self._known(index, new=id_ is not None)
        # A new id with a name opens a new call even at an index that is taken.
        if known is None or (id_ is not None and name is not None):
            return self._open(index, id_)
        if id_ is not None:
            self._by_id[id_] = known
        return known

    def _known(self, index: int | None, *, new: bool) -> _Call | None:
        if index is not None:
            return self._by_index.get(index)
        return self._all[-1] if self._all and not new else None

    def _open(self, index: int | None, id_: str | None) -> _Call:
        if len(self._all) == _MAX_CALLS:
            raise BadPayload("too many tool calls in one answer")
        call = _Call(len(self._all), id_)
        self._all.append(call)
        if index is not None:
            self._by_index[index] = call
        if id_ is not None:
            self._by_id[id_] = call
        return call


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _index(value: object, position: int | None) -> int | None:
    return value if isinstance(value, int) else position


def _arguments(value: object) -> str:
    """The JSON text; some servers send the object itself."""
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
