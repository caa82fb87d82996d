"""OpenAI chat answers: streams in, streams out, and whole."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import Identity
from parsers.dialects.openai import OPENAI_CHAT
from parsers.errors import FrameTooLarge
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

R = FinishReason
DONE = b"data: [DONE]\n\n"
IDENTITY = Identity(id="chatcmpl-1a2b", created=1767225600, model="m")
BARE = Ended(proven=False)  # an end mark, and no finish reason
STARTED = Started(id="chatcmpl-1a2b", model="m", created=1767225600)


def sse(*payloads: bytes) -> bytes:
    return b"".join(b"data: %b\n\n" % payload for payload in payloads)


def delta(inner: bytes, finish: bytes = b"null", index: int = 0) -> bytes:
    return b'{"choices":[{"index":%d,"delta":{%b},"finish_reason":%b}]}' % (index, inner, finish)


def decoded(body: bytes) -> list[StreamEvent]:
    """The events of a streamed body, without Started; whole and byte by byte alike."""
    whole, bytewise = OPENAI_CHAT.stream_decoder(), OPENAI_CHAT.stream_decoder()
    events = whole.feed(body) + whole.close()
    pieces = [event for byte in body for event in bytewise.feed(bytes([byte]))]
    assert pieces + bytewise.close() == events
    return [event for event in events if not isinstance(event, Started)]


def calls(*entries: bytes) -> list[StreamEvent]:
    """The events of a stream whose chunks carry these `tool_calls` entries, one each."""
    chunks = [delta(b'"tool_calls":[%b]' % entry) for entry in entries]
    return decoded(sse(*chunks, delta(b"", b'"tool_calls"')) + DONE)[:-2]


def fault_of(body: bytes) -> Fault:
    last = decoded(body)[-1]
    assert isinstance(last, Failed)
    return last.fault


# How a stream begins and ends


def test_the_first_chunk_names_the_answer_once() -> None:
    head = b'{"id":"a","model":"m","created":7.0,"choices":[{"delta":{"content":"x"}}]}'
    decoder = OPENAI_CHAT.stream_decoder()

    events = decoder.feed(sse(head, head))

    assert events == [Started("a", "m", 7), Text("x"), Text("x")]


def test_empty_names_are_none() -> None:
    head = b'{"id":"","model":null,"created":0,"choices":[{"delta":{}}]}'

    assert OPENAI_CHAT.stream_decoder().feed(sse(head)) == [Started()]


def test_done_ends_the_stream_and_nothing_comes_after_it() -> None:
    decoder = OPENAI_CHAT.stream_decoder()

    events = decoder.feed(sse(delta(b"", b'"stop"')) + DONE + sse(delta(b'"content":"ghost"')))

    assert events[-1] == Ended(marked=True)
    assert decoder.feed(sse(delta(b'"content":"ghost"'))) == []
    assert decoder.close() == []
    assert decoder.pending_bytes == 0


def test_an_end_without_done_is_whole_only_if_every_choice_finished() -> None:
    one = delta(b"", b'"stop"')
    other = delta(b'"content":"x"', index=1)

    assert decoded(sse(one))[-1] == Ended(marked=False)
    assert fault_of(sse(one, other)).kind is FaultKind.TRUNCATED
    assert fault_of(b"").kind is FaultKind.TRUNCATED
    assert fault_of(b": only a comment\n\n").kind is FaultKind.TRUNCATED


def test_a_last_event_without_its_blank_line_counts_if_it_is_whole() -> None:
    whole = b"data: " + delta(b'"content":"x"', b'"stop"')

    assert decoded(whole) == [Text("x"), Finished(R.STOP, raw="stop"), Ended(marked=False)]
    assert decoded(sse(delta(b"", b'"stop"')) + b"data: [DONE]")[-1] == Ended(marked=True)
    assert fault_of(whole[:-3]).kind is FaultKind.TRUNCATED


def test_pending_bytes_tell_of_an_event_that_is_not_complete() -> None:
    decoder = OPENAI_CHAT.stream_decoder()
    decoder.feed(sse(delta(b'"content":"x"')) + b"data: {")

    assert decoder.pending_bytes == len(b"data: {")


def test_an_event_over_the_limit_raises_with_the_events_before_it() -> None:
    decoder = OPENAI_CHAT.stream_decoder(max_event_bytes=200)

    with pytest.raises(FrameTooLarge) as raised:
        decoder.feed(sse(delta(b'"content":"x"'), b"9" * 300))

    assert raised.value.events == [Started(), Text("x")]


@pytest.mark.parametrize("payload", [b"", b" ", b": keepalive", b":", b'{"choices":[]}', b"{}"])
def test_payloads_that_say_nothing_are_skipped(payload: bytes) -> None:
    assert decoded(sse(payload, delta(b"", b'"stop"'))) == [
        Finished(R.STOP, raw="stop"),
        Ended(marked=False),
    ]


# What a chunk may hold


def test_all_that_a_delta_can_say_comes_in_order() -> None:
    chunk = delta(
        b'"refusal":"no","content":"text","reasoning":"hm","tool_calls":'
        b'[{"index":0,"id":"c","function":{"name":"f","arguments":"{}"}}]',
        b'"tool_calls"',
    )

    assert decoded(sse(chunk) + DONE) == [
        Thinking("hm"),
        Text("text"),
        Refusal("no"),
        ToolCall(0, "c", "f"),
        ToolArguments(0, "{}"),
        Finished(R.TOOL_CALLS, raw="tool_calls"),
        Ended(),
    ]


BLOCKS = (
    b'"thinking_blocks":[{"type":"thinking","thinking":"ab","signature":"s"},'
    b'{"type":"redacted_thinking","data":"r"}]'
)


def test_signed_reasoning_of_a_stream_is_told_by_its_pieces_and_then_its_signature() -> None:
    pieces = [b'"reasoning_content":"a"', b'"reasoning_content":"b"', BLOCKS]

    assert decoded(sse(*map(delta, pieces)) + DONE)[:-1] == [
        Thinking("a"),
        Thinking("b"),
        Thinking("", signature="s"),
        RedactedThinking("r"),
    ]


def test_signed_reasoning_of_a_whole_answer_is_told_by_its_blocks() -> None:
    body = b'{"choices":[{"message":{"reasoning_content":"abc",%b},"finish_reason":"stop"}]}'

    assert OPENAI_CHAT.decode_body(body % BLOCKS)[1:4] == [
        Thinking("ab", signature="s"),
        RedactedThinking("r"),
        Thinking("c"),
    ]


@pytest.mark.parametrize("blocks", [b"7", b"[7]", b'[{"type":"x"}]', b"{}"])
def test_blocks_of_another_form_are_passed_over(blocks: bytes) -> None:
    odd = delta(b'"reasoning":"a","thinking_blocks":' + blocks)

    assert decoded(sse(odd) + DONE)[:-1] == [Thinking("a")]


@pytest.mark.parametrize(
    ("extra", "signature"),
    [
        (b'{"google":{"thought_signature":"s"}}', "s"),
        (b'{"google":{"thought_signature":""}}', None),
        (b'{"google":null}', None),
        (b"{}", None),
        (b"7", None),
        (b'{"google":{"thought_signature":7}}', None),
    ],
)
def test_the_signature_of_a_call_is_read(extra: bytes, signature: str | None) -> None:
    entry = b'{"index":0,"id":"c","function":{"name":"f","arguments":""},"extra_content":%b}'

    assert calls(entry % extra) == [ToolCall(0, "c", "f", signature=signature)]


def test_reasoning_under_both_names_is_told_once() -> None:
    chunk = delta(b'"reasoning":"hm","reasoning_content":"hm"')

    assert decoded(sse(chunk) + DONE)[0] == Thinking("hm")


def test_logprobs_are_kept_as_they_are() -> None:
    body = b'{"choices":[{"delta":{"content":%b},"logprobs":%b}]}'

    events = decoded(
        sse(
            body % (b'"x"', b'{"content":[ 1.50 ]}'),
            body % (b'""', b"[1]"),
            body % (b'"y"', b"null"),
            body % (b"null", b"[2]"),
        )
    )

    assert events[:-1] == [
        Text("x", logprobs=msgspec.Raw(b'{"content":[ 1.50 ]}')),
        Text("", logprobs=msgspec.Raw(b"[1]")),
        Text("y"),
    ]


@pytest.mark.parametrize(
    ("inner", "events"),
    [
        (b'"content":[{"type":"text","text":"a"},{"text":"b"},7]', [Text("ab")]),
        (b'"content":7', []),
        (b'"reasoning":{"a":1},"refusal":[]', []),
    ],
)
def test_odd_types_of_content_do_not_end_the_stream(
    inner: bytes, events: list[StreamEvent]
) -> None:
    assert decoded(sse(delta(inner)) + DONE) == [*events, BARE]


@pytest.mark.parametrize("index", [b"null", b'"0"', b"true", b"0"])
def test_an_odd_index_is_the_first_choice(index: bytes) -> None:
    chunk = b'{"choices":[{"index":%b,"delta":{"content":"x"}}]}' % index

    assert decoded(sse(chunk) + DONE)[0] == Text("x")


def test_a_message_in_a_stream_is_read_like_a_delta() -> None:
    chunk = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'

    assert decoded(sse(chunk))[0] == Text("x")


@pytest.mark.parametrize(
    ("word", "finished"),
    [
        ("stop", Finished(R.STOP, raw="stop")),
        ("eos_token", Finished(R.STOP, raw="eos_token")),
        ("stop_sequence", Finished(R.STOP, raw="stop_sequence")),
        ("length", Finished(R.LENGTH, raw="length")),
        ("model_length", Finished(R.LENGTH, raw="model_length")),
        ("tool_calls", Finished(R.TOOL_CALLS, raw="tool_calls")),
        ("function_call", Finished(R.TOOL_CALLS, raw="function_call")),
        ("content_filter", Finished(R.CONTENT_FILTER, raw="content_filter")),
        ("abort", Finished(R.STOP, raw="abort")),
        ("brand_new", Finished(R.STOP, raw="brand_new")),
    ],
)
def test_finish_reasons_keep_the_wire_word(word: str, finished: Finished) -> None:
    assert decoded(sse(delta(b"", b'"%b"' % word.encode())))[0] == finished


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", R.TOOL_CALLS),
        ("eos_token", R.TOOL_CALLS),
        ("length", R.LENGTH),
        ("content_filter", R.CONTENT_FILTER),
        ("abort", R.STOP),
    ],
)
def test_a_stop_after_a_tool_call_means_that_it_was_called(word: str, reason: FinishReason) -> None:
    call = delta(b'"tool_calls":[{"index":0,"id":"c","function":{"name":"f"}}]')

    events = decoded(sse(call, delta(b"", b'"%b"' % word.encode())))

    assert events[1] == Finished(reason, raw=word)


def test_a_choice_finishes_once_and_says_nothing_more() -> None:
    stop = delta(b"", b'"stop"')

    events = decoded(sse(stop, stop, delta(b'"content":"late"')) + DONE)

    assert events == [Finished(R.STOP, raw="stop"), Ended()]


def test_an_empty_finish_reason_is_none() -> None:
    assert decoded(sse(delta(b'"content":"x"', b'""')) + DONE) == [Text("x"), BARE]


def test_the_stop_string_that_matched_is_told() -> None:
    chunk = b'{"choices":[{"delta":{},"finish_reason":"stop","stop_reason":%b}]}'

    assert decoded(sse(chunk % b'"END"'))[0] == Finished(R.STOP, raw="stop", stop="END")
    assert decoded(sse(chunk % b"128001"))[0] == Finished(R.STOP, raw="stop")


def test_usage_is_told_each_time_and_in_full() -> None:
    first = b'{"choices":[{"delta":{}}],"usage":{"prompt_tokens":3,"completion_tokens":null}}'
    last = (
        b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9,"total_tokens":12,'
        b'"prompt_tokens_details":{"cached_tokens":2,"cache_write_tokens":1},'
        b'"completion_tokens_details":{"reasoning_tokens":4}}}'
    )

    events = decoded(sse(first, last) + DONE)

    assert events == [Usage(3, 0), Usage(3, 9, cached=2, reasoning=4, cache_write=1), BARE]


@pytest.mark.parametrize(
    "usage",
    [b"{}", b"null", b'{"prompt_tokens":-1}', b'{"x":1}', b'{"prompt_tokens":1%b}' % (b"0" * 400)],
)
def test_usage_that_counts_nothing_is_none(usage: bytes) -> None:
    chunk = b'{"choices":[{"delta":{}}],"usage":%b}' % usage

    assert decoded(sse(chunk) + DONE) == [BARE]


# Which call a piece belongs to


def test_pieces_go_to_the_call_of_their_index() -> None:
    events = calls(
        b'{"index":0,"id":"a","function":{"name":"f","arguments":""}},'
        b'{"index":1,"id":"b","function":{"name":"g","arguments":""}}',
        b'{"index":1,"function":{"arguments":"1"}}',
        b'{"index":0,"function":{"arguments":"0"}}',
    )

    assert events == [
        ToolCall(0, "a", "f"),
        ToolCall(1, "b", "g"),
        ToolArguments(1, "1"),
        ToolArguments(0, "0"),
    ]


def test_a_new_id_with_a_name_is_a_new_call_even_at_a_taken_index() -> None:
    events = calls(
        b'{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}',
        b'{"index":0,"id":"b","function":{"name":"f","arguments":"[]"}}',
        b'{"index":0,"function":{"arguments":" "}}',
    )

    assert events == [
        ToolCall(0, "a", "f"),
        ToolArguments(0, "{}"),
        ToolCall(1, "b", "f"),
        ToolArguments(1, "[]"),
        ToolArguments(1, " "),
    ]


def test_a_new_id_without_a_name_goes_on_with_the_call_of_its_index() -> None:
    events = calls(
        b'{"index":0,"id":"a","function":{"name":"f"}}',
        b'{"index":0,"id":"z","function":{"arguments":"1"}}',
        b'{"index":5,"id":"z","function":{"arguments":"2"}}',
    )

    assert events == [ToolCall(0, "a", "f"), ToolArguments(0, "1"), ToolArguments(0, "2")]


def test_without_an_index_a_new_id_is_a_new_call_and_no_id_goes_on() -> None:
    events = calls(
        b'{"id":"a","function":{"name":"f","arguments":"1"}}',
        b'{"function":{"arguments":"2"}}',
        b'{"id":"b","function":{"name":"g","arguments":"3"}}',
        b'{"id":"a","function":{"arguments":"4"}}',
    )

    assert events == [
        ToolCall(0, "a", "f"),
        ToolArguments(0, "1"),
        ToolArguments(0, "2"),
        ToolCall(1, "b", "g"),
        ToolArguments(1, "3"),
        ToolArguments(0, "4"),
    ]


def test_empty_ids_and_null_names_count_as_absent() -> None:
    events = calls(
        b'{"index":0,"id":"0","function":{"name":"f","arguments":"1"}}',
        b'{"index":0,"id":"0","function":{"name":null,"arguments":"2"}}',
        b'{"index":0,"id":"","function":{"name":"","arguments":"3"}}',
        b'{"index":0,"id":null}',
    )

    assert events[1:] == [ToolArguments(0, "1"), ToolArguments(0, "2"), ToolArguments(0, "3")]


def test_an_id_may_come_before_its_name() -> None:
    events = calls(b'{"index":0,"id":"a"}', b'{"index":0,"function":{"name":"f"}}')

    assert events == [ToolCall(0, "a", "f")]


def test_arguments_do_not_wait_for_a_name_and_a_nameless_call_is_told() -> None:
    events = calls(b'{"index":0,"function":{"arguments":"1"}}', b'{"index":1,"id":"b"}')

    assert events == [ToolCall(0, None, ""), ToolArguments(0, "1"), ToolCall(1, "b", "")]


def test_a_nameless_call_is_told_also_before_a_bare_done() -> None:
    body = sse(delta(b'"tool_calls":[{"id":"a"}]')) + DONE

    assert decoded(body) == [ToolCall(0, "a", ""), BARE]


ODD_CALLS = {
    "Mistral: whole, with its finish, without index and type": [
        b'{"choices":[{"index":0,"delta":{"tool_calls":[{"id":"a","function":{"name":"f",'
        b'"arguments":"{}"}},{"id":"b","function":{"name":"g","arguments":""}}]},'
        b'"finish_reason":"tool_calls"}]}'
    ],
    "Ollama: index 0 for all": [
        delta(b'"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}]'),
        delta(b'"tool_calls":[{"index":0,"id":"b","function":{"name":"g"}}]', b'"tool_calls"'),
    ],
    "TGI: the id again and a null name": [
        delta(b'"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]'),
        delta(b'"tool_calls":[{"index":0,"id":"a","function":{"name":null,"arguments":"}"}}]'),
        delta(b'"tool_calls":[{"index":1,"id":"b","function":{"name":"g"}}]', b'"tool_calls"'),
    ],
    "interleaved": [
        delta(
            b'"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}},'
            b'{"index":1,"id":"b","function":{"name":"g","arguments":""}}]'
        ),
        delta(b'"tool_calls":[{"index":0,"function":{"arguments":"{"}}]'),
        delta(b'"tool_calls":[{"index":1,"function":{"arguments":""}}]'),
        delta(b'"tool_calls":[{"index":0,"function":{"arguments":"}"}}]', b'"tool_calls"'),
    ],
}


@pytest.mark.parametrize("form", ODD_CALLS)
def test_calls_of_every_form_are_the_same_calls_and_stay_so(form: str) -> None:
    events = decoded(sse(*ODD_CALLS[form]) + DONE)

    opened = [(e.call, e.id, e.name) for e in events if isinstance(e, ToolCall)]
    said = [
        "".join(e.fragment for e in events if isinstance(e, ToolArguments) and e.call == n)
        for n in (0, 1)
    ]
    assert (opened, said) == ([(0, "a", "f"), (1, "b", "g")], ["{}", ""])
    assert decoded(encoded(*events)) == events


def test_arguments_that_were_cut_off_are_passed_on_as_they_are() -> None:
    cut = b'"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{\\"a"}}]'
    events = decoded(sse(delta(cut, b'"length"')) + DONE)

    assert events[1:3] == [ToolArguments(0, '{"a'), Finished(R.LENGTH, raw="length")]
    assert decoded(encoded(*events)) == events


def test_arguments_as_an_object_become_their_text() -> None:
    events = calls(b'{"index":0,"id":"a","function":{"name":"f","arguments":{"x":[1]}}}')

    assert events == [ToolCall(0, "a", "f"), ToolArguments(0, '{"x":[1]}')]


# Errors in the stream


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        (sse(b'{"error":"text"}'), FaultKind.UPSTREAM, "text"),
        (
            b'event: error\ndata: {"choices":[{"delta":{"content":"x"}}],"message":"m"}\n\n',
            FaultKind.UPSTREAM,
            "m",
        ),
        (b"event: error\ndata: gone\n\n", FaultKind.UPSTREAM, "gone"),
        (
            sse(b'{"object":"error","message":"full","code":503,"type":"x"}'),
            FaultKind.OVERLOADED,
            "full",
        ),
        (
            sse(b'{"choices":[{"delta":{},"finish_reason":"error"}]}'),
            FaultKind.UPSTREAM,
            "upstream ended the answer with an error",
        ),
        (b'error: {"code":503,"message":"Loading"}\n\n', FaultKind.OVERLOADED, "Loading"),
        (
            b'{\n "error": {\n "message": "tail: end",\n "code": 503}\n}\n',
            FaultKind.OVERLOADED,
            "tail: end",
        ),
        (
            sse(b"ping"),
            FaultKind.PROTOCOL,
            "upstream sent an event that is not its format",
        ),
        (
            sse(b'{"choices":"x"}'),
            FaultKind.PROTOCOL,
            "upstream sent an event that is not its format",
        ),
        (
            sse(b"[" * 100_000),
            FaultKind.PROTOCOL,
            "upstream sent an event that is not its format",
        ),
    ],
)
def test_an_error_ends_the_stream_at_once(body: bytes, kind: FaultKind, message: str) -> None:
    decoder = OPENAI_CHAT.stream_decoder()

    events = [
        event
        for event in decoder.feed(body + sse(delta(b'"content":"x"'))) + decoder.close()
        if not isinstance(event, Started | Text)
    ]

    (last,) = events
    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.message) == (kind, message)


def test_an_error_for_a_reason_comes_after_all_that_its_chunk_says() -> None:
    chunk = (
        b'{"choices":[{"delta":{"content":"x"},"finish_reason":"error"},'
        b'{"index":1,"delta":{"content":"y"}}],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
    )

    *said, last = decoded(sse(chunk) + DONE)

    assert said == [Text("x"), Text("y", 1), Usage(3, 1)]
    assert isinstance(last, Failed)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", sse(delta(b'"content":"b"')) + DONE),
        (b"", sse(b'{"error":{"message":"later"}}')),
        (b"", b'error: {"message":"later"}\n\n'),
        (b'data: {"choices":[]}\n', DONE),
    ],
)
def test_an_error_line_ends_the_stream_where_it_stands(before: bytes, after: bytes) -> None:
    said = sse(delta(b'"content":"a"'))

    events = decoded(said + before + b'error: {"message":"gone","code":500}\n\n' + after)

    assert events[:-1] == [Text("a")]
    assert isinstance(events[-1], Failed)
    assert events[-1].fault.message == "gone"


def test_an_error_after_the_finish_is_still_one() -> None:
    fault = fault_of(sse(delta(b"", b'"stop"')) + b'{"error":{"code":500,"message":"late"}}\n')

    assert fault.message == "late"


def test_a_null_error_is_none() -> None:
    chunk = b'{"error":null,"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}'

    assert decoded(sse(chunk))[0] == Text("x")


def test_a_page_instead_of_a_stream_breaks_the_protocol() -> None:
    assert fault_of(b"<html>\n<body>log in</body></html>\n").kind is FaultKind.PROTOCOL


def test_a_whole_answer_instead_of_a_stream_is_an_answer() -> None:
    body = b'{"choices": [\n{"message":{"content":"x"},"finish_reason":"stop"}]}'

    assert decoded(body) == [Text("x"), Finished(R.STOP, raw="stop"), Ended()]


def test_stray_lines_are_kept_up_to_a_limit() -> None:
    decoder = OPENAI_CHAT.stream_decoder()

    for _ in range(20):
        decoder.feed(b"stray" * 20_000 + b"\n")

    last = decoder.close()[-1]
    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.PROTOCOL


def test_more_choices_or_calls_than_any_answer_has_are_refused() -> None:
    choices = sse(*[delta(b'"content":"x"', index=at) for at in range(200)])
    entries = b",".join(b'{"index":%d,"id":"%d"}' % (at, at) for at in range(2000))

    for body in (choices, sse(delta(b'"tool_calls":[%b]' % entries))):
        events = OPENAI_CHAT.stream_decoder().feed(body)
        assert isinstance(events[-1], Failed)
        assert events[-1].fault.kind is FaultKind.PROTOCOL


# Text that is no Unicode, JSON that is two


def test_half_characters_become_replacements() -> None:
    body = sse(delta(rb'"content":"a\ud83d"'), delta(rb'"content":"\ude80\\ud83d \ud83d\ude80"'))

    assert decoded(body + DONE)[:2] == [Text("a�"), Text("�\\ud83d 🚀")]


def test_two_values_in_one_payload_are_two_chunks() -> None:
    one = delta(b'"content":"}{"')

    assert decoded(sse(one + one + b" " + one) + DONE) == [Text("}{")] * 3 + [BARE]


def test_values_after_a_failed_one_are_not_read() -> None:
    events = decoded(sse(b'{"error":"x"}' + delta(b'"content":"x"')))

    assert events == [Failed(Fault(FaultKind.UPSTREAM, "upstream", "x"))]


@pytest.mark.parametrize(
    "payload",
    [
        b"{} {} {",
        b"{}{}" * 40,
        b'{"a":"' + b"}{" * 100,
        b"{}" + b" " * (1 << 20) + b"{}",
    ],
)
def test_payloads_with_too_much_or_too_little_are_refused(payload: bytes) -> None:
    events = OPENAI_CHAT.stream_decoder().feed(sse(payload))

    assert isinstance(events[-1], Failed)
    assert events[-1].fault.kind is FaultKind.PROTOCOL


@given(st.lists(st.binary(max_size=30) | st.sampled_from([DONE, b"data: {", b"\n\n"]), max_size=8))
def test_any_bytes_give_events_that_end_once(pieces: list[bytes]) -> None:
    decoder = OPENAI_CHAT.stream_decoder()

    events = [event for piece in pieces for event in decoder.feed(piece)] + decoder.close()

    assert [isinstance(event, Ended | Failed) for event in events].count(True) == 1
    assert isinstance(events[-1], Ended | Failed)


# Whole answers


def test_a_whole_answer_is_the_same_events() -> None:
    body = b"""{"id":"a","model":"m","created":1,"choices":[
        {"index":0,"finish_reason":"stop","logprobs":{"content":[1]},"message":{
            "content":"x","refusal":null,"reasoning":"hm","tool_calls":[
                {"function":{"name":"f","arguments":"{}"}},
                {"function":{"name":"g","arguments":"[]"}}]}},
        {"index":1,"message":{"content":"y"}}],
        "usage":{"prompt_tokens":1,"completion_tokens":2}}"""

    assert OPENAI_CHAT.decode_body(body) == [
        Started("a", "m", 1),
        Thinking("hm"),
        Text("x", logprobs=msgspec.Raw(b'{"content":[1]}')),
        ToolCall(0, None, "f"),
        ToolArguments(0, "{}"),
        ToolCall(1, None, "g"),
        ToolArguments(1, "[]"),
        Finished(R.TOOL_CALLS, raw="stop"),
        Text("y", 1),
        Usage(1, 2),
        Ended(),
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error":{"message":"x","code":404}}', FaultKind.UNKNOWN_MODEL),
        (b'{"error":"x","choices":[{"message":{}}]}', FaultKind.UPSTREAM),
        (b'{"choices":[]}', FaultKind.PROTOCOL),
        (b"<html>", FaultKind.PROTOCOL),
        (b"", FaultKind.PROTOCOL),
        (b'{"choices":[' + b",".join([b"{}"] * 3) + b"]", FaultKind.PROTOCOL),
        (
            b'{"choices":[' + b",".join(b'{"index":%d}' % at for at in range(200)) + b"]}",
            FaultKind.PROTOCOL,
        ),
    ],
)
def test_a_body_that_is_no_answer_is_a_fault(body: bytes, kind: FaultKind) -> None:
    (event,) = OPENAI_CHAT.decode_body(body)[-1:]

    assert isinstance(event, Failed)
    assert event.fault.kind is kind


def test_a_whole_answer_that_ended_in_an_error_is_a_fault() -> None:
    events = OPENAI_CHAT.decode_body(b'{"choices":[{"finish_reason":"error","message":{}}]}')

    assert isinstance(events[-1], Failed)


def test_a_failed_call_is_told_by_status_and_body() -> None:
    fault = OPENAI_CHAT.decode_error(401, b'{"error":"Unauthorized"}')

    assert fault == Fault(FaultKind.UNAUTHENTICATED, "upstream", "Unauthorized", status=401)


# Writing


def encoded(*events: StreamEvent, usage: bool = False) -> bytes:
    encoder = OPENAI_CHAT.stream_encoder(IDENTITY, include_usage=usage)
    return b"".join(encoder.encode(event) for event in events)


HEAD = (
    b'data: {"id":"chatcmpl-1a2b","object":"chat.completion.chunk","created":1767225600,"model":"m"'
)


def written(inner: bytes, finish: bytes = b"null", tail: bytes = b"") -> bytes:
    choices = b',"choices":[{"index":0,"delta":{%b},"finish_reason":%b}]' % (inner, finish)
    return HEAD + choices + tail + b"}\n\n"


ROLE = b'"role":"assistant","content":""'


def test_a_stream_is_role_deltas_finish_done() -> None:
    frames = encoded(Started("x"), Text("Hi"), Text("\n"), Finished(R.STOP, raw="stop"), Ended())

    assert frames == (
        written(ROLE)
        + written(b'"content":"Hi"')
        + written(rb'"content":"\n"')
        + written(b"", b'"stop"')
        + DONE
    )


def test_usage_is_a_chunk_of_its_own_if_it_was_asked_for() -> None:
    events = (Usage(1, 1), Text("Hi"), Finished(R.LENGTH, raw="length"), Usage(1, 2, 0), Ended())
    null = b',"usage":null'

    assert encoded(*events, usage=True) == (
        written(ROLE, tail=null)
        + written(b'"content":"Hi"', tail=null)
        + written(b"", b'"length"', tail=null)
        + HEAD
        + b',"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3,'
        b'"prompt_tokens_details":{"cached_tokens":0}}}\n\n' + DONE
    )
    assert b"usage" not in encoded(*events)


def test_usage_that_nobody_counted_is_not_made_up() -> None:
    assert b'"usage":{' not in encoded(Text("Hi"), Finished(R.STOP), Ended(), usage=True)


def test_a_failure_is_an_error_frame_and_no_done() -> None:
    fault = Fault(FaultKind.TRUNCATED, "upstream", "broke off")

    assert encoded(Failed(fault)) == (
        b'data: {"error":{"message":"broke off","type":"server_error","param":null,'
        b'"code":"truncated"}}\n\n'
    )


def test_words_that_openai_does_not_have_stay_readable() -> None:
    frames = encoded(Finished(R.STOP, raw="brand_new", stop="END"), Ended())

    assert frames.endswith(
        b'"finish_reason":"stop","native_finish_reason":"brand_new","stop_reason":"END"}]}\n\n'
        + DONE
    )


def test_the_first_choice_opens_the_stream_whichever_speaks_first() -> None:
    body = encoded(Text("a", 1))

    indices = [msgspec.json.decode(frame[6:])["choices"][0]["index"] for frame in frames(body)]
    assert indices == [0, 1, 1]


def test_no_finish_reason_is_made_up() -> None:
    assert encoded(Text("x"), Ended()) == written(ROLE) + written(b'"content":"x"') + DONE


def test_calls_without_a_finish_reason_are_finished_as_calls() -> None:
    frames = encoded(ToolCall(0, "c", "f"), Text("x", 1), Ended())

    assert frames.endswith(written(b"", b'"tool_calls"') + DONE)
    assert frames.count(b'"finish_reason":"') == 1


def test_calls_with_a_finish_reason_keep_it() -> None:
    frames = encoded(ToolCall(0, "c", "f"), Finished(R.LENGTH), Ended())

    assert frames.endswith(written(b"", b'"length"') + DONE)
    assert b'"tool_calls"}' not in frames


def test_an_answer_without_any_choice_is_an_empty_one() -> None:
    assert encoded(Ended()) == written(ROLE) + DONE


def test_a_call_without_an_id_gets_one_from_the_identity() -> None:
    frame = encoded(ToolCall(2, None, "f"))

    assert b'{"index":2,"id":"call_1a2b_0_2","type":"function","function":{"name":"f"' in frame


def test_a_signed_block_of_reasoning_is_written_whole_at_its_end() -> None:
    signed = Thinking("b", signature="s")
    body = encoded(Thinking("a"), signed, RedactedThinking("r"), Text("c"))

    deltas = [msgspec.json.decode(frame[6:])["choices"][0]["delta"] for frame in frames(body)]
    assert deltas == [
        {"role": "assistant", "content": ""},
        {"reasoning_content": "a"},
        {"reasoning_content": "b"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "ab", "signature": "s"}]},
        {"thinking_blocks": [{"type": "redacted_thinking", "data": "r"}]},
        {"content": "c"},
    ]


def test_the_signature_of_a_call_stands_where_google_has_it() -> None:
    body = encoded(ToolCall(0, "c", "f", signature="s"))

    assert b'"arguments":""},"extra_content":{"google":{"thought_signature":"s"}}}]' in body


def test_a_whole_answer_is_folded() -> None:
    events: list[StreamEvent] = [
        Started("other", "other", 3),
        Thinking("h"),
        Thinking("m"),
        Text("a", logprobs=msgspec.Raw(b'{"content":[{"token":"a"}]}')),
        Text("b", logprobs=msgspec.Raw(b'{"content":[{"token":"b"}]}')),
        Text("", logprobs=msgspec.Raw(b'["not","ours"]')),
        Text("z", 1),
        ToolCall(0, "c", "f"),
        ToolCall(1, None, "g"),
        ToolArguments(0, '{"x"'),
        ToolArguments(1, "[]"),
        ToolArguments(0, ":1}"),
        Refusal("no", 2),
        Finished(R.TOOL_CALLS, raw="stop"),
        Finished(R.LENGTH, 1, raw="length"),
        Usage(1, 2, reasoning=1),
        Ended(),
    ]

    body = msgspec.json.decode(OPENAI_CHAT.encode_body(events, IDENTITY))

    assert body == {
        "id": "chatcmpl-1a2b",
        "object": "chat.completion",
        "created": 1767225600,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "ab",
                    "reasoning_content": "hm",
                    "tool_calls": [
                        {
                            "id": "c",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"x":1}'},
                        },
                        {
                            "id": "call_1a2b_0_1",
                            "type": "function",
                            "function": {"name": "g", "arguments": "[]"},
                        },
                    ],
                },
                "finish_reason": "tool_calls",
                "logprobs": {"content": [{"token": "a"}, {"token": "b"}]},
                "native_finish_reason": "stop",
            },
            {
                "index": 1,
                "message": {"role": "assistant", "content": "z"},
                "finish_reason": "length",
            },
            {
                "index": 2,
                "message": {"role": "assistant", "content": None, "refusal": "no"},
                "finish_reason": None,
            },
        ],
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "completion_tokens_details": {"reasoning_tokens": 1},
        },
    }


def test_a_whole_answer_without_any_choice_has_an_empty_one() -> None:
    body = msgspec.json.decode(OPENAI_CHAT.encode_body([Ended()], IDENTITY))

    assert body["choices"][0]["message"] == {"role": "assistant", "content": ""}
    assert body["choices"][0]["finish_reason"] is None


def test_a_whole_answer_ends_in_calls_or_as_the_server_said_and_no_other_way() -> None:
    events: list[StreamEvent] = [
        Text("a"),
        ToolCall(0, "c", "f", 1),
        ToolCall(0, "d", "f", 2),
        Finished(R.LENGTH, 2),
        Ended(),
    ]

    body = msgspec.json.decode(OPENAI_CHAT.encode_body(events, IDENTITY))

    reasons = [choice["finish_reason"] for choice in body["choices"]]
    assert reasons == [None, "tool_calls", "length"]


@pytest.mark.parametrize("kind", list(FaultKind))
def test_every_kind_of_fault_has_a_type(kind: FaultKind) -> None:
    body = msgspec.json.decode(OPENAI_CHAT.encode_error(Fault(kind, "proxy", "m"), 500))

    assert body["error"]["message"] == "m"
    assert body["error"]["type"]
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_the_upstreams_own_words_are_kept() -> None:
    theirs = Fault(FaultKind.CONTENT_FILTER, "upstream", "m", type="t", param="prompt", code=400)
    only_type = Fault(FaultKind.RATE_LIMITED, "upstream", "m", type="tokens")

    assert OPENAI_CHAT.encode_error(theirs, 400) == (
        b'{"error":{"message":"m","type":"t","param":"prompt","code":400}}'
    )
    assert OPENAI_CHAT.error_frame(only_type, 429) == (
        b'data: {"error":{"message":"m","type":"tokens","param":null,"code":null}}\n\n'
    )


# There and back

TEXTS = st.text(min_size=1, max_size=8)
CONTENT: st.SearchStrategy[StreamEvent] = st.one_of(
    st.builds(Text, TEXTS),
    st.builds(Text, TEXTS, logprobs=st.just(msgspec.Raw(b'{"content":[{"logprob":-0.50}]}'))),
    st.builds(Refusal, TEXTS),
    st.builds(Thinking, TEXTS),
    st.builds(Thinking, st.just(""), signature=TEXTS),
    st.builds(RedactedThinking, TEXTS),
    st.builds(ToolArguments, st.just(0), TEXTS),
    st.builds(ToolArguments, st.just(1), TEXTS),
)
REASONS = st.sampled_from([R.LENGTH, R.CONTENT_FILTER, R.TOOL_CALLS])
COUNTS = st.integers(0, 10**9)
MAYBE = st.none() | COUNTS


@st.composite
def lanes_of(draw: st.DrawFn, choice: int) -> list[StreamEvent]:
    """All that one choice says."""
    events: list[StreamEvent] = []
    content = draw(st.lists(CONTENT, max_size=5))
    if any(isinstance(event, ToolArguments) for event in content):
        signature = draw(st.none() | TEXTS)
        events += [ToolCall(0, "a", "f", choice, signature), ToolCall(1, "b", "g", choice)]
    events += [msgspec.structs.replace(event, choice=choice) for event in content]
    reason = draw(REASONS)
    raw = draw(st.just(reason.value) | st.just("own_word"))
    return [*events, Finished(reason, choice, raw, draw(st.none() | TEXTS))]


@st.composite
def answers(draw: st.DrawFn) -> list[StreamEvent]:
    """Answers as a decoder gives them: grammatical, and with nothing for an encoder to add."""
    lanes = [draw(lanes_of(choice)) for choice in range(draw(st.integers(1, 3)))]
    events: list[StreamEvent] = [STARTED]
    while lanes:  # choices speak in any order, and in between each other
        lane = draw(st.sampled_from(lanes))
        events.append(lane.pop(0))
        lanes = [each for each in lanes if each]
    usage = draw(st.none() | st.builds(Usage, COUNTS, COUNTS, MAYBE, MAYBE, MAYBE))
    return [*events, *([usage] if usage else []), Ended()]


@given(answers(), st.integers(1, 64))
def test_what_is_written_streamed_is_read_back(events: list[StreamEvent], size: int) -> None:
    frames = encoded(*events, usage=True)
    decoder = OPENAI_CHAT.stream_decoder()

    read = [
        event
        for at in range(0, len(frames), size)
        for event in decoder.feed(frames[at : at + size])
    ]

    assert read == events


@given(answers())
def test_what_is_written_whole_is_read_back_as_the_same_answer(
    events: list[StreamEvent],
) -> None:
    body = OPENAI_CHAT.encode_body(events, IDENTITY)

    again = OPENAI_CHAT.encode_body(OPENAI_CHAT.decode_body(body), IDENTITY)

    assert again == body


WHOLE = [
    b'{"choices":[{"index":0,"message":{"content":"a"},"finish_reason":"stop"}]}',
    b'{"choices":[{"message":{"content":"a"},"finish_reason":"length"}],"usage":{"prompt_tokens":1}}',
    b'{"choices":[{"index":0,"message":{"tool_calls":[{"id":"1","function":{"name":"f"}}]},'
    b'"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}',
    b'{"choices":[{"index":0,"message":{"content":""},"finish_reason":"tool_calls"}]}',
    b'{"choices":[{"index":1,"message":{"content":"a"},"finish_reason":"stop"}]}',
    b'{"choices":[{"index":0,"text":"a","finish_reason":"stop","stop_reason":"x"}]}',
    b'{"choices":[{"index":0,"finish_reason":"stop"},{"index":1,"finish_reason":"length"}]}',
    b'{"choices":[{"index":0,"finish_reason":{}}]}',
    b'{"choices":[]}',
    b'{"error":{"message":"no"},"choices":[{"finish_reason":"stop"}]}',
    b'{"choices":[{"index":0,"message":{"content":"\xff"},"finish_reason":"stop"}]}',
    b'{"choices":[{"index":0,"message":{"content":"\\ud83d"},"finish_reason":"stop"}]}',
    b"<html>",
    b"",
]


def endings(events: Sequence[StreamEvent]) -> list[StreamEvent]:
    return [event for event in events if isinstance(event, Finished | Usage | Failed | Ended)]


@pytest.mark.parametrize("body", WHOLE)
def test_a_body_that_is_only_judged_ends_as_the_one_that_is_read(body: bytes) -> None:
    assert OPENAI_CHAT.judge_body(body) == endings(OPENAI_CHAT.decode_body(body))


@given(st.sampled_from(WHOLE), st.data())
def test_a_tampered_body_is_judged_as_it_is_read(body: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    tampered = (
        body[:start] + data.draw(st.sampled_from([b"", b"0", b'"', b"null", b"[]"])) + body[end:]
    )

    assert OPENAI_CHAT.judge_body(tampered) == endings(OPENAI_CHAT.decode_body(tampered))


def test_probabilities_that_were_indented_do_not_break_a_frame() -> None:
    body = (
        b'{"choices":[{"index":0,"message":{"content":"Hi"},"logprobs":{\r\n  "content":[\n'
        b'{"token":"a\\n b"}\n]},"finish_reason":"stop"}]}'
    )
    encoder = OPENAI_CHAT.stream_encoder(Identity("x", 1, "m"), include_usage=False)

    out = b"".join(encoder.encode(event) for event in OPENAI_CHAT.decode_body(body))

    (piece,) = [frame for frame in frames(out) if b"logprobs" in frame]
    assert piece.count(b"\n") == 2
    assert b'"logprobs":{  "content":[{"token":"a\\n b"}]}' in piece
