"""The native protocols of Ollama, SGLang and llama.cpp: asked, and read."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    ImagePart,
    Message,
    OutputSchema,
    Reasoning,
    RedactedThinkingPart,
    Request,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolUse,
)
from parsers.dialects import policy
from parsers.dialects.base import Untranslatable, UpstreamDialect
from parsers.dialects.llamacpp import LLAMA_CPP
from parsers.dialects.ollama import OLLAMA
from parsers.dialects.sglang import SGLANG
from parsers.errors import FrameTooLarge
from parsers.events import (
    Ended,
    Failed,
    FaultKind,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

R = FinishReason
SAMPLING = Sampling(
    max_tokens=5,
    temperature=0.0,
    top_p=0.5,
    top_k=3,
    typical_p=0.25,
    stop=("a",),
    seed=7,
    presence_penalty=1.0,
    frequency_penalty=0.0,
    repetition_penalty=1.5,
)
EVERY = pytest.mark.parametrize("dialect", [OLLAMA, SGLANG, LLAMA_CPP])


def written(dialect: UpstreamDialect, request: Request) -> Any:
    return msgspec.json.decode(dialect.encode_request(request, "up"))


def streamed(dialect: UpstreamDialect, body: bytes) -> list[StreamEvent]:
    decoder = dialect.stream_decoder()
    return decoder.feed(body) + decoder.close()


def kind_of(events: list[StreamEvent]) -> FaultKind:
    last = events[-1]
    assert isinstance(last, Failed)
    return last.fault.kind


@EVERY
def test_all_that_is_spoken_is_written(dialect: UpstreamDialect) -> None:
    request = CompletionRequest("m", "p", stream=True, sampling=SAMPLING)

    settled, lost = policy.settle(request, dialect.spoken, dialect.name)
    body = dialect.encode_request(settled, "up")

    said = {"top_k", "seed", "typical_p", "repetition_penalty"} - set(lost)
    words = {"repetition_penalty": "repe"}
    assert all(words.get(name, name).encode() in body for name in said)
    assert b'"stream":true' in body


def test_ollama_is_asked_for_raw_text_without_its_template() -> None:
    request = CompletionRequest("m", "def f(", sampling=SAMPLING)

    assert written(OLLAMA, request) == {
        "model": "up",
        "stream": False,
        "prompt": "def f(",
        "raw": True,
        "options": {
            "num_predict": 5,
            "temperature": 0.0,
            "top_p": 0.5,
            "top_k": 3,
            "typical_p": 0.25,
            "seed": 7,
            "stop": ["a"],
            "presence_penalty": 1.0,
            "frequency_penalty": 0.0,
            "repeat_penalty": 1.5,
        },
    }
    gap = written(OLLAMA, CompletionRequest("m", "def f(", suffix="return x"))
    assert gap == {"model": "up", "stream": False, "prompt": "def f(", "suffix": "return x"}


def test_ollama_is_asked_to_chat() -> None:
    request = ChatRequest(
        "m",
        (
            Message("developer", (TextPart("be brief"),)),
            Message("user", (TextPart("what"), ImagePart("data:image/png;base64,AA=="))),
            Message(
                "assistant",
                (ThinkingPart("hm", "s"), RedactedThinkingPart("r"), TextPart("so")),
                tool_calls=(ToolUse("c", "f", '{"a":1.0}'), ToolUse("d", "g", "")),
            ),
            Message("tool", (TextPart("42"),), tool_call_id="c"),
            Message("tool", (TextPart("43"),), tool_call_id="unknown"),
        ),
        stream=True,
        tools=(Tool("f", "d", msgspec.Raw(b'{"type":"object"}')), Tool("g")),
        output=OutputSchema(msgspec.Raw(b'{"a":1}')),
        reasoning=Reasoning("low"),
    )

    assert written(OLLAMA, request) == {
        "model": "up",
        "stream": True,
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "what", "images": ["AA=="]},
            {
                "role": "assistant",
                "content": "so",
                "thinking": "hm",
                "tool_calls": [
                    {"id": "c", "function": {"name": "f", "arguments": {"a": 1.0}}},
                    {"id": "d", "function": {"name": "g", "arguments": {}}},
                ],
            },
            {"role": "tool", "content": "42", "tool_name": "f", "tool_call_id": "c"},
            {"role": "tool", "content": "43", "tool_call_id": "unknown"},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "d", "parameters": {"type": "object"}},
            },
            {"type": "function", "function": {"name": "g"}},
        ],
        "format": {"a": 1},
        "think": "low",
    }


@pytest.mark.parametrize("arguments", ['{"a', "[1]", "null", "7"])
def test_arguments_that_are_no_object_are_kept_as_text_within_one(arguments: str) -> None:
    message = Message("assistant", tool_calls=(ToolUse("c", "f", arguments),))
    (sent,) = written(OLLAMA, ChatRequest("m", (message,)))["messages"]

    assert sent["tool_calls"][0]["function"]["arguments"] == {"_raw": arguments}


@pytest.mark.parametrize("url", ["https://x/y.png", "data:image/png,AA", "x;base64,AA"])
def test_ollama_fetches_no_picture(url: str) -> None:
    message = Message("user", (ImagePart(url),))

    with pytest.raises(Untranslatable, match=r"messages\[0\].content: a picture by its URL"):
        OLLAMA.encode_request(ChatRequest("m", (message,)), "up")


@pytest.mark.parametrize(
    ("reasoning", "think"),
    [
        (Reasoning("none"), False),
        (Reasoning("minimal"), "low"),
        (Reasoning("high"), "high"),
        (Reasoning(budget=0), False),
        (Reasoning(budget=9), True),
        (Reasoning(), None),
        (None, None),
    ],
)
def test_how_much_ollama_is_to_think(reasoning: Reasoning | None, think: object) -> None:
    body = written(OLLAMA, ChatRequest("m", (), reasoning=reasoning))

    assert body.get("think") == think


def test_any_object_will_do() -> None:
    assert written(OLLAMA, ChatRequest("m", (), output=OutputSchema()))["format"] == "json"


def test_sglang_is_asked_for_raw_text() -> None:
    sampling = msgspec.structs.replace(SAMPLING, choices=2)

    assert written(SGLANG, CompletionRequest("m", "p", sampling=sampling)) == {
        "text": "p",
        "sampling_params": {
            "max_new_tokens": 5,
            "temperature": 0.0,
            "top_p": 0.5,
            "top_k": 3,
            "stop": ["a"],
            "n": 2,
            "presence_penalty": 1.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.5,
        },
    }
    assert written(SGLANG, CompletionRequest("m", "p")) == {"text": "p"}


def test_llama_cpp_is_asked_for_raw_text() -> None:
    assert written(LLAMA_CPP, CompletionRequest("m", "p", sampling=Sampling(max_tokens=5))) == {
        "prompt": "p",
        "n_predict": 5,
    }


@pytest.mark.parametrize("dialect", [SGLANG, LLAMA_CPP])
def test_a_conversation_is_no_raw_text(dialect: UpstreamDialect) -> None:
    with pytest.raises(Untranslatable, match="messages"):
        dialect.encode_request(ChatRequest("m", ()), "up")


# Ollama's answers


def line(members: bytes) -> bytes:
    return b'{"model":"m",%b}\n' % members


LAST = line(b'"message":{"content":""},"done":true,"done_reason":"stop"')


def test_ollama_says_raw_text_in_another_member() -> None:
    body = line(b'"response":"a"') + line(b'"response":"","done":true,"eval_count":1')

    assert streamed(OLLAMA, body) == [
        Started(model="m"),
        Text("a"),
        Finished(R.STOP),
        Usage(0, 1),
        Ended(),
    ]


def test_a_whole_answer_of_ollama_is_one_line() -> None:
    call = b'{"function":{"name":"f","arguments":{"a":1}}}'
    message = b'"message":{"content":"b","thinking":"t","tool_calls":[%b]}' % call
    body = line(message + b',"done":true,"done_reason":"stop"')

    assert OLLAMA.judge_body(body) == [
        Started(model="m"),
        Thinking("t"),
        Text("b"),
        ToolCall(0, None, "f"),
        ToolArguments(0, '{"a":1}'),
        Finished(R.TOOL_CALLS, raw="stop"),
        Ended(),
    ]


@pytest.mark.parametrize(
    ("word", "reason"),
    [("length", R.LENGTH), ("load", R.STOP), ("unload", R.STOP), ("new", R.STOP)],
)
def test_ollamas_own_word_is_kept(word: str, reason: FinishReason) -> None:
    body = line(b'"done":true,"done_reason":"%b"' % word.encode())

    assert Finished(reason, raw=word) in streamed(OLLAMA, body)


def test_lines_may_end_in_crlf_and_empty_ones_say_nothing() -> None:
    body = line(b'"message":{"content":"a"}') + b"\n" + LAST

    assert streamed(OLLAMA, body.replace(b"\n", b"\r\n")) == streamed(OLLAMA, body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", FaultKind.TRUNCATED),
        (line(b'"message":{"content":"a"}'), FaultKind.TRUNCATED),
        (LAST[:-9], FaultKind.TRUNCATED),
        (b'{"error":"no"}', FaultKind.UPSTREAM),
        (b"<html>\n", FaultKind.PROTOCOL),
        (b"{}\n", FaultKind.PROTOCOL),
        (b'{"message":{"content":7}}\n', FaultKind.PROTOCOL),
    ],
)
def test_what_is_no_whole_answer_of_ollama_is_a_fault(body: bytes, kind: FaultKind) -> None:
    assert kind_of(streamed(OLLAMA, body)) is kind


def test_nothing_is_heard_after_the_last_line() -> None:
    decoder = OLLAMA.stream_decoder()

    assert decoder.feed(LAST + LAST)[-1] == Ended()
    assert (decoder.feed(LAST), decoder.close(), decoder.pending_bytes) == ([], [], 0)


def test_a_line_over_the_limit_raises_with_the_events_before_it() -> None:
    decoder = OLLAMA.stream_decoder(60)
    assert decoder.feed(b'{"response"') == []
    assert decoder.pending_bytes == 11

    with pytest.raises(FrameTooLarge) as raised:
        decoder.feed(b':"a"}\n' + b"x" * 61)

    assert raised.value.events == [Started(), Text("a")]


def test_no_answer_has_so_many_calls() -> None:
    call = b'{"function":{"name":"f"}},'
    body = line(b'"message":{"tool_calls":[%b]}' % (call * 1025)[:-1])

    assert kind_of(streamed(OLLAMA, body)) is FaultKind.PROTOCOL


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"<html>", b'{"message":{"content":"a"}}'])
def test_a_body_that_is_no_answer_of_ollama_is_a_fault(body: bytes) -> None:
    assert kind_of(OLLAMA.decode_body(body)) is FaultKind.PROTOCOL


# SGLang's answers


def event(members: bytes, meta: bytes = b"") -> bytes:
    return b'data: {%b,"meta_info":{"id":"r",%b}}\n\n' % (members, meta or b'"finish_reason":null')


DONE = b"data: [DONE]\n\n"
STOPPED = b'"finish_reason":{"type":"stop","matched":%b}'


def test_sglang_may_write_only_what_is_new() -> None:
    body = (
        event(b'"text":" the","output_ids":[1]', b'"completion_tokens":1')
        + event(b'"text":" the","output_ids":[1]', b'"completion_tokens":2')
        + event(b'"text":"","output_ids":[]', STOPPED % b'"\\n"')
        + DONE
    )

    assert streamed(SGLANG, body) == [
        Started("r"),
        Text(" the"),
        Text(" the"),
        Finished(R.STOP, raw="stop", stop="\n"),
        Ended(),
    ]


def test_several_answers_of_sglang_are_told_apart() -> None:
    counts = b'"prompt_tokens":4,"completion_tokens":%d'
    body = (
        event(b'"index":0,"text":"a"')
        + event(b'"index":1,"text":"x"')
        + event(b'"index":0,"text":"ab"', STOPPED % b"7" + b"," + counts % 2)
        + event(b'"index":0,"text":"abc"')
        + event(b'"index":1,"text":"xy"', STOPPED % b"null" + b"," + counts % 3)
        + DONE
    )

    assert streamed(SGLANG, body) == [
        Started("r"),
        Text("a"),
        Text("x", 1),
        Text("b"),
        Finished(R.STOP, raw="stop"),
        Usage(4, 2),
        Text("y", 1),
        Finished(R.STOP, 1, "stop"),
        Usage(4, 5),
        Ended(),
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (event(b'"text":"a"'), FaultKind.TRUNCATED),
        (b'data: {"error":{"message":"no","code":503}}\n\n' + DONE, FaultKind.OVERLOADED),
        (b"data: {}\n\n", FaultKind.TRUNCATED),
        (b"data: 7\n\n", FaultKind.PROTOCOL),
        (
            event(
                b'"text":""',
                b'"finish_reason":{"type":"abort","message":"too long","status_code":400}',
            ),
            FaultKind.INVALID_REQUEST,
        ),
        (
            b"".join(event(b'"index":%d,"text":"a"' % at) for at in range(129)),
            FaultKind.PROTOCOL,
        ),
    ],
)
def test_what_is_no_whole_answer_of_sglang_is_a_fault(body: bytes, kind: FaultKind) -> None:
    assert kind_of(streamed(SGLANG, body)) is kind


def test_an_end_mark_without_a_finish_proves_nothing() -> None:
    assert streamed(SGLANG, DONE) == [Ended(proven=False)]


def test_a_whole_answer_of_sglang_is_an_object_or_an_array() -> None:
    answer = b'{"text":"a","meta_info":{"id":"r",%b}}' % (STOPPED % b"7")

    assert SGLANG.decode_body(answer) == [
        Started("r"),
        Text("a"),
        Finished(R.STOP, raw="stop"),
        Ended(),
    ]
    assert [
        e.choice for e in SGLANG.decode_body(b"[%b,%b]" % (answer, answer)) if type(e) is Text
    ] == [
        0,
        1,
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b"[7]", b"{}", b'{"text":"a"}', b"<html>"])
def test_a_body_that_is_no_answer_of_sglang_is_a_fault(body: bytes) -> None:
    assert kind_of(SGLANG.decode_body(body)) is FaultKind.PROTOCOL


def test_a_whole_answer_of_sglang_may_be_an_abort() -> None:
    abort = b'{"type":"abort","message":"no","status_code":500}'
    body = b'{"text":"","meta_info":{"finish_reason":%b}}' % abort

    assert kind_of(SGLANG.decode_body(body)) is FaultKind.UPSTREAM


# llama.cpp's answers


def test_a_whole_answer_of_llama_cpp_is_its_last_event() -> None:
    body = (
        b'{"content":"a","stop":true,"stop_type":"word","stopping_word":"x","tokens_evaluated":2}'
    )

    assert LLAMA_CPP.decode_body(body) == [
        Text("a"),
        Finished(R.STOP, raw="word", stop="x"),
        Ended(),
    ]
    assert LLAMA_CPP.decode_body(b'{"content":"","stop":true}') == [Ended()]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'data: {"content":"a","stop":false}\n\n', FaultKind.TRUNCATED),
        (b'data: {"error":{"code":500,"message":"no"}}\n\n', FaultKind.UPSTREAM),
        (b"data: {}\n\n", FaultKind.TRUNCATED),
        (b"data: {", FaultKind.TRUNCATED),
        (b"data: {\n\n", FaultKind.PROTOCOL),
    ],
)
def test_what_is_no_whole_answer_of_llama_cpp_is_a_fault(body: bytes, kind: FaultKind) -> None:
    assert kind_of(streamed(LLAMA_CPP, body)) is kind


@EVERY
def test_a_failed_call_is_told_by_status_and_body(dialect: UpstreamDialect) -> None:
    fault = dialect.decode_error(404, b'{"error":"model not found"}')

    assert (fault.kind, fault.message) == (FaultKind.UNKNOWN_MODEL, "model not found")
    members: dict[str, msgspec.Raw] = {}
    dialect.amend(members)
    assert members == {}
