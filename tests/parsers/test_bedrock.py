"""What Bedrock's Converse answers: streams, whole answers, refusals."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import refusal_of
from parsers.dialects.bedrock import CONVERSE
from parsers.errors import ParseError
from parsers.events import (
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    FinishReason,
    RedactedThinking,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)
from parsers.eventstream import encode_message
from tests.fixture_streams import check_grammar

Json = dict[str, Any]  # Any: JSON of any shape

# Streams


def event(name: str, **members: object) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return encode_message(msgspec.json.encode({**members, "p": "abc"}), headers)


def delta(index: int = 0, **members: object) -> bytes:
    return event("contentBlockDelta", contentBlockIndex=index, delta=members)


def read(*frames: bytes) -> list[StreamEvent]:
    decoder = CONVERSE.stream_decoder()
    events = [each for frame in frames for each in decoder.feed(frame)]
    events += decoder.close()
    check_grammar(events)
    return events


START = event("messageStart", role="assistant")
STOP = event("messageStop", stopReason="end_turn")
USAGE = event("metadata", usage={"inputTokens": 3, "outputTokens": 2, "totalTokens": 5})


def test_an_answer_ends_when_it_is_stopped_and_counted() -> None:
    decoder = CONVERSE.stream_decoder()

    assert decoder.feed(START + delta(text="Hi") + STOP) == [
        Started(),
        Text("Hi"),
        Finished(FinishReason.STOP, raw="end_turn"),
    ]
    assert decoder.feed(USAGE) == [Usage(3, 2), Ended()]
    assert decoder.feed(START) == []
    assert decoder.close() == []
    assert decoder.pending_bytes == 0


def test_an_answer_that_was_stopped_is_whole_without_its_counts() -> None:
    assert read(START, STOP)[-1] == Ended()
    assert read(START, STOP, USAGE[:9])[-1] == Ended()


def test_an_answer_that_was_not_stopped_broke_off() -> None:
    assert read(START, delta(text="Hi"), USAGE)[-1] == Failed(
        Fault(FaultKind.TRUNCATED, "upstream", "upstream's answer broke off")
    )
    assert isinstance(read()[-1], Failed)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", FinishReason.STOP),
        ("stop_sequence", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("guardrail_intervened", FinishReason.CONTENT_FILTER),
        ("content_filtered", FinishReason.CONTENT_FILTER),
        ("bored", FinishReason.STOP),
    ],
)
def test_why_an_answer_stopped(word: str, reason: FinishReason) -> None:
    stopped = event("messageStop", stopReason=word)

    assert read(START, stopped)[1:] == [Finished(reason, raw=word), Ended()]


@pytest.mark.parametrize("word", ["malformed_model_output", "malformed_tool_use"])
def test_a_malformed_answer_is_a_failure(word: str) -> None:
    last = read(START, event("messageStop", stopReason=word), USAGE)[-1]

    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.type) == (FaultKind.UPSTREAM, word)


def test_calls_are_counted_from_zero_whatever_their_block_is() -> None:
    def opened(index: int, name: str) -> bytes:
        use = {"toolUse": {"toolUseId": f"id-{name}", "name": name}}
        return event("contentBlockStart", contentBlockIndex=index, start=use)

    assert read(
        START,
        delta(text="a"),
        opened(1, "f"),
        opened(3, "g"),
        delta(3, toolUse={"input": '{"y"'}),
        delta(1, toolUse={"input": ""}),
        delta(3, toolUse={"input": ":1}"}),
        event("contentBlockStop", contentBlockIndex=1),
        event("contentBlockStop", contentBlockIndex=3),
        STOP,
    )[2:] == [
        ToolCall(0, "id-f", "f"),
        ToolCall(1, "id-g", "g"),
        ToolArguments(1, '{"y"'),
        ToolArguments(1, ":1}"),
        ToolArguments(0, "{}"),
        Finished(FinishReason.TOOL_CALLS, raw="end_turn"),
        Ended(),
    ]


def test_arguments_of_no_call_are_not_the_format() -> None:
    last = read(START, delta(toolUse={"input": "{}"}), STOP)[-1]

    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.PROTOCOL


def test_thoughts_with_their_signature_and_those_that_nobody_may_read() -> None:
    assert read(
        START,
        delta(reasoningContent={"text": "hm"}),
        delta(reasoningContent={"signature": "c2ln"}),
        delta(1, reasoningContent={"redactedContent": "eA=="}),
        delta(2, reasoningContent={"somethingNew": 1}),
        STOP,
    )[1:-2] == [Thinking("hm"), Thinking("", signature="c2ln"), RedactedThinking("eA==")]


def test_what_nobody_knows_yet_is_passed_over() -> None:
    assert read(
        START,
        event("brandNew", delta="x", usage=[]),
        encode_message(b"x", {":message-type": "brand-new"}),
        encode_message(b"x", {}),
        delta(citation={"title": "a"}),
        event("contentBlockStart", contentBlockIndex=0, start={"image": {"format": "png"}}),
        STOP,
        delta(text="late"),
    ) == [Started(), Finished(FinishReason.STOP, raw="end_turn"), Ended()]


def test_counts_take_in_the_cache() -> None:
    usage = {
        "inputTokens": 1,
        "outputTokens": 2,
        "cacheReadInputTokens": 10,
        "cacheWriteInputTokens": 0,
    }

    assert read(START, event("metadata", usage=usage), STOP)[1] == Usage(
        prompt=11, completion=2, cached=10, cache_write=0
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("throttlingException", FaultKind.RATE_LIMITED),
        ("validationException", FaultKind.INVALID_REQUEST),
        ("internalServerException", FaultKind.UPSTREAM),
        ("modelStreamErrorException", FaultKind.UPSTREAM),
        ("serviceUnavailableException", FaultKind.OVERLOADED),
        ("modelTimeoutException", FaultKind.TIMEOUT),
        ("brandNewException", FaultKind.UPSTREAM),
    ],
)
def test_an_exception_keeps_its_words_whatever_its_type(name: str, kind: FaultKind) -> None:
    headers = {":message-type": "exception", ":exception-type": name}
    frame = encode_message(b'{"message":"no luck"}', headers)

    assert read(START, frame, STOP) == [
        Started(),
        Failed(Fault(kind, "upstream", "no luck", type=name)),
    ]


def test_an_exception_without_json_keeps_what_it_has() -> None:
    headers = {":message-type": "exception", ":exception-type": "throttlingException"}

    texts = []
    for payload in (b"slow down", b"", b"{}"):
        last = read(encode_message(payload, headers))[-1]
        assert isinstance(last, Failed)
        assert last.fault.kind is FaultKind.RATE_LIMITED
        texts.append(last.fault.message)

    assert texts == ["slow down", *["upstream reported an error without a message"] * 2]


def test_an_error_of_the_transport_keeps_its_words() -> None:
    headers = {":message-type": "error", ":error-code": "Throttling", ":error-message": "slow"}

    assert read(encode_message(b"", headers)) == [
        Failed(Fault(FaultKind.RATE_LIMITED, "upstream", "slow", type="Throttling"))
    ]


def test_bytes_that_are_no_event_stream_are_a_failure_told_once() -> None:
    decoder = CONVERSE.stream_decoder()

    (failed,) = decoder.feed(b'{"message":"an error as JSON"}')

    assert failed == Failed(
        Fault(
            FaultKind.PROTOCOL,
            "upstream",
            "upstream's event stream is broken: the lengths of a message do not fit their checksum",
        )
    )
    assert decoder.feed(START) == decoder.close() == []


def test_an_event_over_the_limit_is_a_failure_after_what_came_before() -> None:
    decoder = CONVERSE.stream_decoder(max_event_bytes=1000)

    events = decoder.feed(START + delta(text="a") + delta(text="b" * 1000))

    assert events[:2] == [Started(), Text("a")]
    assert isinstance(events[2], Failed)


def test_an_event_that_is_not_what_its_name_says_is_a_failure() -> None:
    for payload in (b"", b"[]", b'{"delta":{"text":5}}', b"[" * 5000):
        last = read(encode_message(payload, {":message-type": "event", ":event-type": "metadata"}))
        assert isinstance(last[-1], Failed)


def test_more_calls_than_any_answer_has_are_a_failure() -> None:
    use = {"toolUse": {"toolUseId": "a", "name": "f"}}
    opened = event("contentBlockStart", contentBlockIndex=0, start=use)

    last = read(opened * 1025)[-1]

    assert isinstance(last, Failed)


names = st.sampled_from(
    [
        *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop"),
        *("messageStop", "metadata", "new"),
    ]
)
odd = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("contentBlockIndex", "delta", "start", "toolUse", "input", "text", "name"),
                    *("stopReason", "usage", "inputTokens", "reasoningContent", "signature"),
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@given(st.lists(st.tuples(names, odd), max_size=8))
def test_any_events_keep_to_the_grammar(sent: list[tuple[str, object]]) -> None:
    frames = [
        encode_message(
            msgspec.json.encode(payload), {":message-type": "event", ":event-type": name}
        )
        for name, payload in sent
    ]

    read(*frames)


# Whole answers


def body_of(*content: object, stop: str = "end_turn", **members: object) -> bytes:
    message = {"role": "assistant", "content": content}
    answer = {"output": {"message": message}, "stopReason": stop, "metrics": {"latencyMs": 1}}
    return msgspec.json.encode({**answer, **members})


def test_a_whole_answer() -> None:
    body = body_of(
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "eA=="}},
        {"text": "So."},
        {"brandNew": {}},
        {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
        {"toolUse": {"toolUseId": "b", "name": "g", "input": {}}},
        stop="tool_use",
        usage={"inputTokens": 3, "outputTokens": 2, "cacheReadInputTokens": 4},
    )

    events = CONVERSE.decode_body(body)

    check_grammar(events)
    assert CONVERSE.judge_body(body) == events
    assert events == [
        Started(),
        Thinking("hm", signature="c2ln"),
        RedactedThinking("eA=="),
        Text("So."),
        ToolCall(0, "a", "f"),
        ToolArguments(0, '{"x":1}'),
        ToolCall(1, "b", "g"),
        ToolArguments(1, "{}"),
        Usage(7, 2, cached=4),
        Finished(FinishReason.TOOL_CALLS, raw="tool_use"),
        Ended(),
    ]


def test_a_whole_answer_that_is_malformed_or_none_is_a_failure() -> None:
    for body in (body_of(stop="malformed_tool_use"), b"", b"<html>", b"{}", b'{"message":"no"}'):
        events = CONVERSE.decode_body(body)

        check_grammar(events)
        assert isinstance(events[-1], Failed)


@given(st.binary(max_size=50) | odd.map(msgspec.json.encode))
def test_any_body_is_an_answer_or_a_failure(body: bytes) -> None:
    check_grammar(CONVERSE.decode_body(body))


# Refusals


def refused(status: int, kind: bytes, body: bytes) -> Fault:
    return refusal_of(CONVERSE, status, {b"x-amzn-errortype": kind} if kind else {}, body)


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "ValidationException", FaultKind.INVALID_REQUEST),
        (400, "ServiceQuotaExceededException", FaultKind.QUOTA_EXCEEDED),
        (403, "AccessDeniedException", FaultKind.FORBIDDEN),
        (404, "ResourceNotFoundException", FaultKind.UNKNOWN_MODEL),
        (408, "ModelTimeoutException", FaultKind.TIMEOUT),
        (424, "ModelErrorException", FaultKind.UPSTREAM),
        (424, "ModelStreamErrorException", FaultKind.UPSTREAM),
        (429, "ThrottlingException", FaultKind.RATE_LIMITED),
        (429, "ModelNotReadyException", FaultKind.OVERLOADED),
        (500, "InternalServerException", FaultKind.UPSTREAM),
        (503, "ServiceUnavailableException", FaultKind.OVERLOADED),
        (403, "UnrecognizedClientException", FaultKind.UNAUTHENTICATED),
        (403, "ExpiredTokenException", FaultKind.UNAUTHENTICATED),
        (403, "InvalidSignatureException", FaultKind.UNAUTHENTICATED),
        (403, "MissingAuthenticationTokenException", FaultKind.UNAUTHENTICATED),
        (418, "BrandNewException", FaultKind.INVALID_REQUEST),
    ],
)
def test_a_refusal_is_what_its_header_says(status: int, name: str, kind: FaultKind) -> None:
    fault = refused(status, b"%b:http://internal.amazon.com/x/" % name.encode(), b'{"message":"m"}')

    assert fault == Fault(kind, "upstream", "m", status=status, type=name)


def test_a_refusal_without_the_header_is_what_its_status_says() -> None:
    fault = refused(429, b"", b'{"message":"m"}')

    assert fault == Fault(FaultKind.RATE_LIMITED, "upstream", "m", status=429)
    assert fault == CONVERSE.decode_error(429, b'{"message":"m"}')


def test_a_refusal_without_words_has_its_type_all_the_same() -> None:
    fault = refused(403, b"AccessDeniedException", b"")

    assert (fault.message, fault.type) == (
        "upstream answered with status 403",
        "AccessDeniedException",
    )


def test_too_long_a_prompt_is_seen_in_the_words() -> None:
    fault = refused(400, b"ValidationException", b'{"message":"Input is too long for the model."}')

    assert fault.kind is FaultKind.CONTEXT_LENGTH


def test_what_was_signed_is_not_quoted() -> None:
    message = (
        "The request signature we calculated does not match the signature you provided."
        "\n\nThe Canonical String for this request should have been\n'POST\n/model/x\n\n"
        "x-amz-security-token:IQoJb3JpZ2luX2VjE'\n\nThe String-to-Sign should have been\n'AWS4'"
    )

    fault = refused(403, b"InvalidSignatureException", msgspec.json.encode({"message": message}))

    assert fault.message == (
        "The request signature we calculated does not match the signature you provided."
    )


@given(st.integers(400, 599), st.binary(max_size=30), st.binary(max_size=60))
def test_any_refusal_is_a_fault(status: int, kind: bytes, body: bytes) -> None:
    try:
        fault = refused(status, kind, body)
    except ParseError:
        pytest.fail("a refusal has to be told")

    assert fault.message
    assert fault.status is not None
