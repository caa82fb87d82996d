"""Gemini as its servers speak: what is asked, what is understood of the answer."""

from __future__ import annotations

from collections.abc import Sequence
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
    OutputSchema,
    Reasoning,
    Request,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects.base import Untranslatable, UpstreamDialect
from parsers.dialects.gemini import GEMINI
from parsers.errors import FrameTooLarge
from parsers.events import (
    Ended,
    Failed,
    Fault,
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
from tests.fixture_streams import check_grammar, replay

NEW, OLD = "gemini-3-pro-preview", "gemini-2.5-flash"
SKIP = "skip_thought_signature_validator"


def asked(request: Request, model: str = NEW) -> Any:
    return msgspec.json.decode(GEMINI.encode_request(request, model))


def chat(*messages: Message, **members: Any) -> ChatRequest:
    return ChatRequest("m", messages, **members)


def said(role: Any, text: str) -> Message:
    return Message(role, (TextPart(text),))


def result(call_id: str, text: str, **members: Any) -> Message:
    return Message("tool", (TextPart(text),), tool_call_id=call_id, **members)


def calling(*uses: ToolUse, text: str = "") -> Message:
    return Message("assistant", (TextPart(text),), tool_calls=uses)


HI = said("user", "hi")


def test_the_dialect_is_one_of_a_server() -> None:
    dialect: UpstreamDialect = GEMINI

    assert dialect.name == "gemini"


# -- the conversation


def test_a_message_is_one_turn_and_neither_model_nor_stream_is_in_the_body() -> None:
    assert asked(chat(HI, stream=True)) == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}]
    }


def test_system_messages_become_one_instruction_wherever_they_stand() -> None:
    body = asked(chat(said("system", "a"), HI, said("developer", "b"), said("system", "")))

    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "systemInstruction": {"parts": [{"text": "a\n\nb"}]},
    }


def test_neighbours_of_one_role_are_merged_and_empty_ones_dropped() -> None:
    body = asked(chat(HI, said("assistant", ""), said("user", "there"), said("assistant", "yes")))

    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "hi"}, {"text": "there"}]},
        {"role": "model", "parts": [{"text": "yes"}]},
    ]


def test_earlier_reasoning_is_not_repeated() -> None:
    body = asked(chat(Message("assistant", (ThinkingPart("hm", "c2ln"), TextPart("yes")))))

    assert body["contents"] == [{"role": "model", "parts": [{"text": "yes"}]}]


def test_a_prompt_is_the_one_message_of_a_conversation() -> None:
    body = asked(CompletionRequest("m", "def f(", sampling=Sampling(max_tokens=5)))

    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "def f("}]}],
        "generationConfig": {"maxOutputTokens": 5},
    }


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("data:image/png;base64,iVBO", {"inlineData": {"mimeType": "image/png", "data": "iVBO"}}),
        (
            "https://a/b.JPG?x=1",
            {"fileData": {"fileUri": "https://a/b.JPG?x=1", "mimeType": "image/jpeg"}},
        ),
        ("gs://bucket/picture", {"fileData": {"fileUri": "gs://bucket/picture"}}),
    ],
)
def test_a_picture_goes_along_or_is_named(url: str, part: object) -> None:
    body = asked(chat(Message("user", (TextPart("what?"), ImagePart(url)))))

    assert body["contents"][0]["parts"] == [{"text": "what?"}, part]


@pytest.mark.parametrize(
    "url", ["data:image/png,abc", "data:;base64,abc", "data:image/png;base64,"]
)
def test_a_picture_that_cannot_be_told_is_refused(url: str) -> None:
    with pytest.raises(Untranslatable, match=r'"messages\[1\].content" cannot be expressed'):
        asked(chat(HI, Message("user", (ImagePart(url),))))


# -- tools


def test_tools_are_declared_by_their_json_schema() -> None:
    schema = msgspec.Raw(b'{"type":"object","$ref":"#/x"}')
    tools = (
        Tool("f", "does f", schema, strict=True),
        Tool("g"),
        Tool("h", parameters=msgspec.Raw(b"{}")),
    )

    assert asked(chat(HI, tools=tools))["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "f",
                    "description": "does f",
                    "parametersJsonSchema": {"type": "object", "$ref": "#/x"},
                },
                {"name": "g"},
                {"name": "h"},
            ]
        }
    ]


