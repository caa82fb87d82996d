"""Events, as what a Cody client reads: a stream of two-line frames, or one JSON object.

Clients split at blank lines, want `event: ` and `data: ` with one space each, and fail on anything
else: comments, ids, other names (sourcegraph.md 3.5). A stream without `done` never ends for them.
They know one choice.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import msgspec

from parsers.dialects.base import Identity
from parsers.dialects.openai.folding import made_up_id, usage_object
from parsers.dialects.sourcegraph.errors import DONE, error_frame
from parsers.dialects.sourcegraph.form import Form
from parsers.dialects.sourcegraph.logprobs import Logprobs
from parsers.events import (
    Ended,
    Failed,
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

_json = msgspec.json.Encoder().encode

_COMPLETION = b"event: completion\ndata: {%b}\n\n"

# Said where the upstream marked the end and gave no reason: without one, clients take the text
# for partial.
_NO_REASON = "stop_sequence"


class _Function(msgspec.Struct, frozen=True):
    name: str
    arguments: str


class _Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    type: str
    id: str | None = None
    function: _Function


class SourcegraphEncoder:
    """One streamed answer, in the form of one api-version."""

    def __init__(self, form: Form, identity: Identity, upstream_name: str | None = None) -> None:
        self._form = form
        self._calls = _Calls(identity)
        self._names = Names(identity, upstream_name)
        self._said = b""  # all text so far, as JSON without its quotes; only without deltas
        self._logprobs: Logprobs | None = None
        self._usage: Usage | None = None
        self._finished = False

    def encode(self, event: StreamEvent) -> bytes:
        """The frames for this event; empty where the form has no word for it."""
        # per token
        out = b""
        match event:
            case Text(choice=0) | Refusal(choice=0):
                out = self._text(event)
            case Thinking(choice=0) | ToolCall(choice=0) | ToolArguments(choice=0):
                out = self._piece(event)
            case Finished(choice=0):
                out = self._finish(event.reason)
            case Usage():
                self._usage = event  # told at the end, when it is final
            case Ended():
                out = self._end()
            case Failed():
                out = error_frame(event.fault)
            case Started():
                self._names.read(event)
            case Text() | Refusal() | Thinking() | ToolCall() | ToolArguments() | Finished():
                pass  # another choice
            case RedactedThinking():
                pass  # no word for it
            case _:
                assert_never(event)
        return out

    def _text(self, event: Text | Refusal) -> bytes:
        # per token
        if not event.text:
            return b""
        if isinstance(event, Text) and event.logprobs is not None:
            self._logprobs = self._logprobs or Logprobs()
            self._logprobs.add(event.logprobs)
        if self._form.deltas:
            return self._event(b'"deltaText":' + _json(event.text))
        self._said += _json(event.text)[1:-1]
        return self._event(b'"completion":"%b","stopReason":""' % self._said)

    def _piece(self, event: Thinking | ToolCall | ToolArguments) -> bytes:
        # per token
        if not self._form.tools:
            return b""
        if not isinstance(event, Thinking):
            call = self._calls.delta(event)
            return _COMPLETION % (b'"deltaText":"","delta_tool_calls":[%b]' % _json(call))
        if not event.text:  # a signature alone
            return b""
        return _COMPLETION % (b'"deltaText":"","delta_thinking":' + _json(event.text))

    def _finish(self, reason: str) -> bytes:
        self._finished = True
        if self._form.deltas:
            return self._event(b'"deltaText":"","stopReason":' + _json(reason))
        return self._event(b'"completion":"%b","stopReason":%b' % (self._said, _json(reason)))

    def _event(self, members: bytes) -> bytes:
        # per token
        if self._logprobs is not None and (lists := self._logprobs.encode()):
            members += b',"logprobs":' + lists
        return _COMPLETION % members

    def _end(self) -> bytes:
        reason = FinishReason.TOOL_CALLS if self._calls else _NO_REASON  # TGI names none for calls
        frames = b"" if self._finished else self._finish(reason)
        if self._form.usage and self._usage is not None:
            counts = _json(usage_object(self._usage))
            names = _json(self._names.told())[1:-1]
            frames += _COMPLETION % (b'"deltaText":"","usage":%b,%b' % (counts, names))
        return frames + DONE


class _Told(msgspec.Struct, frozen=True, omit_defaults=True):
    modelref: str
    model: str | None = None


class Names:
    """What the model of an answer is called: by the configuration, and by its server."""

    def __init__(self, identity: Identity, upstream_name: str | None) -> None:
        self._ref = identity.model
        self._name = upstream_name  # None: a secret, whatever the server says

    def read(self, event: Started) -> None:
        """The server's own word, which may name the model more exactly, comes first."""
        if self._name is not None and event.model:
            self._name = event.model

    def told(self) -> _Told:
        """Both names, as clients are told them."""
        return _Told(self._ref, self._name)


