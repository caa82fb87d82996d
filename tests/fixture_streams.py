"""The recorded streams of tests/fixtures/streams: load them, replay them, say what came out.

A test of one dialect is three lines: `for case in cases("openai-chat")`, `play(case, dialect, way)`
for each of `ways(case)`, then `check(case, events)`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from parsers.dialects.base import UpstreamDialect, refusal_of
from parsers.events import (
    TERMINAL,
    VISIBLE,
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    Refusal,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

STREAMS = Path(__file__).parent / "fixtures" / "streams"

# Byte by byte takes seconds beyond this.
_SMALL = 50_000

# The fixtures' words for what our FaultKind calls by another name.
_CLASSES = {
    FaultKind.UNAUTHENTICATED: "authentication",
    FaultKind.FORBIDDEN: "permission",
    FaultKind.UNKNOWN_MODEL: "not_found",
    FaultKind.UPSTREAM: "upstream_error",
    FaultKind.PROTOCOL: "protocol_error",
    FaultKind.CONTEXT_LENGTH: "context_length_exceeded",
}


class Call(msgspec.Struct):
    index: int
    id: str | None
    name: str
    arguments: str | None = None
    arguments_sha256: str | None = None
    arguments_bytes: int | None = None


class Choice(msgspec.Struct):
    index: int
    text: str
    finish_reason: str | None
    finish_reason_raw: str | None = None


class Counts(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_tokens: int | None = None


class Failure(msgspec.Struct):
    where: str
    class_: str = msgspec.field(name="class")
    message: str | None
    type_raw: str | None
    code_raw: str | int | None
    status_raw: int | None
    http_status: int
    retryable: bool


class Expect(msgspec.Struct):
    text: str
    text_deltas: list[str]
    reasoning: str
    tool_calls: list[Call]
    finish_reason: str | None
    finish_reason_raw: str | None
    usage: Counts | None
    ended: str
    error: Failure | None
    choices: list[Choice] | None = None
    refusal: str | None = None
    final_text: str | None = None
    response_id: str | None = None
    strict_alternative: dict[str, str | None] | None = None


class Http(msgspec.Struct):
    status: int
    headers: dict[str, str] = {}


class Case(msgspec.Struct):
    name: str
    upstream: str
    dialect: str
    framing: str
    http: Http
    expect: Expect
    content_encoding: str | None = None
    chunk_sizes: list[int] | None = None
    body: bytes = b""

    @property
    def streamed(self) -> bool:
        """Whether the body goes to a stream decoder; else it is one whole answer or error."""
        return self.framing in ("sse", "ndjson", "aws-eventstream")


def cases(*dialects: str) -> list[Case]:
    """Every fixture of these dialects, the bodies as they left the server but not compressed."""
    found = [_load(path) for path in sorted(STREAMS.glob("*/*.json"))]
    return [case for case in found if case.dialect in dialects]


def _load(path: Path) -> Case:
    case = msgspec.json.decode(path.read_bytes(), type=Case)
    ending = ".bin" if case.framing == "aws-eventstream" else ".sse"
    body = path.with_suffix(ending).read_bytes()
    # The transport decompresses, not the parsers.
    case.body = zlib.decompress(body, 31) if case.content_encoding == "gzip" else body
    return case


def ways(case: Case) -> Iterator[tuple[str, list[bytes]]]:
    """The body in pieces: whole, byte by byte, and in the reads that the fixture names."""
    yield "whole", [case.body]
    if len(case.body) <= _SMALL:
        yield "bytewise", [case.body[i : i + 1] for i in range(len(case.body))]
    if case.chunk_sizes and not case.content_encoding:
        yield "recorded reads", _cut(case.body, case.chunk_sizes)


def _cut(body: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(body[start : start + size])
        start += size
    return [*pieces, body[start:]]


def play(case: Case, dialect: UpstreamDialect, pieces: list[bytes]) -> list[StreamEvent]:
    """What the dialect makes of the case, by the road that the exchange would take."""
    if case.http.status >= 400:
        headers = {name.encode(): value.encode() for name, value in case.http.headers.items()}
        return [Failed(refusal_of(dialect, case.http.status, headers, case.body))]
    if not case.streamed:
        return dialect.decode_body(case.body)
    return replay(dialect, pieces)


def replay(dialect: UpstreamDialect, pieces: list[bytes]) -> list[StreamEvent]:
    """The events of a streamed body that was read in these pieces."""
    decoder = dialect.stream_decoder()
    events: list[StreamEvent] = []
    for piece in pieces:
        events += decoder.feed(piece)
        assert decoder.pending_bytes >= 0
    return events + decoder.close()


def check_grammar(events: list[StreamEvent]) -> None:
    """Assert the grammar of parsers/events.py."""
    assert events, "no terminal event"
    assert isinstance(events[-1], TERMINAL)
    finished: set[int] = set()
    opened: set[tuple[int, int]] = set()
    for position, event in enumerate(events):
        if isinstance(event, TERMINAL):
            assert position == len(events) - 1, "an event after the terminal one"
        elif isinstance(event, Started):
            assert position == 0, "Started is not first"
        elif isinstance(event, Usage):
            assert event.prompt >= 0
            assert event.completion >= 0
        else:
            assert event.choice not in finished, "content after Finished"
            if isinstance(event, Finished):
                finished.add(event.choice)
            if isinstance(event, ToolCall):
                calls = sum(1 for choice, _ in opened if choice == event.choice)
                assert event.call == calls, "calls are not counted from 0"
                opened.add((event.choice, event.call))
            if isinstance(event, ToolArguments):
                assert (event.choice, event.call) in opened, "arguments of no call"


class Outcome(msgspec.Struct):
    """A list of events in the words of the fixtures."""

    text: str
    text_deltas: list[str]
    reasoning: str
    refusal: str
    tool_calls: list[Call]
    choices: list[Choice]
    usage: Counts | None
    ended: str
    fault: Fault | None
    where: str | None

    @property
    def finish_reason(self) -> str | None:
        return self.choices[0].finish_reason if len(self.choices) == 1 else None

    @property
    def finish_reason_raw(self) -> str | None:
        return self.choices[0].finish_reason_raw if len(self.choices) == 1 else None


def fold(events: list[StreamEvent], *, before_stream: bool = False) -> Outcome:
    """What the events amount to."""
    check_grammar(events)
    last = events[-1]
    fault = last.fault if isinstance(last, Failed) else None
    deltas = [event.text for event in events if isinstance(event, Text) and event.text]
    return Outcome(
        text="".join(deltas),
        text_deltas=deltas,
        reasoning="".join(event.text for event in events if isinstance(event, Thinking)),
        refusal="".join(event.text for event in events if isinstance(event, Refusal)),
        tool_calls=_calls(events),
        choices=_choices(events),
        usage=_usage(events),
        ended=_ended(events),
        fault=fault,
        where=_where(events, before_stream) if fault else None,
    )


def _calls(events: list[StreamEvent]) -> list[Call]:
    calls: dict[tuple[int, int], Call] = {}
    for event in events:
        if isinstance(event, ToolCall):
            calls[event.choice, event.call] = Call(event.call, event.id, event.name, "")
        elif isinstance(event, ToolArguments):
            call = calls[event.choice, event.call]
            call.arguments = (call.arguments or "") + event.fragment
    return list(calls.values())


def _choices(events: list[StreamEvent]) -> list[Choice]:
    choices: dict[int, Choice] = {}
    for event in events:
        if isinstance(event, Text | Thinking | Refusal | ToolCall | Finished):
            choice = choices.setdefault(event.choice, Choice(event.choice, "", None))
            if isinstance(event, Text):
                choice.text += event.text
            elif isinstance(event, Finished):
                choice.finish_reason = event.reason.value
                choice.finish_reason_raw = event.raw
    return [choices[index] for index in sorted(choices)]


def _usage(events: list[StreamEvent]) -> Counts | None:
    reports = [event for event in events if isinstance(event, Usage)]
    if not reports:
        return None
    last = reports[-1]
    return Counts(
        prompt_tokens=last.prompt,
        completion_tokens=last.completion,
        total_tokens=last.prompt + last.completion,
        cached_tokens=last.cached,
        reasoning_tokens=last.reasoning,
        cache_write_tokens=last.cache_write,
    )


def _ended(events: list[StreamEvent]) -> str:
    last = events[-1]
    if isinstance(last, Failed):
        return "truncated" if last.fault.kind is FaultKind.TRUNCATED else "error"
    assert isinstance(last, Ended)
    if not any(isinstance(event, Finished) for event in events):
        return "done_without_finish"
    return "clean" if last.marked else "finish_without_done"


def _where(events: list[StreamEvent], before_stream: bool) -> str:
    if before_stream:
        return "before_stream"
    if any(isinstance(event, Finished) for event in events):
        return "after_finish"
    return "mid_stream" if any(isinstance(event, VISIBLE) for event in events) else "first_event"


def check(case: Case, events: list[StreamEvent]) -> None:
    """Assert that the events are what the fixture expects of them."""
    outcome = fold(events, before_stream=not case.streamed)
    expect = case.expect
    assert outcome.text == expect.text
    assert outcome.text_deltas == [delta for delta in expect.text_deltas if delta]
    assert outcome.reasoning == expect.reasoning
    assert outcome.refusal == (expect.refusal or "")
    assert _ended_as_expected(case, outcome)
    assert outcome.finish_reason == expect.finish_reason
    assert outcome.finish_reason_raw == expect.finish_reason_raw
    if expect.choices is not None:
        assert outcome.choices == expect.choices
    _check_calls(outcome.tool_calls, expect.tool_calls)
    _check_usage(case, outcome.usage)
    _check_fault(case, outcome)


def _ended_as_expected(case: Case, outcome: Outcome) -> bool:
    error = case.expect.error
    # A server that says "incomplete" has sent an error, which to us is a TRUNCATED one.
    if error is not None and error.class_ == "truncated":
        return outcome.ended == "truncated"
    return outcome.ended == case.expect.ended


def _check_calls(calls: list[Call], expected: list[Call]) -> None:
    assert len(calls) == len(expected)
    for call, wanted in zip(calls, expected, strict=True):
        assert (call.index, call.name) == (wanted.index, wanted.name)
        assert wanted.id in ("*", call.id)
        arguments = call.arguments or ""
        if wanted.arguments is not None:
            assert arguments == wanted.arguments
        if wanted.arguments_sha256 is not None:
            assert len(arguments.encode()) == wanted.arguments_bytes
            assert hashlib.sha256(arguments.encode()).hexdigest() == wanted.arguments_sha256


def _check_usage(case: Case, usage: Counts | None) -> None:
    expected = case.expect.usage
    if usage is not None and expected is not None and usage.cached_tokens is None:
        header = case.http.headers.get("fireworks-cached-prompt-tokens")
        usage.cached_tokens = int(header) if header else None  # told outside the body
    assert usage == expected


def _check_fault(case: Case, outcome: Outcome) -> None:
    error, fault = case.expect.error, outcome.fault
    if error is None:
        assert fault is None
        return
    assert fault is not None
    assert fault.origin == "upstream"
    assert _CLASSES.get(fault.kind, fault.kind.value) == error.class_
    assert outcome.where == error.where
    if error.message is not None:
        assert fault.message == error.message
    assert fault.message
    assert fault.type == error.type_raw
    assert fault.code == error.code_raw
    given = case.http.status if case.http.status >= 400 else None
    assert fault.status == (error.status_raw if error.status_raw is not None else given)
    visible = outcome.where in ("mid_stream", "after_finish")
    assert (fault.kind.retryable and not visible) == error.retryable