@pytest.mark.parametrize(
    ("choice", "calling"),
    [
        (ToolChoice("auto"), {"mode": "AUTO"}),
        (ToolChoice("none"), {"mode": "NONE"}),
        (ToolChoice("required"), {"mode": "ANY"}),
        (ToolChoice("tool", "f"), {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_which_tool_is_to_be_called(choice: ToolChoice, calling: object) -> None:
    body = asked(chat(HI, tools=(Tool("f"),), tool_choice=choice))

    assert body["toolConfig"] == {"functionCallingConfig": calling}


def test_a_call_and_its_result_go_back_by_name_with_the_signature() -> None:
    body = asked(
        chat(
            HI,
            calling(ToolUse("c1", "weather", '{"at": "Oslo"}', "c2ln"), text="let me see"),
            result("c1", '{"c": 3}'),
            said("user", "and?"),
        )
    )

    assert body["contents"][1:] == [
        {
            "role": "model",
            "parts": [
                {"text": "let me see"},
                {
                    "functionCall": {"name": "weather", "args": {"at": "Oslo"}},
                    "thoughtSignature": "c2ln",
                },
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"c": 3}}},
                {"text": "and?"},
            ],
        },
    ]


@pytest.mark.parametrize(("model", "signatures"), [(NEW, [SKIP, None]), (OLD, [None, None])])
def test_a_lost_signature_has_a_stand_in_where_one_is_asked_for(
    model: str, signatures: list[str | None]
) -> None:
    body = asked(chat(HI, calling(ToolUse("a", "f", ""), ToolUse("b", "g", "{}"))), model)

    parts = body["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == signatures
    assert [part["functionCall"]["args"] for part in parts] == [{}, {}]


def test_a_signature_that_came_back_is_left_alone() -> None:
    body = asked(chat(HI, calling(ToolUse("a", "f", "", "c2ln"), ToolUse("b", "g", ""))))

    parts = body["contents"][1]["parts"]
    assert [part.get("thoughtSignature") for part in parts] == ["c2ln", None]


def test_results_stand_in_the_order_of_their_calls_and_their_pictures_behind() -> None:
    picture = Message("tool", (ImagePart("data:image/png;base64,iVBO"),), tool_call_id="b")
    body = asked(
        chat(HI, calling(ToolUse("a", "f", ""), ToolUse("b", "g", "")), picture, result("a", "1"))
    )

    assert body["contents"][2]["parts"] == [
        {"functionResponse": {"name": "f", "response": {"output": "1"}}},
        {"functionResponse": {"name": "g", "response": {}}},
        {"inlineData": {"mimeType": "image/png", "data": "iVBO"}},
    ]


def test_an_id_that_is_used_again_means_its_last_call() -> None:
    body = asked(
        chat(
            *(HI, calling(ToolUse("0", "f", "")), result("0", "x")),
            *(calling(ToolUse("0", "g", "")), result("0", "y")),
        )
    )

    turns = (body["contents"][2], body["contents"][4])
    assert [turn["parts"][0]["functionResponse"]["name"] for turn in turns] == ["f", "g"]


@pytest.mark.parametrize(
    ("text", "is_error", "response"),
    [
        ("sunny", False, {"output": "sunny"}),
        ("[1]", False, {"output": "[1]"}),
        ('{"a":', False, {"output": '{"a":'}),
        ("", False, {}),
        ("no such town", True, {"error": "no such town"}),
        ('{"a":1}', True, {"error": '{"a":1}'}),
    ],
)
def test_a_result_is_always_an_object(text: str, is_error: bool, response: object) -> None:
    body = asked(chat(calling(ToolUse("a", "f", "")), result("a", text, is_error=is_error)))

    assert body["contents"][1]["parts"][0]["functionResponse"]["response"] == response


@pytest.mark.parametrize("arguments", ["[1]", "{", "null", "[" * 100_000])
def test_arguments_that_are_no_object_are_not_dropped(arguments: str) -> None:
    body = asked(chat(calling(ToolUse("a", "f", arguments))))

    assert body["contents"][0]["parts"][0]["functionCall"]["args"] == {"_raw": arguments}


def test_a_result_of_no_known_call_is_refused() -> None:
    with pytest.raises(Untranslatable, match=r'"messages\[1\].tool_call_id" cannot be expressed'):
        asked(chat(HI, result("a", "x")))


# -- how it is to answer


def test_sampling_in_geminis_words() -> None:
    sampling = Sampling(
        max_tokens=9,
        temperature=0.0,
        top_p=0.9,
        top_k=40,
        stop=("a", "b"),
        seed=7,
        choices=2,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
    )

    assert asked(chat(HI, sampling=sampling))["generationConfig"] == {
        "maxOutputTokens": 9,
        "temperature": 0.0,
        "topP": 0.9,
        "topK": 40,
        "stopSequences": ["a", "b"],
        "seed": 7,
        "candidateCount": 2,
        "presencePenalty": 0.5,
        "frequencyPenalty": -0.5,
    }


def test_a_negative_limit_is_none() -> None:
    assert asked(chat(HI, sampling=Sampling(top_k=-1, top_p=-1.0))) == asked(chat(HI))


@pytest.mark.parametrize(
    ("output", "config"),
    [
        (OutputSchema(), {"responseMimeType": "application/json"}),
        (
            OutputSchema(msgspec.Raw(b'{"type":"object"}'), "n", strict=True),
            {"responseMimeType": "application/json", "responseJsonSchema": {"type": "object"}},
        ),
    ],
)
def test_the_form_of_the_answer(output: OutputSchema, config: object) -> None:
    assert asked(chat(HI, output=output))["generationConfig"] == config


@pytest.mark.parametrize(
    ("model", "reasoning", "config"),
    [
        (NEW, Reasoning("medium"), {"includeThoughts": True, "thinkingLevel": "medium"}),
        (NEW, Reasoning("minimal"), {"includeThoughts": True, "thinkingLevel": "minimal"}),
        (NEW, Reasoning("xhigh"), {"includeThoughts": True, "thinkingLevel": "high"}),
        (NEW, Reasoning("none"), {"thinkingLevel": "low"}),
        (NEW, Reasoning(budget=2048), {"includeThoughts": True, "thinkingBudget": 2048}),
        (OLD, Reasoning("low"), {"includeThoughts": True, "thinkingBudget": 1024}),
        (OLD, Reasoning("high"), {"includeThoughts": True, "thinkingBudget": 24576}),
        (OLD, Reasoning("none"), {"thinkingBudget": 0}),
        (OLD, Reasoning(budget=0), {"thinkingBudget": 0}),
        (NEW, Reasoning(), None),
        (NEW, None, None),
    ],
)
def test_how_much_to_think(model: str, reasoning: Reasoning | None, config: object) -> None:
    body = asked(chat(HI, reasoning=reasoning), model)

    assert body.get("generationConfig", {}).get("thinkingConfig") == config


# -- the answer

START = Started("r", "g")


def framed(*chunks: bytes) -> bytes:
    return b"".join(b"data: %b\r\n\r\n" % chunk for chunk in chunks)


def chunk(candidates: bytes = b"", rest: bytes = b"") -> bytes:
    return b'{"candidates":[%b],"modelVersion":"g","responseId":"r"%b}' % (candidates, rest)


def candidate(*parts: bytes, finish: bytes = b"", index: int = 0) -> bytes:
    reason = b',"finishReason":"%b"' % finish if finish else b""
    content = b'"content":{"role":"model","parts":[%b]},' % b",".join(parts) if parts else b""
    return b'{%b"index":%d%b}' % (content, index, reason)


def text(words: bytes) -> bytes:
    return b'{"text":"%b"}' % words


CALL = b'{"functionCall":{"name":"f","args":{"a": [1, 2]},"id":"c1"},"thoughtSignature":"c2ln"}'


def both(*chunks: bytes) -> list[StreamEvent]:
    """The events of a stream of these chunks, which are those of the same chunks in an array."""
    events = replay(GEMINI, [framed(*chunks)])
    assert GEMINI.decode_body(b"[%b]" % b",\r\n".join(chunks)) == events
    if len(chunks) == 1:
        assert GEMINI.decode_body(chunks[0]) == GEMINI.judge_body(chunks[0]) == events
    check_grammar(events)
    return events


def test_texts_and_thoughts_and_the_end() -> None:
    thought = b'{"text":"hm","thought":true,"thoughtSignature":"c2ln"}'

    events = both(
        chunk(candidate(thought, text(b"a"))), chunk(candidate(text(b"b"), finish=b"STOP"))
    )

    assert events == [
        *(START, Thinking("hm", signature="c2ln"), Text("a"), Text("b")),
        *(Finished(FinishReason.STOP, raw="STOP"), Ended()),
    ]


def test_a_call_comes_whole_and_makes_the_stop_one_for_calls() -> None:
    bare = b'{"functionCall":{"name":"g"}}'

    events = both(chunk(candidate(CALL, bare)), chunk(candidate(finish=b"STOP")))

    assert events == [
        START,
        *(ToolCall(0, "c1", "f", signature="c2ln"), ToolArguments(0, '{"a":[1,2]}')),
        *(ToolCall(1, None, "g"), ToolArguments(1, "{}")),
        *(Finished(FinishReason.TOOL_CALLS, raw="STOP"), Ended()),
    ]


def test_older_models_name_a_reason_in_every_chunk() -> None:
    events = both(
        chunk(candidate(text(b"a"), finish=b"STOP")),
        chunk(candidate(text(b"b"), finish=b"MAX_TOKENS")),
    )

    assert events[1:] == [
        *(Text("a"), Text("b")),
        *(Finished(FinishReason.LENGTH, raw="MAX_TOKENS"), Ended()),
    ]


def test_candidates_are_choices() -> None:
    events = both(
        chunk(candidate(text(b"a")) + b"," + candidate(text(b"b"), index=1)),
        chunk(candidate(CALL, index=1, finish=b"STOP")),
        chunk(candidate(text(b"c"), finish=b"STOP")),
    )

    assert events[1:] == [
        *(Text("a"), Text("b", 1)),
        *(ToolCall(0, "c1", "f", 1, "c2ln"), ToolArguments(0, '{"a":[1,2]}', 1), Text("c")),
        Finished(FinishReason.STOP, raw="STOP"),
        *(Finished(FinishReason.TOOL_CALLS, 1, "STOP"), Ended()),
    ]


def test_a_candidate_without_a_reason_is_not_whole() -> None:
    body = chunk(candidate(text(b"a")) + b"," + candidate(text(b"b"), index=1, finish=b"STOP"))

    *_, last = both(body)

    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.TRUNCATED


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        *((word, FinishReason.CONTENT_FILTER) for word in ("SAFETY", "RECITATION", "SPII")),
        *((word, FinishReason.CONTENT_FILTER) for word in ("IMAGE_SAFETY", "MODEL_ARMOR")),
        *((word, FinishReason.STOP) for word in ("LANGUAGE", "OTHER", "NEVER_HEARD_OF")),
        ("MAX_TOKENS", FinishReason.LENGTH),
    ],
)
def test_other_reasons(word: str, reason: FinishReason) -> None:
    *_, finished, _ = both(chunk(candidate(text(b"a"), finish=word.encode())))

    assert finished == Finished(reason, raw=word)


