"""Anthropic's answers: streams in, streams out, and whole."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.anthropic import ANTHROPIC, ANTHROPIC_TOKEN_COUNT
from parsers.dialects.base import Identity
from parsers.dialects.openai import OPENAI_CHAT
from parsers.errors import BadPayload
from parsers.events import (
    TERMINAL,
    Ended,
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
    ToolArguments,
    ToolCall,
    Usage,
)
from parsers.sse import SSEParser, frames
from tests.fixture_streams import cases, check_grammar
from tests.parsers.test_glance import watch

R = FinishReason
IDENTITY = Identity(id="r-1", created=1767225600, model="m")
ENDINGS = (Finished, Usage, *TERMINAL)
START = b'{"type":"message_start","message":{"id":"msg_1","model":"up"}}'
STOP = b'{"type":"message_stop"}'


def sse(*payloads: bytes) -> bytes:
    """Events as compatible servers send them: without their names."""
    return b"".join(b"data: %b\n\n" % payload for payload in payloads)


def opened(block: bytes, index: int = 0) -> bytes:
    return b'{"type":"content_block_start","index":%d,"content_block":{%b}}' % (index, block)


def piece(delta: bytes, index: int = 0) -> bytes:
    return b'{"type":"content_block_delta","index":%d,"delta":{%b}}' % (index, delta)


def text(words: bytes, index: int = 0) -> bytes:
    return piece(b'"type":"text_delta","text":"%b"' % words, index)


def arguments(fragment: bytes, index: int = 0) -> bytes:
    return piece(b'"type":"input_json_delta","partial_json":%b' % fragment, index)


def closed(index: int = 0) -> bytes:
    return b'{"type":"content_block_stop","index":%d}' % index


def because(reason: bytes, usage: bytes = b"{}") -> bytes:
    return b'{"type":"message_delta","delta":{"stop_reason":"%b"},"usage":%b}' % (reason, usage)


CALL = b'"type":"tool_use","id":"toolu_1","name":"f","input":{}'


def decoded(*payloads: bytes) -> list[StreamEvent]:
    """The events of a stream; whole and byte by byte alike."""
    body = sse(*payloads)
    whole, bytewise = ANTHROPIC.stream_decoder(), ANTHROPIC.stream_decoder()
    events = whole.feed(body) + whole.close()
    pieces = [event for byte in body for event in bytewise.feed(bytes([byte]))]
    assert pieces + bytewise.close() == events
    check_grammar(events)
    return events


def fault_of(*payloads: bytes) -> Fault:
    last = decoded(*payloads)[-1]
    assert isinstance(last, Failed)
    return last.fault


# How a stream begins and ends


def test_a_message_that_begins_twice_begins_once() -> None:
    assert decoded(START, START, text(b"x"), because(b"end_turn"), STOP) == [
        Started("msg_1", "up"),
        Text("x"),
        Finished(R.STOP, raw="end_turn"),
        Ended(),
    ]


def test_pings_and_events_blocks_and_deltas_of_unknown_types_say_nothing() -> None:
    events = decoded(
        b'{"type": "ping"}',
        START,
        b'{"type":"invented","delta":{"text":"x"},"message":"hello"}',
        opened(b'"type":"server_tool_use","id":"s","name":"web_search","input":{}'),
        arguments(rb'"{\"query\":1}"'),
        closed(),
        opened(b'"type":"text","text":""', 1),
        b'{"type":"ping"}',
        piece(b'"type":"citations_delta","citation":{"cited_text":"x"}', 1),
        piece(b'"type":"invented_delta","text":"x"', 1),
        text(b"Hi", 1),
        closed(1),
        because(b"end_turn"),
        STOP,
    )

    assert events[1:-2] == [Text("Hi")]


def test_a_stop_reason_is_enough_of_an_end() -> None:
    assert decoded(START, text(b"x"), because(b"end_turn"))[-1] == Ended(marked=False)


def test_openais_end_mark_is_overlooked() -> None:
    assert decoded(START, text(b"x"), because(b"end_turn"), b"[DONE]")[-1] == Ended(marked=False)
    assert fault_of(START, text(b"x"), b"[DONE]").kind is FaultKind.TRUNCATED


def test_half_a_character_is_replaced_and_the_rest_is_told() -> None:
    assert decoded(START, text(rb"a\ud83d"))[1] == Text("a\ufffd")


def test_an_end_mark_without_a_reason_proves_nothing() -> None:
    assert decoded(START, STOP) == [Started("msg_1", "up"), Ended(proven=False)]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        (b"end_turn", R.STOP),
        (b"stop_sequence", R.STOP),
        (b"pause_turn", R.STOP),
        (b"max_tokens", R.LENGTH),
        (b"model_context_window_exceeded", R.LENGTH),
        (b"refusal", R.CONTENT_FILTER),
        (b"tool_use", R.TOOL_CALLS),
        (b"invented", R.STOP),
    ],
)
def test_reasons_to_stop(word: bytes, reason: FinishReason) -> None:
    assert decoded(START, because(word), STOP)[1] == Finished(reason, raw=word.decode())


def test_the_stop_sequence_that_matched_is_told() -> None:
    delta = b'"delta":{"stop_reason":"stop_sequence","stop_sequence":"END"}'

    events = decoded(START, b'{"type":"message_delta",%b}' % delta, STOP)

    assert events[1] == Finished(R.STOP, raw="stop_sequence", stop="END")


def test_a_message_finishes_once_and_nothing_is_said_after_that() -> None:
    events = decoded(START, because(b"end_turn"), text(b"x"), because(b"max_tokens"), STOP)

    assert events[1:] == [Finished(R.STOP, raw="end_turn"), Ended()]


# Counts


def test_counts_are_running_totals_and_what_is_not_told_stays() -> None:
    head = b'{"type":"message_start","message":{"usage":{"input_tokens":7,"output_tokens":1}}}'

    events = decoded(head, because(b"end_turn", b'{"output_tokens":9}'), STOP)

    assert [each for each in events if isinstance(each, Usage)] == [Usage(7, 1), Usage(7, 9)]


def test_the_cache_counts_as_input_once() -> None:
    usage = (
        b'{"input_tokens":1,"output_tokens":2,"cache_read_input_tokens":30,'
        b'"cache_creation_input_tokens":400,"output_tokens_details":{"thinking_tokens":1}}'
    )

    events = decoded(START, because(b"end_turn", usage), STOP)

    assert Usage(431, 2, cached=30, reasoning=1, cache_write=400) in events


@pytest.mark.parametrize("count", [b"-1", b'"7"', b"null", b"1e400", b"9007199254740993"])
def test_a_count_that_is_none_is_not_told(count: bytes) -> None:
    head = b'{"type":"message_start","message":{"usage":{"input_tokens":%b}}}' % count

    assert not [each for each in decoded(head, STOP) if isinstance(each, Usage)]


# Tool calls


def test_a_call_without_arguments_has_an_empty_object() -> None:
    events = decoded(START, opened(CALL), arguments(b'""'), closed(), because(b"tool_use"), STOP)

    assert events[1:3] == [ToolCall(0, "toolu_1", "f"), ToolArguments(0, "{}")]


def test_arguments_that_came_whole_with_the_start_are_told_if_no_pieces_come() -> None:
    call = b'"type":"tool_use","id":"t","name":"f","input":{"a": 1}'
    end = (closed(), because(b"tool_use"), STOP)

    assert decoded(START, opened(call), *end)[2] == ToolArguments(0, '{"a": 1}')
    assert decoded(START, opened(call), arguments(rb'"{\"a\":2}"'), *end)[2:3] == [
        ToolArguments(0, '{"a":2}')
    ]


def test_arguments_cut_at_the_limit_are_not_mended() -> None:
    cut = decoded(START, opened(CALL), arguments(rb'"{\"a"'), because(b"max_tokens"), STOP)
    none = decoded(START, opened(CALL), because(b"max_tokens"), STOP)

    assert cut[2:4] == [ToolArguments(0, '{"a'), Finished(R.LENGTH, raw="max_tokens")]
    assert none[2] == Finished(R.LENGTH, raw="max_tokens")


def test_a_call_that_lacks_its_end_has_arguments_before_the_message_ends() -> None:
    events = decoded(START, opened(CALL), because(b"tool_use"), STOP)

    assert events[2:4] == [ToolArguments(0, "{}"), Finished(R.TOOL_CALLS, raw="tool_use")]


def test_a_turn_that_ended_with_a_call_ended_for_it() -> None:
    events = decoded(START, opened(CALL), closed(), because(b"end_turn"), STOP)

    assert events[-2] == Finished(R.TOOL_CALLS, raw="end_turn")


def test_blocks_that_all_have_the_same_number_are_different_calls() -> None:
    events = decoded(
        START,
        opened(CALL),
        arguments(rb'"{\"a\":1}"'),
        opened(b'"type":"tool_use","id":"b","name":"g","input":{}'),
        arguments(rb'"{\"a\":2}"'),
        because(b"tool_use"),
        STOP,
    )

    assert events[1:5] == [
        ToolCall(0, "toolu_1", "f"),
        ToolArguments(0, '{"a":1}'),
        ToolCall(1, "b", "g"),
        ToolArguments(1, '{"a":2}'),
    ]


@pytest.mark.parametrize("index", [b"0", b"[]", b'"0"', b"null", b"1.5"])
def test_arguments_of_no_call_are_not_the_format(index: bytes) -> None:
    delta = b'"delta":{"type":"input_json_delta","partial_json":"{"}'

    fault = fault_of(START, b'{"type":"content_block_delta","index":%b,%b}' % (index, delta))

    assert fault.kind is FaultKind.PROTOCOL


@pytest.mark.parametrize("block", [CALL, b'"type":"text"'])
def test_there_is_a_limit_to_blocks_that_never_end(block: bytes) -> None:
    events = decoded(START, *(opened(block, index) for index in range(1025)))

    assert isinstance(events[-1], Failed)
    assert events[-1].fault.kind is FaultKind.PROTOCOL


def test_there_is_a_limit_to_calls() -> None:
    calls = [each for n in range(1025) for each in (opened(CALL, n), closed(n))]

    events = decoded(START, *calls)

    assert isinstance(events[-1], Failed)
    assert sum(isinstance(each, ToolCall) for each in events) == 1024


def test_a_block_after_the_end_says_nothing_and_one_without_a_number_is_not_the_format() -> None:
    end = because(b"end_turn")

    assert decoded(START, end, opened(b'"type":"text","text":"x"'), STOP)[1:] == [
        Finished(R.STOP, raw="end_turn"),
        Ended(),
    ]
    block = b'{"type":"content_block_start","index":"0","content_block":{"type":"text"}}'
    assert fault_of(START, block).kind is FaultKind.PROTOCOL


# Thinking


def test_a_thought_in_its_blocks_start_is_told_with_its_signature() -> None:
    block = b'"type":"thinking","thinking":"Hm","signature":"c2ln"'

    assert decoded(START, opened(block), closed())[1] == Thinking("Hm", signature="c2ln")


def test_an_empty_signed_thought_is_kept() -> None:
    events = decoded(
        START,
        opened(b'"type":"thinking","thinking":"","signature":""'),
        piece(b'"type":"signature_delta","signature":"c2ln"'),
        closed(),
    )

    assert events[1:-1] == [Thinking("", signature="c2ln")]


# Errors


@pytest.mark.parametrize(
    "told",
    [
        b'{"type":"error","error":{"details":null,"type":"overloaded_error","message":"Busy"}   }',
        b'{"error":{"type":"overloaded_error","message":"Busy"}}',
        b'{"type":"message_delta","error":{"type":"overloaded_error","message":"Busy"}}',
    ],
)
def test_an_error_ends_the_stream_wherever_it_comes(told: bytes) -> None:
    for before in ((), (START,), (START, text(b"x"))):
        fault = fault_of(*before, told, text(b"y"), STOP)

        assert (fault.kind, fault.message) == (FaultKind.OVERLOADED, "Busy")
        assert fault.type == "overloaded_error"


def test_an_event_that_is_called_an_error_is_one() -> None:
    decoder = ANTHROPIC.stream_decoder()

    (event,) = decoder.feed(b"event: error\ndata: %b\n\n" % text(b"x"))

    assert isinstance(event, Failed)


def test_the_spend_limit_is_no_rate_limit() -> None:
    body = (
        b'{"type":"error","error":{"type":"rate_limit_error","message":"no",'
        b'"details":{"error_code":"enforced_spend_limit_reached"}}}'
    )

    assert ANTHROPIC.decode_error(429, body).kind is FaultKind.QUOTA_EXCEEDED


# Whole answers

WHOLE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"up","content":['
    b'{"type":"thinking","thinking":"Hm","signature":"c2ln"},'
    b'{"type":"redacted_thinking","data":"eA=="},'
    b'{"type":"text","text":"Hi","citations":null},{"type":"invented","text":"x"},'
    b'{"type":"tool_use","id":"t","name":"f","input":{"a": [1, 2]}},'
    b'{"type":"tool_use","id":"u","name":"g","input":{}}],'
    b'"stop_reason":"tool_use","stop_sequence":null,'
    b'"usage":{"input_tokens":5,"output_tokens":6,"cache_read_input_tokens":1}}'
)
PLAIN = (
    b'{"id":"msg_1","type":"message","model":"up","content":[{"type":"text","text":"Hi"}],'
    b'"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":5,"output_tokens":6}}'
)


def test_a_whole_message_is_told_block_by_block() -> None:
    assert ANTHROPIC.decode_body(WHOLE) == [
        Started("msg_1", "up"),
        Usage(6, 6, cached=1),
        Thinking("Hm", signature="c2ln"),
        RedactedThinking("eA=="),
        Text("Hi"),
        ToolCall(0, "t", "f"),
        ToolArguments(0, '{"a": [1, 2]}'),
        ToolCall(1, "u", "g"),
        ToolArguments(1, "{}"),
        Finished(R.TOOL_CALLS, raw="tool_use"),
        Ended(),
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"type":"error","error":{"type":"api_error","message":"x"}}', FaultKind.UPSTREAM),
        (b'{"error":{"message":"x"},"content":[]}', FaultKind.UPSTREAM),
        (b"<html>", FaultKind.PROTOCOL),
        (b"", FaultKind.PROTOCOL),
        (b"{}", FaultKind.PROTOCOL),
        (b"[]", FaultKind.PROTOCOL),
        (b'{"content":null}', FaultKind.PROTOCOL),
        (b"[" * 100_000, FaultKind.PROTOCOL),
    ],
)
def test_what_is_no_message_is_a_failure(body: bytes, kind: FaultKind) -> None:
    for events in (ANTHROPIC.decode_body(body), ANTHROPIC.judge_body(body)):
        (event,) = events
        assert isinstance(event, Failed)
        assert event.fault.kind is kind


@given(st.sampled_from([WHOLE, PLAIN]), st.data())
def test_a_tampered_body_is_judged_as_it_is_read(body: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    filling = data.draw(st.sampled_from([b"", b"0", b'"', b"null", b"[]", b"{}", b'"tool_use"']))
    tampered = body[:start] + filling + body[end:]

    read, judged = ANTHROPIC.decode_body(tampered), ANTHROPIC.judge_body(tampered)

    assert judged == [each for each in read if isinstance(each, ENDINGS)]


@given(
    st.lists(
        st.binary(max_size=30)
        | st.sampled_from([sse(START), sse(text(b"x")), sse(opened(CALL)), b"data: {", b"\n\n"])
        | st.dictionaries(
            st.sampled_from(["type", "index", "delta", "content_block", "usage", "message"]),
            st.sampled_from(["content_block_delta", "content_block_start", 0, None, [], {}]),
        ).map(lambda each: sse(msgspec.json.encode(each))),
        max_size=8,
    )
)
def test_any_bytes_give_events_that_end_once(pieces: list[bytes]) -> None:
    decoder = ANTHROPIC.stream_decoder()

    events = [event for each in pieces for event in decoder.feed(each)] + decoder.close()

    check_grammar(events)


# What is written


class Block(msgspec.Struct):
    """A block of a stream that was read strictly."""

    opening: dict[str, Any]
    deltas: list[dict[str, Any]] = []


class Stream(msgspec.Struct):
    """A stream that was read strictly."""

    head: dict[str, Any]
    blocks: list[Block]
    delta: dict[str, Any]
    usage: dict[str, Any]


def strictly(body: bytes) -> Stream:
    """The stream, having asserted the life cycle that the official SDK relies upon."""
    events = []
    for each in SSEParser().feed(body):
        value = msgspec.json.decode(each.data)
        assert each.event == value["type"]
        events.append(value)
    first, *middle, delta, stop = events
    assert first["type"] == "message_start"
    assert (delta["type"], stop) == ("message_delta", {"type": "message_stop"})
    blocks: list[Block] = []
    is_open = False
    for value in middle:
        match value["type"]:
            case "content_block_start":
                assert not is_open
                assert value["index"] == len(blocks)
                blocks.append(Block(value["content_block"]))
                is_open = True
            case "content_block_delta":
                assert is_open
                assert value["index"] == len(blocks) - 1
                blocks[-1].deltas.append(value["delta"])
            case "content_block_stop":
                assert is_open
                assert value["index"] == len(blocks) - 1
                is_open = False
            case other:
                pytest.fail(f"a {other} in the middle")
    assert not is_open
    return Stream(first["message"], blocks, delta["delta"], delta["usage"])


def encoded(*events: StreamEvent) -> bytes:
    encoder = ANTHROPIC.stream_encoder(IDENTITY, include_usage=False)
    return b"".join(encoder.encode(event) for event in events)


def written(*events: StreamEvent) -> Stream:
    return strictly(encoded(*events, Ended()))


def whole(*events: StreamEvent) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(ANTHROPIC.encode_body(events, IDENTITY))
    return body


def test_an_answer_is_written_like_this() -> None:
    stop = Finished(R.STOP)

    assert encoded(Started(), Text('A"'), Text("B"), stop, Usage(5, 2), Ended()) == (
        b'event: message_start\ndata: {"type":"message_start","message":{"id":"r-1",'
        b'"type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,'
        b'"stop_sequence":null,"usage":{"input_tokens":0,"output_tokens":0}}}\n\n'
        b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
        b'"content_block":{"type":"text","text":""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"A\\""}}\n\n'
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
        b'"delta":{"type":"text_delta","text":"B"}}\n\n'
        b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
        b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn",'
        b'"stop_sequence":null},"usage":{"input_tokens":5,"output_tokens":2}}\n\n'
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
    )


def test_nothing_is_written_before_something_is_said() -> None:
    assert encoded(Started(), Usage(5, 0), Text(""), Thinking("")) == b""


def test_an_answer_that_says_nothing_is_still_a_message() -> None:
    stream = written(Started())

    assert whole(Text(""), Thinking(""))["content"] == []
    assert (stream.blocks, stream.delta["stop_reason"]) == ([], None)


def test_counts_that_were_known_early_stand_in_the_beginning_and_the_last_at_the_end() -> None:
    early = Usage(100, 1, cached=60, cache_write=30)

    stream = written(early, Text("x"), Usage(100, 7, cached=60, cache_write=30, reasoning=2))

    cache = {"cache_creation_input_tokens": 30, "cache_read_input_tokens": 60}
    assert stream.head["usage"] == {"input_tokens": 10, "output_tokens": 0, **cache}
    assert stream.usage == {
        "input_tokens": 10,
        "output_tokens": 7,
        **cache,
        "output_tokens_details": {"thinking_tokens": 2},
    }


def test_more_cache_than_input_is_no_negative_count() -> None:
    assert written(Usage(5, 1, cached=9)).usage["input_tokens"] == 0


@pytest.mark.parametrize(
    ("finished", "reason", "sequence"),
    [
        (Finished(R.STOP), "end_turn", None),
        (Finished(R.STOP, raw="stop"), "end_turn", None),
        (Finished(R.STOP, raw="pause_turn"), "pause_turn", None),
        (Finished(R.STOP, raw="stop", stop="END"), "stop_sequence", "END"),
        (Finished(R.STOP, raw="stop_sequence"), "stop_sequence", None),
        (Finished(R.LENGTH, raw="length"), "max_tokens", None),
        (
            Finished(R.LENGTH, raw="model_context_window_exceeded"),
            "model_context_window_exceeded",
            None,
        ),
        (Finished(R.TOOL_CALLS, raw="end_turn"), "tool_use", None),
        (Finished(R.CONTENT_FILTER, raw="SAFETY"), "refusal", None),
        (None, None, None),
    ],
)
def test_stop_reasons_are_as_exact_as_they_can_be(
    finished: Finished | None, reason: str | None, sequence: str | None
) -> None:
    events = [] if finished is None else [finished]
    told = {"stop_reason": reason, "stop_sequence": sequence}

    assert written(*events).delta == told
    assert whole(*events, Ended()).items() >= told.items()


def test_a_call_is_reason_enough_to_stop() -> None:
    assert written(ToolCall(0, "a", "f")).delta["stop_reason"] == "tool_use"
    assert whole(ToolCall(0, "a", "f"))["stop_reason"] == "tool_use"


def test_a_refusal_is_text_with_a_reason() -> None:
    said = (Refusal("No."), Finished(R.STOP, raw="stop"))

    stream = written(*said)

    assert stream.blocks[0].deltas == [{"type": "text_delta", "text": "No."}]
    assert stream.delta["stop_reason"] == "refusal"
    assert whole(*said)["stop_reason"] == "refusal"


def test_thoughts_are_closed_by_their_signature() -> None:
    stream = written(
        Thinking("A"),
        Thinking("B", signature="s1"),
        Thinking("C"),
        Thinking("", signature="s2"),
        Thinking("", signature="s3"),
        RedactedThinking("eA=="),
        Thinking("D"),
        Text("x"),
    )

    opening = {"type": "thinking", "thinking": "", "signature": ""}
    assert [block.opening for block in stream.blocks] == [
        opening,
        opening,
        opening,
        {"type": "redacted_thinking", "data": "eA=="},
        opening,
        {"type": "text", "text": ""},
    ]
    assert stream.blocks[0].deltas == [
        {"type": "thinking_delta", "thinking": "A"},
        {"type": "thinking_delta", "thinking": "B"},
        {"type": "signature_delta", "signature": "s1"},
    ]
    assert stream.blocks[2].deltas == [{"type": "signature_delta", "signature": "s3"}]


def test_pieces_of_two_calls_that_alternate_are_written_one_call_after_the_other() -> None:
    encoder = ANTHROPIC.stream_encoder(IDENTITY, include_usage=False)
    events: list[StreamEvent] = [
        ToolCall(0, "a", "f"),
        ToolCall(1, "b", "g"),
        ToolArguments(0, '{"x":'),
        ToolArguments(1, '{"y":'),
        ToolArguments(0, '"}"'),
        ToolArguments(1, "2"),
        ToolArguments(0, "}"),
        ToolArguments(1, "}"),
        Ended(),
    ]

    frames_of = [frames(encoder.encode(event)) for event in events]

    stream = strictly(b"".join(itertools.chain(*frames_of)))
    assert [block.opening["id"] for block in stream.blocks] == ["a", "b"]
    joined = ["".join(each["partial_json"] for each in block.deltas) for block in stream.blocks]
    assert joined == ['{"x":"}"}', '{"y":2}']
    # the first is written as it comes; the second once that is whole; and then it, too, as it comes
    assert [len(each) for each in frames_of[:-1]] == [2, 0, 1, 0, 1, 0, 5, 1]


def test_what_is_said_beside_an_unfinished_call_waits_for_it() -> None:
    stream = written(
        ToolCall(0, "a", "f"),
        ToolArguments(0, '{"x":'),
        Text("so"),
        Thinking("hm"),
        ToolArguments(0, "1}"),
        Text("and"),
    )

    kinds = [block.opening["type"] for block in stream.blocks]
    assert kinds == ["tool_use", "text", "thinking", "text"]
    assert len(stream.blocks[0].deltas) == 2


def test_what_comes_for_a_call_after_its_arguments_were_whole_is_no_part_of_them() -> None:
    stream = written(
        ToolCall(0, "a", "f"),
        ToolArguments(0, '{"x":1}'),
        ToolCall(1, "b", "g"),
        ToolArguments(0, "\n"),
    )

    assert stream.blocks[0].deltas == [{"type": "input_json_delta", "partial_json": '{"x":1}'}]


def test_a_call_cut_at_the_limit_is_closed_as_it_is() -> None:
    stream = written(ToolCall(0, "a", "f"), ToolArguments(0, '{"x'), Finished(R.LENGTH))

    assert stream.blocks[0].deltas == [{"type": "input_json_delta", "partial_json": '{"x'}]
    assert stream.delta["stop_reason"] == "max_tokens"


def test_a_call_without_an_id_gets_the_same_one_streamed_and_whole() -> None:
    (block,) = written(ToolCall(0, None, "f")).blocks
    (again,) = whole(ToolCall(0, None, "f"))["content"]

    assert (
        block.opening
        == again
        == {"type": "tool_use", "id": "toolu_r1_0", "name": "f"} | {"input": {}}
    )


def test_only_the_first_of_several_answers_is_told() -> None:
    events = (Text("no", choice=1), ToolCall(0, "a", "f", 1), Finished(R.LENGTH, 1), Text("yes"))

    stream = written(*events)

    assert [block.opening["type"] for block in stream.blocks] == ["text"]
    assert stream.delta["stop_reason"] is None
    assert whole(*events)["content"] == [{"type": "text", "text": "yes"}]


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("", {}),
        (" ", {}),
        ('{"a":[1]}', {"a": [1]}),
        ("[1]", {"_raw": "[1]"}),
        ('{"a', {"_raw": '{"a'}),
    ],
)
def test_whole_arguments_are_an_object_whatever_they_were(said: str, read: object) -> None:
    (block,) = whole(ToolCall(0, "a", "f"), ToolArguments(0, said))["content"]

    assert block["input"] == read


def test_a_failure_is_an_error_event_and_the_end() -> None:
    fault = Fault(FaultKind.TRUNCATED, "upstream", "broke off")

    told = (
        b'event: error\ndata: {"type":"error","error":{"type":"api_error",'
        b'"message":"broke off"}}\n\n'
    )
    assert encoded(Failed(fault)) == told
    assert ANTHROPIC.error_frame(fault, 502) == told


@pytest.mark.parametrize(
    ("fault", "type_", "status"),
    [
        (Fault(FaultKind.OVERLOADED, "upstream", "m", status=429), "overloaded_error", 529),
        (Fault(FaultKind.UPSTREAM, "upstream", "m", type="server_error"), "api_error", 500),
        (Fault(FaultKind.QUOTA_EXCEEDED, "upstream", "m"), "rate_limit_error", 500),
        (
            Fault(FaultKind.QUOTA_EXCEEDED, "upstream", "m", type="billing_error"),
            "billing_error",
            500,
        ),
        (Fault(FaultKind.UNAUTHENTICATED, "client", "m"), "authentication_error", 500),
        (Fault(FaultKind.UNAUTHENTICATED, "upstream", "m"), "api_error", 500),
        (Fault(FaultKind.UNKNOWN_MODEL, "client", "m"), "not_found_error", 500),
    ],
)
def test_errors_are_of_the_types_that_clients_know(fault: Fault, type_: str, status: int) -> None:
    body = msgspec.json.decode(ANTHROPIC.encode_error(fault, 500))

    assert body == {"type": "error", "error": {"type": type_, "message": "m"}}
    assert ANTHROPIC.error_status(fault, 500, streaming=True) == status


def test_every_kind_of_fault_has_a_type() -> None:
    for kind in FaultKind:
        assert b'"type"' in ANTHROPIC.encode_error(Fault(kind, "proxy", "m"), 500)


def test_a_sign_of_life_is_a_ping() -> None:
    assert ANTHROPIC.keepalive == b'event: ping\ndata: {"type": "ping"}\n\n'


# There and back

_WORDS = st.text(min_size=1, max_size=5)
_OBJECTS = st.dictionaries(_WORDS, _WORDS | st.integers() | st.none(), max_size=2)


@st.composite
def _calls(draw: st.DrawFn, first: int) -> list[StreamEvent]:
    """Some calls, whose pieces alternate."""
    pieces: list[list[StreamEvent]] = []
    for number in range(first, first + draw(st.integers(1, 3))):
        said = msgspec.json.encode(draw(_OBJECTS)).decode()
        cut = draw(st.integers(0, len(said)))
        fragments = [said[:cut], said[cut:]] if draw(st.booleans()) else []
        call = ToolCall(number, f"call_{number}", draw(_WORDS))
        pieces.append([call, *(ToolArguments(number, each) for each in fragments if each)])
    events: list[StreamEvent] = []
    while pieces:
        chosen = draw(st.sampled_from(pieces))
        # calls are counted in the order in which they open
        if isinstance(chosen[0], ToolCall):
            chosen = next(each for each in pieces if isinstance(each[0], ToolCall))
        events.append(chosen.pop(0))
        pieces = [each for each in pieces if each]
    return events


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    """The events of one whole answer."""
    events: list[StreamEvent] = [Started("a", "m")]
    calls = 0
    for _ in range(draw(st.integers(0, 6))):
        match draw(st.sampled_from(["text", "thinking", "redacted", "calls"])):
            case "text":
                events.append(Text(draw(_WORDS)))
            case "thinking":
                events.append(Thinking(draw(_WORDS), signature=draw(st.none() | _WORDS)))
            case "redacted":
                events.append(RedactedThinking(draw(_WORDS)))
            case _:
                more = draw(_calls(calls))
                calls += sum(isinstance(each, ToolCall) for each in more)
                events += more
    reason = R.TOOL_CALLS if calls else draw(st.sampled_from([R.STOP, R.LENGTH]))
    events.append(Finished(reason))
    if draw(st.booleans()):
        events.append(Usage(9, 3, cached=4))
    return [*events, Ended()]


@given(answers(), st.integers(1, 64))
def test_what_is_written_streamed_is_read_back(events: list[StreamEvent], size: int) -> None:
    """As one message: pieces of a text may be joined, and calls come one after the other."""
    body = encoded(*events)
    decoder = ANTHROPIC.stream_decoder()

    read = [
        event
        for start in range(0, len(body), size)
        for event in decoder.feed(body[start : start + size])
    ]

    strictly(body)
    check_grammar(read)
    assert whole(*read) == whole(*events)


@given(answers())
def test_what_is_written_whole_is_read_back(events: list[StreamEvent]) -> None:
    body = ANTHROPIC.encode_body(events, IDENTITY)

    assert ANTHROPIC.encode_body(ANTHROPIC.decode_body(body), IDENTITY) == body


@given(answers())
def test_a_message_survives_openais_dialect_but_for_what_that_has_no_word_for(
    events: list[StreamEvent],
) -> None:
    said = [each for each in events if not isinstance(each, Thinking | RedactedThinking)]
    encoder = OPENAI_CHAT.stream_encoder(IDENTITY, include_usage=True)
    body = b"".join(encoder.encode(event) for event in said)

    decoder = OPENAI_CHAT.stream_decoder()
    read = decoder.feed(body)

    assert whole(*read)["usage"] == whole(*said)["usage"]
    assert strictly(encoded(*read)).delta["stop_reason"] == whole(*said)["stop_reason"]


# At a glance


def named(payload: bytes) -> bytes:
    return b"event: content_block_delta\ndata: %b\n\n" % payload


CASES = [case for case in cases("anthropic-messages") if case.streamed]


def test_texts_and_thoughts_are_dull_after_two_alike() -> None:
    thoughts = [named(piece(b'"type":"thinking_delta","thinking":"%d"' % i)) for i in range(9)]
    texts = [named(text(b"%d" % i)) for i in range(9)]

    assert watch(ANTHROPIC, [sse(START), *texts])[3:] == [1] * 7
    assert watch(ANTHROPIC, [sse(START), *thoughts])[3:] == [1] * 7


@given(case=st.sampled_from(CASES), data=st.data())
def test_a_stream_at_a_glance_is_judged_as_one_that_is_decoded(
    case: Any, data: st.DataObject
) -> None:
    """Frames repeated and reworded, so that there is something to learn, and to be wrong about."""
    stream = frames(case.body)
    at = data.draw(st.integers(0, len(stream) - 1))
    words = data.draw(st.lists(st.binary(max_size=6), min_size=3, max_size=6))
    changed = [_reworded(stream[at], word, data.draw(st.integers(0, 30))) for word in words]

    watch(ANTHROPIC, [*stream[:at], *changed, *stream[at:]])


def _reworded(frame: bytes, word: bytes, place: int) -> bytes:
    """The frame with another string in the place of one of its strings."""
    parts = frame.split(b'"')
    odd = range(1, len(parts), 2)
    if odd:
        parts[odd[place % len(odd)]] = word.replace(b"\n", b"").replace(b"\r", b"")
    return b'"'.join(parts)


def test_a_frame_whose_type_looks_like_its_text_is_not_learnt() -> None:
    """Two members, and the type says which is told: the type must not pass for the text."""

    def confused(kind: bytes) -> bytes:
        members = b'"text":"text_delta","thinking":"thinking_delta","type":"%b"' % kind
        return named(piece(members))

    reads = [confused(b"text_delta"), confused(b"thinking_delta"), confused(b"other_delta")]

    assert watch(ANTHROPIC, [sse(START), *reads, *reads])[1:] == [0] * 6


# The count of tokens


def test_a_token_count_is_an_answer_and_nobodys_usage() -> None:
    assert ANTHROPIC_TOKEN_COUNT.judge_body(b'{"input_tokens":9}') == [Ended()]
    (failed,) = ANTHROPIC_TOKEN_COUNT.decode_body(b'{"type":"error","error":{"message":"x"}}')
    assert isinstance(failed, Failed)


def test_a_token_count_is_never_streamed_and_never_translated() -> None:
    body = b'{"model":"m","messages":[],"stream":true}'

    assert not ANTHROPIC_TOKEN_COUNT.peek(body).stream
    with pytest.raises(BadPayload):
        ANTHROPIC_TOKEN_COUNT.decode_request(body)
