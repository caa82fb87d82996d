"""InvokeModel for Anthropic's models: their dialect within AWS's frames."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.chat import ChatRequest, CompletionRequest, Message, Reasoning, Sampling, TextPart
from parsers.dialects.base import Untranslatable, refusal_of
from parsers.dialects.bedrock import InvokeAnthropic
from parsers.dialects.policy import FIELDS
from parsers.events import (
    Ended,
    Failed,
    FaultKind,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Text,
    Usage,
)
from parsers.eventstream import encode_message
from tests.fixture_streams import check_grammar

INVOKE = InvokeAnthropic("anthropic.claude-sonnet-4-5-v1:0")
HI = (Message("user", (TextPart("hi"),)),)


def chunk(event: object, name: str = "chunk") -> bytes:
    raw = event if isinstance(event, bytes) else msgspec.json.encode(event)
    payload = msgspec.json.encode({"bytes": base64.b64encode(raw).decode(), "p": "abc"})
    return encode_message(payload, {":message-type": "event", ":event-type": name})


def read(*frames: bytes) -> list[StreamEvent]:
    decoder = INVOKE.stream_decoder()
    events = [each for frame in frames for each in decoder.feed(frame)] + decoder.close()
    check_grammar(events)
    return events


START = chunk({"type": "message_start", "message": {"id": "msg_1", "model": "claude"}})
HELLO = chunk(
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}
)
FINISH = chunk(
    {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn"},
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
)
STOP = chunk({"type": "message_stop", "amazon-bedrock-invocationMetrics": {"inputTokenCount": 3}})


def test_a_request_is_that_of_messages_but_for_what_the_path_says() -> None:
    sampling = Sampling(temperature=0.5, max_tokens=500)
    request = ChatRequest("m", HI, stream=True, sampling=sampling)

    assert msgspec.json.decode(INVOKE.encode_request(request, "arn:aws:x")) == {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 500,
    }
    assert INVOKE.spoken <= set(FIELDS)


def test_raw_text_is_one_message() -> None:
    request = CompletionRequest("m", "hi", sampling=Sampling(max_tokens=5))

    assert b'"messages":[{"role":"user","content":"hi"}]' in INVOKE.encode_request(request, "m")
    with pytest.raises(Untranslatable):
        INVOKE.encode_request(CompletionRequest("m", "a", suffix="b"), "m")


def test_what_a_model_can_is_read_from_its_name_and_not_from_its_arn() -> None:
    request = ChatRequest("m", HI, reasoning=Reasoning("low"))

    found = msgspec.json.decode(INVOKE.encode_request(request, "arn:aws:x"))

    assert found["thinking"] == {"type": "enabled", "budget_tokens": 2048}


def test_a_stream() -> None:
    assert read(START, HELLO, FINISH, STOP, b"ignored") == [
        Started("msg_1", "claude"),
        Text("Hi"),
        Finished(FinishReason.STOP, raw="end_turn"),
        Usage(3, 2),
        Ended(),
    ]


def test_a_stream_that_has_said_why_it_ends_is_whole_without_its_mark() -> None:
    assert read(START, HELLO, FINISH)[-1] == Ended(marked=False)


def test_a_stream_that_has_not_said_why_it_ends_broke_off() -> None:
    for frames in ((), (START,), (START, HELLO), (START, HELLO, FINISH[:-1])):
        last = read(*frames)[-1]
        assert isinstance(last, Failed)
        assert last.fault.kind is FaultKind.TRUNCATED


def test_events_that_are_no_chunks_are_passed_over() -> None:
    assert read(START, chunk(b"", "brandNew"), FINISH, STOP)[-1] == Ended()


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"bytes":"?"}', b'{"bytes":"e30"}', b'{"bytes":5}']
)
def test_a_chunk_without_an_event_is_not_the_format(payload: bytes) -> None:
    frame = encode_message(payload, {":message-type": "event", ":event-type": "chunk"})

    last = read(START, frame, STOP)[-1]

    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.PROTOCOL


def test_an_error_within_a_chunk_is_a_failure() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    last = read(START, chunk(error), STOP)[-1]

    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.message) == (FaultKind.OVERLOADED, "Overloaded")


def test_an_exception_between_the_chunks_is_a_failure() -> None:
    headers = {":message-type": "exception", ":exception-type": "modelTimeoutException"}

    last = read(START, encode_message(b'{"message":"slow"}', headers))[-1]

    assert isinstance(last, Failed)
    assert (last.fault.kind, last.fault.message) == (FaultKind.TIMEOUT, "slow")


def test_a_whole_answer_and_a_refusal() -> None:
    body = (
        b'{"id":"msg_1","model":"claude","content":[{"type":"text","text":"Hi"}],'
        b'"stop_reason":"max_tokens","usage":{"input_tokens":3,"output_tokens":2}}'
    )
    events = INVOKE.decode_body(body)

    check_grammar(events)
    assert Text("Hi") in events
    assert INVOKE.judge_body(body)[-1] == Ended()
    refused = refusal_of(INVOKE, 400, {b"x-amzn-errortype": b"ValidationException"}, b"{}")
    assert (refused.kind, refused.type) == (FaultKind.INVALID_REQUEST, "ValidationException")
    assert INVOKE.decode_error(403, b"").kind is FaultKind.FORBIDDEN


@given(st.lists(st.binary(max_size=40).map(chunk) | st.just(HELLO), max_size=5))
def test_any_chunks_keep_to_the_grammar(frames: list[bytes]) -> None:
    read(*frames)
