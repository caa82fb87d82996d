"""Sourcegraph's completions API, client side: what Cody sends, and exactly what it is sent."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    ImagePart,
    Message,
    Operation,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolUse,
)
from parsers.dialects.base import Identity, RequestHead
from parsers.dialects.sourcegraph import (
    NEWEST_VERSION,
    SourcegraphDialect,
    dialect_for,
    instructed,
    rewritten,
    without_open_turn,
)
from parsers.errors import BadPayload
from parsers.events import (
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    FinishReason,
    Refusal,
    Started,
    StreamEvent,
    Text,
    Thinking,
    ToolArguments,
    ToolCall,
    Usage,
)

LEGACY = dialect_for(Operation.CHAT, None)
CODE = dialect_for(Operation.COMPLETION, None)
IDENTITY = Identity("abc", 1, "lab::v1::model")
DONE = b"event: done\ndata: {}\n\n"


def chat(version: int | None = 1) -> SourcegraphDialect:
    return dialect_for(Operation.CHAT, version)


def encoded(version: int | None, *events: StreamEvent, name: str | None = None) -> bytes:
    """The whole stream of these events; `name` is what the model may be called."""
    dialect = msgspec.structs.replace(chat(version), upstream_name=name)
    encode = dialect.stream_encoder(IDENTITY, include_usage=True).encode
    return b"".join(encode(event) for event in events)


def decoded(*messages: dict[str, Any], **members: Any) -> ChatRequest:
    """The chat request with these messages."""
    request = chat().decode_request(msgspec.json.encode({"messages": messages, **members}))
    assert isinstance(request, ChatRequest)
    return request


def completion(data: bytes) -> bytes:
    return b"event: completion\ndata: %b\n\n" % data


# Streams

HELLO = (Started(), Text("Hel"), Text("lo\n"), Finished(FinishReason.STOP), Usage(3, 2), Ended())


@pytest.mark.parametrize("version", [None, 1])
def test_the_oldest_forms_repeat_all_text_in_every_event(version: int | None) -> None:
    assert encoded(version, *HELLO) == (
        completion(b'{"completion":"Hel","stopReason":""}')
        + completion(b'{"completion":"Hello\\n","stopReason":""}')
        + completion(b'{"completion":"Hello\\n","stopReason":"stop"}')
        + DONE
    )


@pytest.mark.parametrize("version", [2, 3, 4])
def test_from_2_on_events_have_the_new_text_alone(version: int) -> None:
    assert encoded(version, *HELLO) == (
        completion(b'{"deltaText":"Hel"}')
        + completion(b'{"deltaText":"lo\\n"}')
        + completion(b'{"deltaText":"","stopReason":"stop"}')
        + DONE
    )


@pytest.mark.parametrize("version", [5, 6, 7, 8, NEWEST_VERSION])
def test_from_5_on_the_counts_are_told_before_the_end(version: int) -> None:
    usage = b'{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}'
    assert encoded(version, *HELLO, name="m") == (
        completion(b'{"deltaText":"Hel"}')
        + completion(b'{"deltaText":"lo\\n"}')
        + completion(b'{"deltaText":"","stopReason":"stop"}')
        + completion(b'{"deltaText":"","usage":%b,"modelref":"lab::v1::model","model":"m"}' % usage)
        + DONE
    )


def test_the_name_that_the_server_gives_the_model_is_told_unless_it_is_hidden() -> None:
    events = (Started(model="m-2026"), Text("a"), Usage(1, 1), Ended())

    told = encoded(5, *events, name="m")
    hidden = encoded(5, *events)

    assert b'"modelref":"lab::v1::model","model":"m-2026"}' in told
    assert b'"modelref":"lab::v1::model"}' in hidden
    assert b"m-2026" not in hidden


def test_a_whole_answer_names_its_model_beside_the_counts() -> None:
    events = (Started(model="m-2026"), Text("a"), Ended())
    named = msgspec.structs.replace(chat(5), upstream_name="m")

    told = msgspec.json.decode(named.encode_body((*events, Usage(1, 1)), IDENTITY))
    hidden = msgspec.json.decode(chat(5).encode_body((*events, Usage(1, 1)), IDENTITY))
    uncounted = msgspec.json.decode(named.encode_body(events, IDENTITY))

    assert (told["modelref"], told["model"]) == ("lab::v1::model", "m-2026")
    assert (hidden["modelref"], "model" in hidden) == ("lab::v1::model", False)
    assert uncounted == {"completion": "a", "stopReason": "stop_sequence"}


def test_only_the_last_counts_are_told_with_cached_tokens() -> None:
    stream = encoded(5, Usage(1, 1), Text("a"), Usage(3, 2, cached=1), Ended())

    assert stream.count(b"usage") == 1
    assert b'"total_tokens":5,"prompt_tokens_details":{"cached_tokens":1}' in stream


TOOLS = (
    Thinking("Hm"),
    Thinking("", signature="x"),
    ToolCall(0, "call_a", "grep"),
    ToolArguments(0, '{"q":'),
    ToolArguments(0, '"x"}'),
    ToolCall(1, None, "ls"),
    ToolArguments(1, "{}"),
    ToolArguments(0, " "),
    Finished(FinishReason.TOOL_CALLS),
    Ended(),
)


@pytest.mark.parametrize("version", [8, 9])
def test_from_8_on_thinking_and_calls_are_told(version: int) -> None:
    def call(data: bytes) -> bytes:
        return completion(b'{"deltaText":"","delta_tool_calls":[{"type":"function",%b}]}' % data)

    assert encoded(version, *TOOLS) == (
        completion(b'{"deltaText":"","delta_thinking":"Hm"}')
        + call(b'"id":"call_a","function":{"name":"grep","arguments":""}')
        + call(b'"function":{"name":"","arguments":"{\\"q\\":"}')
        + call(b'"function":{"name":"","arguments":"\\"x\\"}"}')
        + call(b'"id":"call_abc_0_1","function":{"name":"ls","arguments":""}')
        + call(b'"function":{"name":"","arguments":"{}"}')
        # clients add to the call that they read of last
        + call(b'"id":"call_a","function":{"name":"grep","arguments":" "}')
        + completion(b'{"deltaText":"","stopReason":"tool_calls"}')
        + DONE
    )


@pytest.mark.parametrize("version", [None, 1, 2, 5, 7])
def test_older_forms_have_no_word_for_thinking_and_calls(version: int | None) -> None:
    stream = encoded(version, *TOOLS)

    assert stream.count(b"event: completion") == 1
    assert b"delta_" not in stream


@pytest.mark.parametrize(
    ("version", "last"),
    [
        (None, b'{"completion":"Hi","stopReason":"stop_sequence"}'),
        (2, b'{"deltaText":"","stopReason":"stop_sequence"}'),
    ],
)
def test_an_end_without_a_reason_gets_one_so_that_the_text_is_not_taken_for_partial(
    version: int | None, last: bytes
) -> None:
    assert encoded(version, Text("Hi"), Ended()).endswith(completion(last) + DONE)


def test_calls_without_a_finish_reason_are_reason_enough() -> None:
    stream = encoded(8, ToolCall(0, "a", "ls"), Ended())

    assert stream.endswith(completion(b'{"deltaText":"","stopReason":"tool_calls"}') + DONE)


def test_a_refusal_is_text_and_other_choices_are_not_heard() -> None:
    others = (
        Text("x", choice=1),
        Refusal("x", choice=1),
        Thinking("x", choice=1),
        ToolCall(0, "x", "x", choice=1),
        ToolArguments(0, "x", choice=1),
        Finished(FinishReason.LENGTH, choice=1),
    )

    assert encoded(9, Refusal("No"), *others, Text(""), Finished(FinishReason.STOP), Ended()) == (
        completion(b'{"deltaText":"No"}')
        + completion(b'{"deltaText":"","stopReason":"stop"}')
        + DONE
    )


def test_every_frame_has_two_lines_whatever_the_text() -> None:
    odd = 'a\r\nb\n\nc\u2028\u0085 "q" \\ \x00 <|end|> & é \U0001f680'
    for version in (None, *range(1, 10)):
        stream = encoded(version, Text(odd), Finished(FinishReason.STOP), Ended())

        assert b"\r" not in stream
        assert all(frame.count(b"\n") == 1 for frame in stream.removesuffix(b"\n\n").split(b"\n\n"))
        data = msgspec.json.decode(stream.partition(b"data: ")[2].partition(b"\n\n")[0])
        assert odd in data.values()


def test_logprobs_accumulate() -> None:
    first = Text("a", logprobs=msgspec.Raw(b'{"tokens":["a"],"token_logprobs":[-1.50]}'))
    other = Text("b", logprobs=msgspec.Raw(b'{"content":[]}'))
    wrong = Text("c", logprobs=msgspec.Raw(b'{"tokens":5}'))
    last = Text("d", logprobs=msgspec.Raw(b'{"tokens":["d"],"token_logprobs":[null]}'))

    assert encoded(2, other, first, wrong, last) == (
        completion(b'{"deltaText":"b"}')
        + completion(b'{"deltaText":"a","logprobs":{"tokens":["a"],"token_logprobs":[-1.50]}}')
        + completion(b'{"deltaText":"c","logprobs":{"tokens":["a"],"token_logprobs":[-1.50]}}')
        + completion(
            b'{"deltaText":"d","logprobs":{"tokens":["a","d"],"token_logprobs":[-1.50,null]}}'
        )
    )
    assert b"-1.50" in chat(2).encode_body([first, last, Ended()], IDENTITY)


# Failures

EMPTY = Fault(FaultKind.INVALID_REQUEST, "upstream", "message content cannot be empty")


def test_a_failure_is_an_error_event_and_done_byte_for_byte() -> None:
    recorded = (
        b'event: error\ndata: {"error":"message content cannot be empty"}\n\n'
        b"event: done\ndata: {}\n\n"
    )

    assert LEGACY.error_frame(EMPTY, 400) == recorded
    assert encoded(1, Failed(EMPTY)) == recorded


def test_a_failure_in_a_body_is_a_line_of_text() -> None:
    assert LEGACY.encode_error(EMPTY, 400) == b"message content cannot be empty\n"
    assert LEGACY.error_content_type == "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(FaultKind.UNAUTHENTICATED, "client", "an API key is required"), b"Unauthorized\n"),
        (Fault(FaultKind.UNAUTHENTICATED, "upstream", "wrong key"), b"wrong key\n"),
        (Fault(FaultKind.TIMEOUT, "upstream", "slow"), b"context deadline exceeded: slow\n"),
        (Fault(FaultKind.TIMEOUT, "client", "slow"), b"slow\n"),
    ],
)
def test_keys_and_deadlines_are_told_in_the_words_that_clients_know(
    fault: Fault, text: bytes
) -> None:
    assert CODE.encode_error(fault, 0) == text


@pytest.mark.parametrize(
    ("origin", "status", "streaming", "wanted"),
    [
        ("client", 400, True, 400),
        ("client", 401, False, 401),
        ("upstream", 429, True, 429),
        ("upstream", 429, False, 429),
        ("upstream", 400, True, 200),
        ("upstream", 502, True, 200),
        ("proxy", 503, True, 200),
        ("upstream", 400, False, 503),
        ("upstream", 502, False, 503),
        ("upstream", 504, False, 504),
        ("proxy", 500, False, 500),
    ],
)
def test_an_upstreams_failure_is_an_event_or_one_of_three_statuses(
    origin: Any, status: int, streaming: bool, wanted: int
) -> None:
    fault = Fault(FaultKind.UPSTREAM, origin, "x")

    assert LEGACY.error_status(fault, status, streaming=streaming) == wanted


# Whole answers


def test_a_whole_answer_has_both_texts() -> None:
    assert chat(1).encode_body(HELLO, IDENTITY) == b'{"completion":"Hello\\n","stopReason":"stop"}'
    assert chat(1).encode_body([Ended()], IDENTITY) == (
        b'{"completion":"","stopReason":"stop_sequence"}'
    )


def test_a_whole_answer_of_a_newer_form_has_counts_thinking_and_calls() -> None:
    body = msgspec.json.decode(chat(8).encode_body((Refusal("No"), *TOOLS, Usage(1, 2)), IDENTITY))

    assert body == {
        "completion": "No",
        "stopReason": "tool_calls",
        "delta_thinking": "Hm",
        "delta_tool_calls": [
            {
                "type": "function",
                "id": "call_a",
                "function": {"name": "grep", "arguments": '{"q":"x"} '},
            },
            {
                "type": "function",
                "id": "call_abc_0_1",
                "function": {"name": "ls", "arguments": "{}"},
            },
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "modelref": "lab::v1::model",
    }
    old = msgspec.json.decode(chat(4).encode_body((*TOOLS, Usage(1, 2)), IDENTITY))
    assert old == {"completion": "", "stopReason": "tool_calls"}


# Requests


def test_a_recorded_chat_body() -> None:
    body = (
        b'{"maxTokensToSample":4000,"messages":[{"speaker":"system","text":"You are Cody."},'
        b'{"speaker":"human","text":"hi"}],"model":"anthropic::2023-06-01::claude-3-haiku",'
        b'"temperature":0,"topK":-1,"topP":-1}'
    )

    assert chat().peek(body) == RequestHead(
        model="anthropic::2023-06-01::claude-3-haiku", stream=True
    )
    assert chat().decode_request(body) == ChatRequest(
        model="anthropic::2023-06-01::claude-3-haiku",
        messages=(
            Message("system", (TextPart("You are Cody."),)),
            Message("user", (TextPart("hi"),)),
        ),
        sampling=Sampling(max_tokens=4000, temperature=0),
    )


def test_a_recorded_code_body() -> None:
    body = (
        b'{"maxTokensToSample":256,"messages":[{"speaker":"human","text":"def f("}],'
        b'"model":"fireworks/deepseek-coder-v2-lite-base","stopSequences":["\\n\\n","\\n\\r\\n"],'
        b'"stream":true,"temperature":0.2,"timeoutMs":7000,"topK":0}'
    )

    assert CODE.peek(body) == RequestHead(
        model="fireworks/deepseek-coder-v2-lite-base", stream=True
    )
    assert CODE.decode_request(body) == CompletionRequest(
        model="fireworks/deepseek-coder-v2-lite-base",
        prompt="def f(",
        stream=True,
        sampling=Sampling(max_tokens=256, temperature=0.2, stop=("\n\n", "\n\r\n")),
    )


def test_chat_streams_unless_told_not_to_and_code_the_other_way_round() -> None:
    assert chat().peek(b"{}") == RequestHead(stream=True)
    assert CODE.peek(b"{}") == RequestHead(stream=False)
    assert chat().peek(b'{"stream":false,"fast":true}') == RequestHead(stream=False, fast=True)
    assert chat().peek(b'{"model":null,"stream":null,"fast":null}') == RequestHead(stream=True)


@pytest.mark.parametrize("body", [b"bogus", b"", b'{"model":5}', b"[]", b'{"model":"a"'])
def test_what_is_no_request_is_told_in_the_exact_words(body: bytes) -> None:
    with pytest.raises(BadPayload, match=r"^could not decode request body$"):
        chat().peek(body)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"{}", "^found zero messages in prompt$"),
        (b'{"messages":[]}', "^found zero messages in prompt$"),
        (
            b'{"messages":[{"speaker":"robot"}]}',
            r"^could not decode request body: messages\[0\]\.speaker: not a valid value$",
        ),
        (b'{"messages":[{"text":"a"}]}', "^could not decode request body: .*speaker"),
        (
            b'{"messages":[{"speaker":"human","content":[{"type":"video"}]}]}',
            "^could not decode request body: ",
        ),
        (b'{"messages":5}', "^could not decode request body: messages: expected"),
    ],
)
def test_a_body_of_another_shape_is_refused_with_the_place(body: bytes, text: str) -> None:
    for dialect in (chat(), CODE):
        with pytest.raises(BadPayload, match=text):
            dialect.decode_request(body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
MEMBERS = st.sampled_from(
    ["messages", "model", "stream", "fast", "topK", "tools", "speaker", "text", "content", "type"]
)


@given(st.binary() | st.dictionaries(MEMBERS, JSON).map(msgspec.json.encode))
def test_any_body_is_a_request_or_a_complaint(body: bytes) -> None:
    for dialect in (chat(), CODE):
        for read in (dialect.peek, dialect.decode_request):
            try:
                read(body)
            except BadPayload as error:
                assert str(error)  # noqa: PT017 - either is right


def test_negative_limits_are_unset_and_so_is_zero_where_it_says_nothing() -> None:
    human = {"speaker": "human", "text": "a"}
    unset = {"maxTokensToSample": -1, "temperature": -1, "topP": -1.0, "topK": -1, "logprobs": -1}

    assert decoded(human, **unset).sampling == Sampling()
    zero = decoded(human, maxTokensToSample=0, temperature=0, topP=0, topK=0, logprobs=0)
    assert zero.sampling == Sampling(temperature=0, logprobs=0)
    some = decoded(human, topP=0.5, topK=3, stopSequences=None)
    assert some.sampling == Sampling(top_p=0.5, top_k=3)


def test_a_message_without_text_is_an_empty_text() -> None:
    assert decoded({"speaker": "assistant"}).messages == (Message("assistant", (TextPart(""),)),)
    assert decoded({"speaker": "human", "content": "a", "text": "b"}).messages[0].text == "a"
    assert decoded({"speaker": "human", "content": [], "text": "b"}).messages[0].text == "b"


def test_all_content_parts() -> None:
    content = [
        {"type": "context_file", "uri": "a.py", "content": "x = 1"},
        {"type": "context_file", "uri": "b.py"},
        {"type": "context_repo", "repoId": "r"},
        {"type": "text", "text": "why?", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": None},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
    ]

    assert decoded({"speaker": "human", "content": content, "cacheEnabled": True}).messages == (
        Message(
            "user",
            (
                TextPart("a.py\nx = 1\n\nb.py\n\nwhy?"),
                ImagePart("data:image/png;base64,AA=="),
            ),
        ),
    )


def test_calls_and_results_of_tools() -> None:
    call = {"id": "1", "name": "grep", "arguments": "{}"}
    request = decoded(
        {"speaker": "assistant", "content": [{"type": "tool_call", "tool_call": call}]},
        {
            "speaker": "human",
            "content": [
                {"type": "tool_result", "tool_result": {"id": "1", "content": "found"}},
                {"type": "text", "text": "go on"},
            ],
        },
        {"speaker": "human", "content": [{"type": "tool_result", "tool_result": {"id": "2"}}]},
        tools=[
            {
                "type": "function",
                "function": {"name": "grep", "description": "d", "parameters": {"type": "object"}},
            },
            {"type": "function", "function": {"name": "ls", "parameters": None}},
        ],
    )

    assert request.messages == (
        Message("assistant", (), tool_calls=(ToolUse("1", "grep", "{}"),)),
        Message("tool", (TextPart("found"),), tool_call_id="1"),
        Message("user", (TextPart("go on"),)),
        Message("tool", (TextPart(""),), tool_call_id="2"),
    )
    grep, ls = request.tools
    assert (grep.name, bytes(grep.parameters or b"")) == ("grep", b'{"type":"object"}')
    assert ls == Tool("ls")


def test_hints_are_passed_over() -> None:
    hints = {
        "prediction": {"type": "content", "content": "x"},
        "rewriteSpeculation": True,
        "adaptiveSpeculation": True,
        "speculationLengthOnStrongMatch": 500,
        "timeoutMs": 7000,
    }

    assert decoded({"speaker": "human", "text": "a"}, **hints) == decoded(
        {"speaker": "human", "text": "a"}
    )


def test_code_goes_on_with_the_first_message_and_several_are_not_fatal() -> None:
    body = msgspec.json.encode(
        {
            "messages": [
                {
                    "speaker": "human",
                    "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
                },
                {"speaker": "assistant", "text": "c"},
            ]
        }
    )

    request = CODE.decode_request(body)

    assert isinstance(request, CompletionRequest)
    assert request.prompt == "ab"


def test_nothing_may_be_written_between_two_frames() -> None:
    assert (LEGACY.name, LEGACY.keepalive) == ("sourcegraph", b"")


# Old clients


def said(*turns: str) -> tuple[Message, ...]:
    """Turns as `h: text`, `a: text` and `s: text`."""
    roles: dict[str, Role] = {"h": "user", "a": "assistant", "s": "system"}
    return tuple(Message(roles[turn[0]], (TextPart(turn[3:]),)) for turn in turns)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ((), ()),
        (("h: hi",), ("h: hi",)),
        (
            ("h: You are Cody, an AI x", "a: I am Cody", "h: hi"),
            ("s: You are Cody, an AI x", "h: hi"),
        ),
        (("h: You are Cody, an AI x",), ("s: You are Cody, an AI x",)),
        (("h: hi", "h: You are Cody, an AI"), ("h: hi", "h: You are Cody, an AI")),
        (("h: hi", "a: "), ("h: hi",)),
        (("h: hi", "a: Sure \t\n"), ("h: hi", "a: Sure")),
        (("a: ",), ()),
        (("h: 1", "a: ", "h: 2", "a: 2"), ("h: 2", "a: 2")),
        (("h: 1", "a: one", "h: 2", "a: "), ("h: 1", "a: one", "h: 2")),
        (("h: 1", "a: ", "h: 2"), ("a: ", "h: 2")),  # the last two stay as they are
    ],
)
def test_the_conversations_of_old_clients_are_put_right(
    given: tuple[str, ...], wanted: tuple[str, ...]
) -> None:
    assert rewritten(said(*given)) == said(*wanted)


def test_a_last_message_without_text_keeps_its_form() -> None:
    picture = Message("assistant", (ImagePart("data:"),))

    assert rewritten((picture,)) == (picture,)
    calls = Message("assistant", (), tool_calls=(ToolUse("1", "ls", ""),))
    assert rewritten((calls,)) == (calls,)


def test_an_empty_last_turn_of_the_assistant_is_not_sent() -> None:
    assert without_open_turn(said("h: hi", "a: ")) == said("h: hi")
    assert without_open_turn(said("h: hi", "a: x")) == said("h: hi", "a: x")
    assert without_open_turn(said("h: ")) == said("h: ")
    assert without_open_turn(()) == ()


def test_an_instruction_joins_the_system_message_that_is_there() -> None:
    system, human = said("s: Be brief.", "h: hi")

    assert instructed((human,), "") == (human,)
    assert instructed((human,), "Latin.") == (Message("system", (TextPart("Latin."),)), human)
    assert instructed((), "Latin.") == (Message("system", (TextPart("Latin."),)),)
    assert instructed((system, human), "Latin.") == (
        Message("system", (TextPart("Latin.\n\nBe brief."),)),
        human,
    )