class _Calls:
    """The calls of one answer, as deltas.

    Clients add arguments without an id to the call that they read of last, so a call is named
    again when another one came between.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._names: dict[int, tuple[str, str]] = {}
        self._last = -1

    def __len__(self) -> int:
        return len(self._names)

    def delta(self, event: ToolCall | ToolArguments) -> _Call:
        """The entry of `delta_tool_calls` for this event."""
        fragment = event.fragment if isinstance(event, ToolArguments) else ""
        if isinstance(event, ToolCall):
            call_id = event.id or made_up_id(self._identity, event)
            self._names[event.call] = (call_id, event.name)
        elif event.call == self._last:
            return _Call(type="function", function=_Function("", fragment))
        self._last = event.call
        call_id, name = self._names[event.call]
        return _Call(type="function", id=call_id, function=_Function(name, fragment))


class _Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    completion: str
    stopReason: str
    logprobs: msgspec.Raw | None = None
    delta_thinking: str | None = None
    delta_tool_calls: tuple[_Call, ...] | None = None
    usage: object = None
    modelref: str | None = None
    model: str | None = None


class _Answer:
    """A whole answer while it is being put together."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.text: list[str] = []
        self.thinking: list[str] = []
        self.calls: dict[int, ToolCall] = {}
        self.arguments: dict[int, list[str]] = {}
        self.logprobs = Logprobs()
        self.finished: str | None = None
        self.usage: Usage | None = None

    def add(self, event: StreamEvent) -> None:
        """Take one event of the first choice in."""
        match event:
            case Text(choice=0):
                self.text.append(event.text)
                if event.logprobs is not None:
                    self.logprobs.add(event.logprobs)
            case Refusal(choice=0):
                self.text.append(event.text)
            case Thinking(choice=0):
                self.thinking.append(event.text)
            case ToolCall(choice=0):
                self.calls[event.call] = event
            case ToolArguments(choice=0):
                self.arguments.setdefault(event.call, []).append(event.fragment)
            case Finished(choice=0):
                self.finished = event.reason
            case Usage():
                self.usage = event
            case Started():
                self.names.read(event)
            case _:
                pass

    @property
    def reason(self) -> str:
        """Why it ended, as streams say it."""
        return self.finished or (FinishReason.TOOL_CALLS if self.calls else _NO_REASON)

    def tool_calls(self, identity: Identity) -> tuple[_Call, ...]:
        """The calls, each whole."""
        return tuple(
            _Call(
                type="function",
                id=call.id or made_up_id(identity, call),
                function=_Function(call.name, "".join(self.arguments.get(index, ()))),
            )
            for index, call in self.calls.items()
        )


def encode_body(
    events: Iterable[StreamEvent],
    form: Form,
    identity: Identity,
    upstream_name: str | None = None,
) -> bytes:
    """The whole answer folded from its events; thinking and calls under their names in streams.

    `completion` and `stopReason` are always texts: autocomplete clients insist on it.
    """
    answer = _Answer(Names(identity, upstream_name))
    for event in events:
        answer.add(event)
    told = answer.names.told() if form.usage and answer.usage else None
    lists = answer.logprobs.encode()
    body = _Body(
        completion="".join(answer.text),
        stopReason=answer.reason,
        logprobs=msgspec.Raw(lists) if lists else None,
        delta_thinking=("".join(answer.thinking) or None) if form.tools else None,
        delta_tool_calls=(answer.tool_calls(identity) or None) if form.tools else None,
        usage=usage_object(answer.usage) if form.usage and answer.usage else None,
        modelref=told.modelref if told is not None else None,
        model=told.model if told is not None else None,
    )
    return _json(body)
