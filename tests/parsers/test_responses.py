"""OpenAI Responses answers: streams in, streams out, and whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import Identity
from parsers.dialects.responses import RESPONSES, ResponsesExchange
from parsers.events import (
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
from parsers.sse import frames
from tests.fixture_streams import check_grammar, fold

R = FinishReason
Json = dict[str, Any]  # Any: JSON of any shape
IDENTITY = Identity(id="resp_1a", created=1767225600, model="m")
STARTED = Started(id="resp_1a", model="m", created=1767225600)
COMPLETED: Json = {"type": "response.completed", "response": {"status": "completed"}}
STOPPED = Finished(R.STOP, raw="completed")
CALLED = Finished(R.TOOL_CALLS, raw="completed")
BROKEN = Fault(FaultKind.TRUNCATED, "upstream", "it broke off")


def sse(*events: Json) -> bytes:
    return b"".join(b"data: %b\n\n" % msgspec.json.encode(event) for event in events)


def decoded(*events: Json) -> list[StreamEvent]:
    """What a stream of these says; whole and byte by byte alike."""
    return decoded_bytes(sse(*events))


def decoded_bytes(body: bytes) -> list[StreamEvent]:
    whole, bytewise = RESPONSES.stream_decoder(), RESPONSES.stream_decoder()
    events = whole.feed(body) + whole.close()
    pieces = [event for byte in body for event in bytewise.feed(bytes([byte]))]
    assert pieces + bytewise.close() == events
    check_grammar(events)
    return events


def fault_of(*events: Json) -> Fault:
    last = decoded(*events)[-1]
    assert isinstance(last, Failed)
    return last.fault


def piece(kind: str, delta: str, item: int = 0, part: int = 0, **members: object) -> Json:
    place = {"output_index": item, "content_index": part}
    return {"type": f"response.{kind}.delta", "delta": delta, **place, **members}


def item(what: str, item: Json, index: int = 0) -> Json:
    return {"type": f"response.output_item.{what}", "output_index": index, "item": item}


def call(**members: object) -> Json:
    return {"type": "function_call", "call_id": "c", "name": "f", **members}


# How a stream begins and ends


def test_the_first_event_of_its_life_names_the_answer_once() -> None:
    named = {"id": "resp_1", "model": "m", "created_at": 7.5}
    life = [{"type": f"response.{word}", "response": named} for word in ("created", "in_progress")]

    assert decoded(*life, COMPLETED) == [Started("resp_1", "m", 7), STOPPED, Ended()]


def test_a_name_that_comes_after_the_first_word_is_late() -> None:
    late = {"type": "response.in_progress", "response": {"id": "resp_1"}}

    assert decoded(piece("output_text", "a"), late, COMPLETED) == [Text("a"), STOPPED, Ended()]


def test_nothing_comes_after_the_end() -> None:
    decoder = RESPONSES.stream_decoder()

    events = decoder.feed(sse(COMPLETED, piece("output_text", "ghost")))

    assert events == [STOPPED, Ended()]
    assert decoder.feed(sse(piece("output_text", "ghost"))) == []
    assert decoder.close() == []


@pytest.mark.parametrize("end", [b"", b"data: [DONE]\n\n", b'data: {"type":"respon'])
def test_without_its_last_event_an_answer_is_never_whole(end: bytes) -> None:
    last = decoded_bytes(sse(piece("output_text", "a")) + end)[-1]

    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.TRUNCATED


@pytest.mark.parametrize(
    ("details", "finished"),
    [
        ({"reason": "max_output_tokens"}, Finished(R.LENGTH, raw="max_output_tokens")),
        ({"reason": "content_filter"}, Finished(R.CONTENT_FILTER, raw="content_filter")),
        ({"reason": "steered"}, Finished(R.LENGTH, raw="steered")),
        (None, Finished(R.LENGTH, raw="incomplete")),
    ],
)
def test_an_incomplete_answer_says_why(details: Json | None, finished: Finished) -> None:
    usage = {"input_tokens": 3, "output_tokens": 4}
    response = {"status": "incomplete", "incomplete_details": details, "usage": usage}

    events = decoded({"type": "response.incomplete", "response": response})

    assert events == [finished, Usage(3, 4), Ended()]


def test_what_the_answer_says_of_itself_outranks_the_events_name() -> None:
    response = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}

    finished, _ = decoded({"type": "response.completed", "response": response})

    assert finished == Finished(R.LENGTH, raw="max_output_tokens")


def test_usage_is_told_with_its_details() -> None:
    usage = {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 2},
        "output_tokens": 4,
        "output_tokens_details": {"reasoning_tokens": 5},
    }

    events = decoded({"type": "response.completed", "response": {"usage": usage}})

    assert events[1] == Usage(3, 4, cached=1, reasoning=5, cache_write=2)


# Failures


WORDS = {"type": "server_error", "code": "rate_limit_exceeded", "message": "slow down"}


@pytest.mark.parametrize(
    "event",
    [
        {"type": "error", "sequence_number": 2, "error": WORDS},
        {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None},
        {"error": WORDS},
    ],
)
def test_both_forms_of_an_error_end_the_answer(event: Json) -> None:
    fault = fault_of(piece("output_text", "a"), event, COMPLETED)

    assert (fault.kind, fault.message) == (FaultKind.RATE_LIMITED, "slow down")
    assert fault.code == "rate_limit_exceeded"


@pytest.mark.parametrize("payload", [b'{"type":"odd","message":"gone"}', b"gone"])
def test_an_event_called_error_is_one_whatever_it_carries(payload: bytes) -> None:
    (last,) = decoded_bytes(b"event: error\ndata: %b\n\n" % payload)

    assert isinstance(last, Failed)
    assert last.fault.message == "gone"


def test_a_failed_answer_tells_its_usage_first() -> None:
    error = {"code": "server_error", "message": "broken"}
    response = {"status": "failed", "error": error, "usage": {"input_tokens": 3}}

    usage, last = decoded({"type": "response.failed", "response": response})

    assert usage == Usage(3, 0)
    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.message) == (FaultKind.UPSTREAM, "broken")


def test_a_failure_without_words_is_one() -> None:
    assert fault_of({"type": "response.failed"}).kind is FaultKind.UPSTREAM
    cancelled = {"type": "response.completed", "response": {"status": "cancelled"}}
    assert fault_of(cancelled).message == "the answer was cancelled upstream"


def test_events_that_are_not_for_us_are_passed_over() -> None:
    others: list[Json] = [
        {"type": "keepalive", "sequence_number": 3},
        {"type": "response.web_search_call.searching", "item_id": "ws_1", "output_index": 0},
        {"type": "response.code_interpreter_call_code.delta", "delta": "print()"},
        {"type": "response.output_text.annotation.added", "annotation": {"type": "url_citation"}},
        item("added", {"type": "web_search_call", "id": "ws_1", "status": "in_progress"}),
        {"type": "response.output_item.added"},
        {"type": "response.of.tomorrow", "error": None},
    ]

    assert decoded(*others, COMPLETED) == [STOPPED, Ended()]


# What is said


def test_text_and_refusal_come_piece_by_piece() -> None:
    events = decoded(
        piece("output_text", "a", logprobs=[]),
        piece("output_text", ""),
        piece("output_text", "b"),
        piece("refusal", "no", part=1),
        COMPLETED,
    )

    assert events[:-2] == [Text("a"), Text("b"), Refusal("no")]


def test_probabilities_have_the_form_that_they_have_in_chat() -> None:
    entry = {"token": "a", "logprob": -0.5, "top_logprobs": []}

    text, *_ = decoded(piece("output_text", "a", logprobs=[entry]), COMPLETED)

    raw = msgspec.Raw(b'{"content":[{"token":"a","logprob":-0.5,"top_logprobs":[]}]}')
    assert text == Text("a", 0, raw)


def test_what_was_told_in_pieces_is_not_told_again() -> None:
    message = {
        "type": "message",
        "content": [
            {"type": "output_text", "text": "ab"},
            {"type": "refusal", "refusal": "no"},
        ],
    }
    place = {"output_index": 0, "content_index": 0}
    events = decoded(
        piece("output_text", "a"),
        piece("output_text", "b"),
        {"type": "response.output_text.done", "text": "ab", **place},
        piece("refusal", "no", part=1),
        {"type": "response.refusal.done", "refusal": "no", **place, "content_index": 1},
        item("done", message),
        {**COMPLETED, "response": {"status": "completed", "output": [message]}},
    )

    assert events == [Text("a"), Text("b"), Refusal("no"), STOPPED, Ended()]


def test_a_server_that_leaves_out_the_pieces_is_understood() -> None:
    place = {"output_index": 0, "content_index": 0}
    message = {"type": "message", "content": [{"type": "output_text", "text": "b"}]}
    events = decoded(
        {"type": "response.output_text.done", "text": "a", **place},
        item("done", message, 1),
        COMPLETED,
    )

    assert events == [Text("a"), Text("b"), STOPPED, Ended()]


def test_an_answer_that_only_stands_in_the_last_event_is_read() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "a"}]}, call()]
    response = {"status": "completed", "output": output}

    assert decoded({"type": "response.completed", "response": response}) == [
        Text("a"),
        ToolCall(0, "c", "f"),
        CALLED,
        Ended(),
    ]


def test_summaries_are_paragraphs_of_reasoning() -> None:
    def part(index: int) -> Json:
        return {"type": "response.reasoning_summary_part.added", "summary_index": index}

    events = decoded(
        part(0),
        {"type": "response.reasoning_summary_text.delta", "delta": "one"},
        part(1),
        {"type": "response.reasoning_summary_text.delta", "delta": "two"},
        piece("reasoning_text", "raw", item=1),
        COMPLETED,
    )

    thoughts = [event.text for event in events if isinstance(event, Thinking)]
    assert thoughts == ["one", "\n\n", "two", "raw"]


def test_sealed_reasoning_is_a_signature_where_there_is_a_text_and_redacted_where_not() -> None:
    told = {"type": "reasoning", "summary": [{"text": "hm"}], "encrypted_content": "s1"}
    untold = {"type": "reasoning", "summary": [], "encrypted_content": "s2"}

    events = decoded(item("done", told), item("done", untold, 1), item("done", told), COMPLETED)

    assert events[:-2] == [Thinking("hm"), Thinking("", signature="s1"), RedactedThinking("s2")]


def test_a_call_is_told_by_its_call_id() -> None:
    events = decoded(
        item("added", call(id="fc_1")),
        piece("function_call_arguments", '{"a":', item_id="fc_1"),
        piece("function_call_arguments", "1}", item_id="other"),
        {"type": "response.function_call_arguments.done", "arguments": '{"a":1}'},
        item("done", call(id="fc_1", arguments='{"a":1}')),
        COMPLETED,
    )

    assert events == [
        ToolCall(0, "c", "f"),
        ToolArguments(0, '{"a":'),
        ToolArguments(0, "1}"),
        CALLED,
        Ended(),
    ]


def test_two_calls_at_a_time_are_told_apart() -> None:
    events = decoded(
        item("added", call(call_id="a")),
        item("added", call(call_id="b"), 1),
        piece("function_call_arguments", "1", item=1),
        piece("function_call_arguments", "2", item=0),
        COMPLETED,
    )

    assert events[2:4] == [ToolArguments(1, "1"), ToolArguments(0, "2")]


def test_numbered_calls_may_have_one_id_between_them() -> None:
    events = decoded(
        item("done", call(call_id="0", arguments="1")),
        item("done", call(call_id="0", arguments="2"), 1),
        COMPLETED,
    )

    assert events[:-2] == [
        ToolCall(0, "0", "f"),
        ToolArguments(0, "1"),
        ToolCall(1, "0", "f"),
        ToolArguments(1, "2"),
    ]


@pytest.mark.parametrize("odd", [[], {}, 1, True])
def test_leaves_of_odd_types_say_nothing(odd: object) -> None:
    events = decoded(
        {"type": odd},
        item("added", {"type": odd, "id": odd}),
        item("done", {"type": "function_call", "id": odd, "call_id": odd, "name": odd}),
        piece("output_text", "a", item_id=odd, logprobs=odd),
        {"type": "response.output_text.delta", "delta": odd, "output_index": odd},
        {"type": "response.completed", "response": {"id": odd, "status": odd}},
    )

    assert events == [ToolCall(0, None, ""), Text("a"), CALLED, Ended()]


def test_calls_without_places_go_by_their_ids_and_then_by_order() -> None:
    """As llama.cpp sends them."""

    def added(name: str) -> Json:
        return {"type": "response.output_item.added", "item": call(call_id=name)}

    def arguments(text: str, **members: object) -> Json:
        return {"type": "response.function_call_arguments.delta", "delta": text, **members}

    events = decoded(
        arguments("lost"),
        added("a"),
        added("b"),
        arguments("1", item_id="a"),
        arguments("2", item_id="b"),
        arguments("3"),
        COMPLETED,
    )

    assert events[2:5] == [ToolArguments(0, "1"), ToolArguments(1, "2"), ToolArguments(1, "3")]


def test_a_call_that_comes_whole_is_opened_and_filled() -> None:
    done = {"type": "response.function_call_arguments.done", "output_index": 1, "arguments": "2"}
    events = decoded(
        item("done", call(arguments="1")),
        item("added", {"type": "custom_tool_call", "id": "ct_1", "name": "g"}, 1),
        done,
        item("done", {"type": "custom_tool_call", "id": "ct_1", "name": "g", "input": "2"}, 1),
        COMPLETED,
    )

    assert events[:-2] == [
        ToolCall(0, "c", "f"),
        ToolArguments(0, "1"),
        ToolCall(1, "ct_1", "g"),
        ToolArguments(1, "2"),
    ]


def test_no_answer_has_thousands_of_calls_or_parts() -> None:
    calls = [item("added", call(call_id=str(n)), n) for n in range(1025)]
    parts = [piece("output_text", "a", part=n) for n in range(16 * 1024 + 1)]

    for events in (calls, parts):
        decoder = RESPONSES.stream_decoder()
        last = decoder.feed(sse(*events))[-1]
        assert isinstance(last, Failed)
        assert last.fault.kind is FaultKind.PROTOCOL


def test_half_a_character_is_repaired() -> None:
    body = b'data: {"type":"response.output_text.delta","delta":"\\ud83d"}\n\n'

    assert decoded_bytes(body + sse(COMPLETED))[0] == Text("\ufffd")


# Whole answers


def test_a_whole_answer_is_read() -> None:
    body = msgspec.json.encode(
        {
            "id": "resp_1",
            "object": "response",
            "created_at": 7,
            "model": "m",
            "status": "completed",
            "error": None,
            "output": [
                {"type": "reasoning", "summary": [{"text": "a"}, {"text": "b"}]},
                {"type": "web_search_call"},
                {"type": "message", "content": [{"type": "output_text", "text": "hi"}]},
                {"type": "message", "content": "odd"},
                call(arguments="{}"),
            ],
            "usage": {"input_tokens": 1, "output_tokens": 2},
        }
    )

    events = RESPONSES.decode_body(body)

    assert events == [
        Started("resp_1", "m", 7),
        Thinking("a\n\nb"),
        Text("hi"),
        ToolCall(0, "c", "f"),
        ToolArguments(0, "{}"),
        CALLED,
        Usage(1, 2),
        Ended(),
    ]
    assert RESPONSES.judge_body(body) == events[-3:]


def test_a_whole_answer_that_failed_is_a_failure() -> None:
    error = {"code": "server_error", "message": "broken"}
    body = msgspec.json.encode({"status": "failed", "error": error, "output": []})

    last = RESPONSES.decode_body(body)[-1]

    assert isinstance(last, Failed)
    assert last.fault.message == "broken"


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"error":{"message":"m"}}', b"", b"[]"])
def test_a_body_that_is_no_answer_is_a_failure(body: bytes) -> None:
    (last,) = RESPONSES.decode_body(body)

    assert isinstance(last, Failed)


def test_an_answer_that_is_still_to_come_has_not_failed() -> None:
    events = RESPONSES.judge_body(b'{"id":"resp_1","status":"queued","output":[]}')

    assert events == [Ended()]


# Streams out


def encoded(*events: StreamEvent) -> list[Json]:
    """The events as a client reads them, having asserted what holds for all of them."""
    encoder = RESPONSES.stream_encoder(IDENTITY, include_usage=True)
    told: list[Json] = []
    for frame in frames(b"".join(map(encoder.encode, events))):
        name, data, *rest = frame.decode().split("\n")
        assert rest == ["", ""]
        payload = msgspec.json.decode(data.removeprefix("data: "))
        assert name == f"event: {payload['type']}"
        assert payload["sequence_number"] == len(told)
        told.append(payload)
    return told


def kinds(told: list[Json]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in told]


BEGIN = ["created", "in_progress"]


def test_a_text_lives_through_everything() -> None:
    told = encoded(STARTED, Text("a"), Text("b"), Usage(3, 2), Finished(R.STOP), Ended())

    part = {"type": "output_text", "annotations": [], "logprobs": []}
    message = {"id": "msg_1a_0", "type": "message", "role": "assistant"}
    place = {"item_id": "msg_1a_0", "output_index": 0, "content_index": 0}
    done = {**message, "status": "completed", "content": [{**part, "text": "ab"}]}
    bodies = [{k: v for k, v in e.items() if k not in ("type", "sequence_number")} for e in told]
    assert kinds(told) == [
        *BEGIN,
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert bodies[2:-1] == [
        {"output_index": 0, "item": {**message, "status": "in_progress", "content": []}},
        {**place, "part": {**part, "text": ""}},
        {**place, "delta": "a", "logprobs": []},
        {**place, "delta": "b", "logprobs": []},
        {**place, "text": "ab", "logprobs": []},
        {**place, "part": {**part, "text": "ab"}},
        {"output_index": 0, "item": done},
    ]
    first, last = bodies[0]["response"], bodies[-1]["response"]
    assert (first["id"], first["created_at"], first["model"]) == ("resp_1a", 1767225600, "m")
    assert (first["status"], first["output"], first["usage"]) == ("in_progress", [], None)
    assert (last["id"], last["status"], last["output"]) == ("resp_1a", "completed", [done])
    assert last["usage"] == {
        "input_tokens": 3,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 2,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 5,
    }


def test_every_kind_of_content_has_an_item_or_a_part_of_its_own() -> None:
    told = encoded(Thinking("hm"), Text("a"), Refusal("no"), Thinking("so"), Text("b"), Ended())

    items = told[-1]["response"]["output"]
    assert [(each["id"], each["type"], len(each["content"])) for each in items] == [
        ("rs_1a_0", "reasoning", 1),
        ("msg_1a_1", "message", 2),
        ("rs_1a_2", "reasoning", 1),
        ("msg_1a_3", "message", 1),
    ]
    assert items[0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert items[1]["content"][1] == {"type": "refusal", "refusal": "no"}
    assert {each["status"] for each in items} == {"completed"}


def test_reasoning_is_signed_at_its_end() -> None:
    told = encoded(
        Thinking("a"),
        Thinking("b", signature="s1"),
        Thinking("c"),
        RedactedThinking("s2"),
        Ended(),
    )

    items = told[-1]["response"]["output"]
    assert [(len(each["content"]), each["encrypted_content"]) for each in items] == [
        (1, "s1"),
        (1, None),
        (0, "s2"),
    ]
    assert items[0]["content"][0]["text"] == "ab"


def test_calls_that_come_at_the_same_time_are_told_apart() -> None:
    told = encoded(
        Text("a"),
        ToolCall(0, "c0", "f"),
        ToolCall(1, None, "g", signature="s"),
        ToolArguments(1, "{}"),
        ToolArguments(0, "[1"),
        ToolArguments(0, "]"),
        Finished(R.TOOL_CALLS),
        Ended(),
    )

    deltas = [each for each in told if each["type"].endswith("arguments.delta")]
    assert [(each["item_id"], each["delta"]) for each in deltas] == [
        ("fc_1a_2", "{}"),
        ("fc_1a_1", "[1"),
        ("fc_1a_1", "]"),
    ]
    done = [each for each in told if each["type"].endswith("arguments.done")]
    assert [(e["item_id"], e["name"], e["arguments"]) for e in done] == [
        ("fc_1a_1", "f", "[1]"),
        ("fc_1a_2", "g", "{}"),
    ]
    _, first, second = told[-1]["response"]["output"]
    assert (first["call_id"], first["status"]) == ("c0", "completed")
    assert second["call_id"].startswith("call_")
    assert second["extra_content"] == {"google": {"thought_signature": "s"}}


def test_a_call_without_arguments_gets_an_empty_object() -> None:
    told = encoded(ToolCall(0, "c", "f"), Finished(R.TOOL_CALLS), Ended())

    assert kinds(told)[-4:] == [
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert told[-1]["response"]["output"][0]["arguments"] == "{}"


@pytest.mark.parametrize(
    ("reason", "word"),
    [(R.LENGTH, "max_output_tokens"), (R.CONTENT_FILTER, "content_filter")],
)
def test_an_answer_that_was_cut_is_incomplete(reason: FinishReason, word: str) -> None:
    told = encoded(
        Text("a"), ToolCall(0, "c", "f"), ToolArguments(0, '{"a'), Finished(reason), Ended()
    )

    last = told[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": word}
    text, cut = last["response"]["output"]
    assert (text["status"], cut["status"], cut["arguments"]) == ("completed", "incomplete", '{"a')


def test_words_that_are_not_ours_stay_readable() -> None:
    told = encoded(Text("a"), Finished(R.STOP, raw="eos_token", stop="END"), Ended())

    last = told[-1]["response"]
    assert (last["native_finish_reason"], last["stop_reason"]) == ("eos_token", "END")
    plain = encoded(Finished(R.STOP, raw="stop"), Ended())[-1]["response"]
    assert "native_finish_reason" not in plain


def test_an_answer_without_a_word_is_whole_and_empty() -> None:
    told = encoded(Ended())

    assert kinds(told) == [*BEGIN, "completed"]
    assert told[-1]["response"]["output"] == []


def test_a_failure_is_told_twice_and_is_the_end() -> None:
    told = encoded(Text("a"), ToolCall(0, "c", "f"), Failed(BROKEN), Text("ghost"), Ended())

    error, failed = told[-2:]
    words = {"code": "truncated", "message": "it broke off", "param": None}
    assert error == {
        "type": "error",
        "sequence_number": len(told) - 2,
        **words,
        "error": {**words, "type": "server_error"},
    }
    assert failed["type"] == "response.failed"
    response = failed["response"]
    assert (response["id"], response["status"]) == ("resp_1a", "failed")
    assert response["error"] == {"code": "truncated", "message": "it broke off"}
    assert [each["status"] for each in response["output"]] == ["completed", "incomplete"]
    assert response["output"][0]["content"][0]["text"] == "a"


def test_a_failure_before_the_first_word_has_a_beginning_too() -> None:
    assert kinds(encoded(Failed(BROKEN))) == [*BEGIN, "error", "failed"]


def test_codes_are_texts_and_upstreams_words_stay() -> None:
    fault = Fault(FaultKind.UPSTREAM, "upstream", "m", code=42, type="odd")

    *_, error, failed = encoded(Failed(fault))

    assert (error["code"], error["error"]["type"]) == ("42", "odd")
    assert failed["response"]["error"] == {"code": "42", "message": "m"}


def test_other_choices_are_passed_over() -> None:
    told = encoded(
        Text("a", 1),
        Refusal("b", 1),
        ToolCall(0, "c", "f", 1),
        ToolArguments(0, "{}", 1),
        Finished(R.LENGTH, 1),
        Text("x"),
        Finished(R.STOP),
        Ended(),
    )

    (message,) = told[-1]["response"]["output"]
    assert message["content"][0]["text"] == "x"
    assert told[-1]["type"] == "response.completed"


def test_line_ends_in_probabilities_do_not_break_a_frame() -> None:
    raw = msgspec.Raw(b'{"content":[{"token":"a",\n"logprob":-1.5}]}')

    told = encoded(Text("a", 0, raw), Text("b", 0, msgspec.Raw(b'"odd"')), Ended())

    entry = {"token": "a", "logprob": -1.5}
    assert told[4]["logprobs"] == [entry]
    assert told[-1]["response"]["output"][0]["content"][0]["logprobs"] == [entry]


# The exchange: what an answer repeats of its request, and where its failure stands

REQUEST = b"""{"model":"m","input":"hi","store":true,"instructions":"be brief","user":null,
"metadata":{"a":"b"},"tools":[{"type":"function","name":"f",
"parameters":{}}],"temperature":0.5,"max_output_tokens":7,"text":{"format":{"type":"json_object"}}}"""


def test_an_answer_repeats_its_request_on_one_line() -> None:
    exchange = ResponsesExchange()
    exchange.decode_request(REQUEST)

    streamed = exchange.stream_encoder(IDENTITY, include_usage=True).encode(STARTED)
    whole = msgspec.json.decode(exchange.encode_body([Text("a"), STOPPED, Ended()], IDENTITY))

    first = msgspec.json.decode(frames(streamed)[0].split(b"\n")[1][6:])["response"]
    for response in (first, whole):
        assert response["instructions"] == "be brief"
        assert response["metadata"] == {"a": "b"}
        assert response["tools"] == [{"type": "function", "name": "f", "parameters": {}}]
        assert (response["temperature"], response["max_output_tokens"]) == (0.5, 7)
        assert response["text"] == {"format": {"type": "json_object"}}
        assert (response["user"], response["tool_choice"]) == (None, "auto")
        assert (response["store"], response["previous_response_id"]) == (False, None)
    assert (first["status"], whole["status"]) == ("in_progress", "completed")


def test_a_failure_goes_on_where_the_answer_stands() -> None:
    exchange = ResponsesExchange()
    encoder = exchange.stream_encoder(IDENTITY, include_usage=True)
    told = encoder.encode(Text("a"))

    failure = exchange.error_frame(BROKEN, 502)

    numbers = [
        msgspec.json.decode(frame.split(b"\n")[1][6:])["sequence_number"]
        for frame in frames(told + failure)
    ]
    assert numbers == list(range(len(numbers)))
    assert failure.count(b"event: response.failed\n") == 1
    assert exchange.error_frame(BROKEN, 502) == b""


def test_a_failure_of_the_upstreams_own_stream_is_an_error_event() -> None:
    exchange = ResponsesExchange()
    exchange.stream_encoder(IDENTITY, include_usage=True)  # of an attempt before it
    exchange.forward(REQUEST, "up", usage=True, amend=exchange.amend)

    (frame,) = frames(exchange.error_frame(BROKEN, 502))

    assert frame == (
        b'event: error\ndata: {"type":"error","code":"truncated","message":"it broke off",'
        b'"param":null,"error":{"message":"it broke off","type":"server_error","param":null,'
        b'"code":"truncated"}}\n\n'
    )


def test_a_refusal_is_the_same_as_in_chat() -> None:
    body = RESPONSES.encode_error(BROKEN, 502)

    assert msgspec.json.decode(body)["error"]["message"] == "it broke off"
    assert RESPONSES.error_status(BROKEN, 502, streaming=True) == 502
    assert RESPONSES.error_content_type == "application/json"


# There and back

TEXTS = st.text(max_size=5)
LOGPROBS = st.none() | st.just(msgspec.Raw(b'{"content":[{"token":"a","logprob":-0.5}]}'))
COUNTS = st.integers(0, 2**53 // 2)
CALLS = st.builds(
    ToolCall,
    st.just(0),
    st.none() | st.text(min_size=1, max_size=3),
    TEXTS,
    signature=st.none() | st.text(min_size=1, max_size=3),
)
CONTENT = st.one_of(
    st.builds(Text, TEXTS, st.integers(0, 1), LOGPROBS),
    st.builds(Refusal, TEXTS),
    st.builds(Thinking, TEXTS, signature=st.none() | st.text(min_size=1, max_size=3)),
    st.builds(RedactedThinking, st.text(min_size=1, max_size=3)),
    CALLS,
    st.builds(ToolArguments, st.integers(0, 3), TEXTS),
    st.builds(Usage, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
)
FINISHES = st.builds(
    Finished,
    st.sampled_from(FinishReason),
    st.just(0),
    st.none() | st.sampled_from(["stop", "eos", "odd"]),
    st.none() | st.just("END"),
)


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    """A grammatical answer: calls are counted, and opened before they are filled."""
    events: list[StreamEvent] = [STARTED]
    calls = 0
    for event in draw(st.lists(CONTENT, max_size=10)):
        if isinstance(event, ToolCall):
            events.append(msgspec.structs.replace(event, call=calls))
            calls += 1
        elif not isinstance(event, ToolArguments) or event.call < calls:
            events.append(event)
    if draw(st.booleans()):
        events.append(draw(FINISHES))
    return [*events, Ended()]


def joined(events: list[StreamEvent]) -> list[StreamEvent]:
    """The events as they come back: what the dialect says otherwise, or not at all.

    Nothing is said of other choices, or without a text; a signature comes after its text; calls
    have ids and arguments; the reason and the last counts come at the end.
    """
    back = [piece for event in events for piece in _said_again(event)]
    finished = next((e for e in events if isinstance(e, Finished)), Finished(R.STOP))
    calls = [event.call for event in back if isinstance(event, ToolCall)]
    filled = {event.call for event in back if isinstance(event, ToolArguments)}
    if finished.reason in (R.STOP, R.TOOL_CALLS):
        back += [ToolArguments(call, "{}") for call in calls if call not in filled]
    usage = [event for event in events if isinstance(event, Usage)][-1:]
    return [*back, _ending(finished, called=bool(calls)), *usage, Ended()]


def _said_again(event: StreamEvent) -> list[StreamEvent]:
    match event:
        case Text():
            said = event.choice == 0 and (event.text or event.logprobs is not None)
            return [event] if said else []
        case Thinking():
            signed = Thinking("", signature=event.signature)
            text = [Thinking(event.text)] if event.text else []
            return [*text, signed] if event.signature is not None else [*text]
        case ToolCall():
            made_up = f"call_{IDENTITY.id}_0_{event.call}"
            return [msgspec.structs.replace(event, id=event.id or made_up)]
        case Refusal(text) | ToolArguments(_, text):
            return [event] if text else []
        case Started() | RedactedThinking():
            return [event]
        case _:
            return []


def _ending(finished: Finished, *, called: bool) -> Finished:
    words = {R.LENGTH: "max_output_tokens", R.CONTENT_FILTER: "content_filter"}
    reason = finished.reason
    if reason not in words:
        reason = R.TOOL_CALLS if called else R.STOP
    raw = finished.raw if finished.raw not in (None, "stop") else words.get(reason, "completed")
    return Finished(reason, 0, raw, finished.stop)


@given(events=answers())
def test_a_stream_that_is_written_is_read_as_the_same(events: list[StreamEvent]) -> None:
    encoder = RESPONSES.stream_encoder(IDENTITY, include_usage=True)
    body = b"".join(map(encoder.encode, events))
    decoder = RESPONSES.stream_decoder()

    assert decoder.feed(body) + decoder.close() == joined(events)


@given(events=answers())
def test_a_whole_answer_that_is_written_amounts_to_the_same(events: list[StreamEvent]) -> None:
    back = RESPONSES.decode_body(RESPONSES.encode_body(events, IDENTITY))

    whole, streamed = fold(back), fold(joined(events))
    assert (whole.text, whole.reasoning, whole.refusal) == (
        streamed.text,
        streamed.reasoning,
        streamed.refusal,
    )
    assert (whole.tool_calls, whole.usage) == (streamed.tool_calls, streamed.usage)
    assert whole.finish_reason == streamed.finish_reason


@given(events=answers(), end=st.integers(0, 12))
def test_an_answer_that_fails_is_never_completed(events: list[StreamEvent], end: int) -> None:
    encoder = RESPONSES.stream_encoder(IDENTITY, include_usage=True)
    before = events[: min(end, len(events) - 1)]
    body = b"".join(map(encoder.encode, [*before, Failed(BROKEN), *events]))

    decoder = RESPONSES.stream_decoder()
    last = decoder.feed(body)[-1]

    assert isinstance(last, Failed)
    assert last.fault.message == "it broke off"
    assert body.endswith(b"}\n\n")
    assert b"event: response.completed" not in body
    assert b"event: response.incomplete" not in body