def test_calls_that_were_cut_short_are_no_stop_for_calls() -> None:
    *_, finished, _ = both(chunk(candidate(CALL, finish=b"MAX_TOKENS")))

    assert finished == Finished(FinishReason.LENGTH, raw="MAX_TOKENS")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("MALFORMED_FUNCTION_CALL", "the model's function call is malformed"),
        ("UNEXPECTED_TOOL_CALL", "the model called a function although there are none"),
        ("TOO_MANY_TOOL_CALLS", "the model called too many functions in a row"),
        ("OTHER", "the model stopped without an answer"),
    ],
)
def test_some_reasons_are_failures(word: str, message: str) -> None:
    events = both(chunk(candidate(finish=word.encode())))

    assert events == [START, Failed(Fault(FaultKind.UPSTREAM, "upstream", message, type=word))]


@pytest.mark.parametrize("word", ["PROHIBITED_CONTENT", "OTHER", "JAILBREAK"])
def test_a_blocked_prompt_is_filtered_content_whatever_the_word(word: str) -> None:
    body = b'{"promptFeedback":{"blockReason":"%b"},"usageMetadata":{"promptTokenCount":8}}'

    assert both(body % word.encode()) == [
        *(Started(), Usage(8, 0), Finished(FinishReason.CONTENT_FILTER, raw=word), Ended()),
    ]


def test_usage_counts_thoughts_and_what_tools_brought_and_is_told_when_it_changes() -> None:
    first = b',"usageMetadata":{"promptTokenCount":9,"thoughtsTokenCount":4}'
    last = (
        b',"usageMetadata":{"promptTokenCount":9,"toolUsePromptTokenCount":5,"thoughtsTokenCount":4,'
        b'"candidatesTokenCount":2,"cachedContentTokenCount":3,"totalTokenCount":20}'
    )

    events = both(
        chunk(candidate(text(b"a")), first),
        chunk(candidate(text(b"b")), first),
        chunk(candidate(finish=b"STOP"), last),
    )

    assert [event for event in events if isinstance(event, Usage)] == [
        Usage(9, 4, reasoning=4),
        Usage(14, 6, cached=3, reasoning=4),
    ]


def test_an_array_body_where_events_were_asked_for_is_understood() -> None:
    body = b"[%b\r\n,\r\n%b]" % (chunk(candidate(text(b"a"))), chunk(candidate(finish=b"STOP")))

    assert replay(GEMINI, [body[i : i + 1] for i in range(len(body))]) == [
        *(START, Text("a"), Finished(FinishReason.STOP, raw="STOP"), Ended()),
    ]


# -- errors

OVERLOADED = b'{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}'
FAULT = Fault(
    *(FaultKind.OVERLOADED, "upstream", "The model is overloaded."),
    status=503,
    type="UNAVAILABLE",
    code=503,
)


@pytest.mark.parametrize("shape", [b"%b", b"[%b]"])
def test_an_error_in_place_of_an_answer(shape: bytes) -> None:
    body = shape % OVERLOADED

    assert GEMINI.decode_body(body) == [Failed(FAULT)]
    assert replay(GEMINI, [framed(body)]) == [Failed(FAULT)]
    assert replay(GEMINI, [body]) == [Failed(FAULT)]
    assert GEMINI.decode_error(503, body) == FAULT


def test_an_error_after_good_chunks() -> None:
    assert both(chunk(candidate(text(b"a"))), OVERLOADED) == [START, Text("a"), Failed(FAULT)]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"", b"null", b'{"candidates":[]}', b"<html>"])
def test_what_is_no_answer(body: bytes) -> None:
    (failed,) = [event for event in GEMINI.decode_body(body) if isinstance(event, Failed)]

    assert failed.fault.kind is FaultKind.PROTOCOL


@pytest.mark.parametrize(
    "odd", [b'{"candidates":7}', b'{"candidates":[{"content":{"parts":[{"functionCall":{}}]}}]}']
)
def test_a_chunk_of_another_shape_breaks_the_stream(odd: bytes) -> None:
    events = replay(GEMINI, [framed(chunk(candidate(text(b"a"))), odd)])

    assert events[:2] == [START, Text("a")]
    assert isinstance(events[2], Failed)
    assert events[2].fault.kind is FaultKind.PROTOCOL


@pytest.mark.parametrize(
    ("details", "kind", "seconds"),
    [
        (b'[{"@type":"x/google.rpc.RetryInfo","retryDelay":"34.5s"}]', "rate_limited", 34.5),
        (b'[{"retryDelay":"soon"},{"reason":7},{}]', "rate_limited", None),
        (b'[{"reason":"API_KEY_INVALID"}]', "unauthenticated", None),
        (b"7", "rate_limited", None),
    ],
)
@pytest.mark.parametrize("shape", [b"%b", b"[%b]"])
def test_details_tell_a_wrong_key_and_when_to_come_back(
    details: bytes, kind: str, seconds: float | None, shape: bytes
) -> None:
    error = b'{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":%b}}'

    fault = GEMINI.decode_error(429, shape % (error % details))

    assert (fault.kind, fault.retry_after, fault.message) == (kind, seconds, "m")


def test_too_long_a_prompt_is_told_as_such() -> None:
    body = (
        b'{"error":{"code":400,"message":"The input token count (1200000) exceeds the maximum'
        b' number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}'
    )

    assert GEMINI.decode_error(400, body).kind is FaultKind.CONTEXT_LENGTH


# -- limits


def test_an_event_over_the_limit_is_refused() -> None:
    decoder = GEMINI.stream_decoder(100)

    with pytest.raises(FrameTooLarge):
        decoder.feed(b"data: " + b"x" * 200)


@pytest.mark.parametrize(
    "body",
    [
        chunk(b",".join(candidate(text(b"a"), index=index) for index in range(200))),
        chunk(candidate(*[b'{"functionCall":{"name":"f"}}'] * 1025)),
    ],
)
def test_a_number_of_things_that_no_answer_has(body: bytes) -> None:
    last = GEMINI.decode_body(body)[-1]

    assert isinstance(last, Failed)
    assert last.fault.kind is FaultKind.PROTOCOL


# Anything that a broken server might put under the keys that are read.
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2), max_leaves=3)


def objects(*keys: str, **nested: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    optional = dict.fromkeys(keys, VALUES) | nested
    return VALUES | st.fixed_dictionaries({}, optional=optional)


PARTS = objects(
    *("text", "thought", "thoughtSignature"), functionCall=objects("name", "args", "id")
)
CANDIDATES = objects("finishReason", "index", content=objects(parts=st.lists(PARTS, max_size=2)))
CHUNKS = objects(
    *("error", "modelVersion", "responseId"),
    candidates=st.lists(CANDIDATES, max_size=2),
    usageMetadata=objects("promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount"),
    promptFeedback=objects("blockReason"),
)


@given(st.lists(CHUNKS, max_size=3))
def test_whatever_a_server_sends_has_the_form_of_an_answer(chunks: Sequence[object]) -> None:
    bodies = [msgspec.json.encode(each) for each in chunks]

    check_grammar(replay(GEMINI, [framed(*bodies)]))
    check_grammar(GEMINI.decode_body(b"[%b]" % b",".join(bodies)))
