"""Requests for Bedrock's Converse, as AWS takes them."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest
from botocore.session import Session
from botocore.validate import ParamValidator
from hypothesis import given
from hypothesis import strategies as st

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    ImagePart,
    Message,
    OutputSchema,
    Part,
    Reasoning,
    RedactedThinkingPart,
    Request,
    Role,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects.base import Untranslatable
from parsers.dialects.bedrock import CONVERSE, Converse
from parsers.dialects.policy import FIELDS

Json = dict[str, Any]  # Any: JSON of any shape

# What AWS's own client would refuse to send.
CONVERSE_SHAPE = (
    Session().get_service_model("bedrock-runtime").operation_model("Converse").input_shape
)

ANTHROPIC = Converse(anthropic="us.anthropic.claude-sonnet-4-5-20250929-v1:0")
ADAPTIVE = Converse(anthropic="anthropic.claude-opus-4-7-v1:0")

SCHEMA = msgspec.Raw(b'{"type": "object"}')


def say(role: Role, *parts: str | Part, **fields: Any) -> Message:
    return Message(role, tuple(TextPart(p) if isinstance(p, str) else p for p in parts), **fields)


def asked(*messages: Message, dialect: Converse = ANTHROPIC, **fields: Any) -> Json:
    request = ChatRequest(model="m", messages=messages or (say("user", "hi"),), **fields)
    return members(request, dialect)


def members(request: Request, dialect: Converse = ANTHROPIC) -> Json:
    found: Json = msgspec.json.decode(dialect.encode_request(request, "m"))
    report = ParamValidator().validate({**found, "modelId": "m"}, CONVERSE_SHAPE)
    assert not report.has_errors(), report.generate_report()
    return found


def turns(*messages: Message) -> list[Json]:
    found: list[Json] = asked(*messages)["messages"]
    return found


# Messages


def test_the_smallest_request_says_only_what_was_said() -> None:
    body = CONVERSE.encode_request(ChatRequest("m", (say("user", "hi"),), stream=True), "m")

    assert body == b'{"messages":[{"role":"user","content":[{"text":"hi"}]}]}'


def test_raw_text_is_one_message() -> None:
    request = CompletionRequest("m", "def f(", sampling=Sampling(max_tokens=9, stop=("\n\n", "x")))

    assert members(request, CONVERSE) == {
        "messages": [{"role": "user", "content": [{"text": "def f("}]}],
        "inferenceConfig": {"maxTokens": 9, "stopSequences": ["\n\n", "x"]},
    }
    with pytest.raises(Untranslatable, match="suffix"):
        CONVERSE.encode_request(CompletionRequest("m", "a", suffix="b"), "m")


def test_system_texts_come_first_and_together_wherever_they_stood() -> None:
    found = asked(
        say("system", "Be brief."),
        say("user", "hi"),
        say("developer", "Use French."),
        say("system", ""),
        say("user", "ho"),
    )

    assert found["system"] == [{"text": "Be brief.\n\nUse French."}]
    assert found["messages"] == [{"role": "user", "content": [{"text": "hi"}, {"text": "ho"}]}]


def test_a_picture_for_the_system_is_refused() -> None:
    with pytest.raises(Untranslatable, match="image_url"):
        asked(say("system", ImagePart("data:image/png;base64,AA==")))


def test_neighbours_of_one_role_are_one_turn_and_empty_texts_none() -> None:
    assert turns(
        say("user", "a", ""),
        say("assistant", ""),
        say("user", "b"),
        say("assistant", "c"),
        say("assistant", "d"),
        say("user", "e"),
    ) == [
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": [{"text": "c"}, {"text": "d"}]},
        {"role": "user", "content": [{"text": "e"}]},
    ]


def test_an_answer_to_be_continued_has_no_blanks_at_its_end() -> None:
    assert turns(say("user", "a"), say("assistant", "b \n"))[-1]["content"] == [{"text": "b"}]
    assert len(turns(say("user", "a"), say("assistant", " \n"))) == 1


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
def test_a_picture_is_sent_by_its_bytes(kind: str) -> None:
    picture = ImagePart(f"data:image/{kind};base64,iVBORw==")

    content = msgspec.json.decode(
        CONVERSE.encode_request(ChatRequest("m", (say("user", picture, "what?"),)), "m")
    )["messages"][0]["content"]

    assert content == [
        {"image": {"format": kind, "source": {"bytes": "iVBORw=="}}},
        {"text": "what?"},
    ]


def test_a_jpg_is_a_jpeg() -> None:
    request = ChatRequest("m", (say("user", ImagePart("data:image/JPG;base64,/9j=")),))

    assert b'"format":"jpeg"' in CONVERSE.encode_request(request, "m")


@pytest.mark.parametrize(
    "url", ["https://a/b.png", "data:image/tiff;base64,AA==", "data:image/png,%89", "x"]
)
def test_a_picture_that_aws_cannot_be_given_is_refused(url: str) -> None:
    with pytest.raises(Untranslatable, match=r"image_url.*bedrock-converse"):
        asked(say("user", ImagePart(url)))


# Tools

CALLED = say(
    "assistant",
    "Looking.",
    tool_calls=(ToolUse("call_a", "f", '{"x": 1.50}'), ToolUse("call_b", "g", "")),
)


def test_results_of_one_turn_are_one_turn_before_any_text() -> None:
    found = asked(
        say("user", "go"),
        CALLED,
        say("tool", "12", tool_call_id="call_a"),
        say("user", "Well?"),
        say("tool", "no", tool_call_id="call_b", is_error=True),
        tools=(Tool("f"), Tool("g")),
    )

    assert found["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"text": "Looking."},
                {"toolUse": {"toolUseId": "call_a", "name": "f", "input": {"x": 1.5}}},
                {"toolUse": {"toolUseId": "call_b", "name": "g", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "call_a", "content": [{"text": "12"}]}},
                {
                    "toolResult": {
                        "toolUseId": "call_b",
                        "content": [{"text": "no"}],
                        "status": "error",
                    }
                },
                {"text": "Well?"},
            ],
        },
    ]


def test_a_result_may_be_a_picture_or_nothing() -> None:
    request = ChatRequest(
        "m",
        (
            CALLED,
            say("tool", ImagePart("data:image/png;base64,AA=="), tool_call_id="call_a"),
            say("tool", "", tool_call_id="call_b"),
        ),
    )
    body = CONVERSE.encode_request(request, "m")

    picture = b'{"image":{"format":"png","source":{"bytes":"AA=="}}}'
    assert b'{"toolResult":{"toolUseId":"call_a","content":[%b]}}' % picture in body
    assert b'{"toolResult":{"toolUseId":"call_b","content":[]}}' in body


def test_arguments_keep_their_bytes_and_what_is_no_object_goes_into_one() -> None:
    def written(arguments: str) -> bytes:
        use = ToolUse("a", "f", arguments)
        request = ChatRequest("m", (say("assistant", tool_calls=(use,)), say("user", "x")))
        return CONVERSE.encode_request(request, "m")

    assert b'"input":{"n": 1.50, "big": 12345678901234567890}' in written(
        '{"n": 1.50, "big": 12345678901234567890}'
    )
    assert b'"input":{"_raw":"{\\"x\\":"}' in written('{"x":')
    assert b'"input":{"_raw":"[1]"}' in written("[1]")
    assert b'"input":{}' in written(" ")


def test_an_id_that_aws_refuses_becomes_the_same_other_one_in_call_and_result() -> None:
    use = ToolUse("functions.f:0", "f", "{}")
    call, result = turns(
        say("user", "go"),
        say("assistant", tool_calls=(use,)),
        say("tool", "1", tool_call_id="functions.f:0"),
    )[1:]

    given_id = call["content"][0]["toolUse"]["toolUseId"]
    assert given_id == "call_d6bdd4de328a22edd610f9548b4f419f"
    assert result["content"][0]["toolResult"]["toolUseId"] == given_id


def test_tools_are_told_with_a_schema_that_aws_takes() -> None:
    tools = (
        Tool("f", "does f", SCHEMA, strict=True),
        Tool("g", "", msgspec.Raw(b"{}")),
        Tool("h"),
    )

    empty = {"json": {"type": "object", "properties": {}}}
    assert asked(tools=tools)["toolConfig"] == {
        "tools": [
            {
                "toolSpec": {
                    "name": "f",
                    "description": "does f",
                    "inputSchema": {"json": {"type": "object"}},
                    "strict": True,
                }
            },
            {"toolSpec": {"name": "g", "inputSchema": empty}},
            {"toolSpec": {"name": "h", "inputSchema": empty}},
        ]
    }


@pytest.mark.parametrize(
    ("choice", "wire"),
    [
        (ToolChoice("auto"), {"auto": {}}),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("tool", "f"), {"tool": {"name": "f"}}),
    ],
)
def test_which_tool_to_call(choice: ToolChoice, wire: Json) -> None:
    assert asked(tools=(Tool("f"),), tool_choice=choice)["toolConfig"]["toolChoice"] == wire


def test_no_tool_is_to_be_called_where_none_is_told() -> None:
    none = ToolChoice("none")

    assert "toolConfig" not in asked(tools=(Tool("f"),), tool_choice=none)


def test_tools_stay_where_the_conversation_has_calls() -> None:
    result = say("tool", "1", tool_call_id="call_a")
    none = ToolChoice("none")

    told = asked(CALLED, result, tools=(Tool("f"),), tool_choice=none)["toolConfig"]
    named = asked(CALLED, result)["toolConfig"]

    assert [each["toolSpec"]["name"] for each in told["tools"]] == ["f"]
    assert [each["toolSpec"]["name"] for each in named["tools"]] == ["f", "g"]
    assert "toolChoice" not in told | named


# Everything else


def test_sampling() -> None:
    sampling = Sampling(max_tokens=5, temperature=0.0, top_p=0.5, top_k=3, stop=("\n", "END", ""))

    found = asked(sampling=sampling)

    assert found["inferenceConfig"] == {
        "maxTokens": 5,
        "temperature": 0.0,
        "topP": 0.5,
        "stopSequences": ["END"],  # Anthropic refuses blank ones
    }
    assert found["additionalModelRequestFields"] == {"top_k": 3}


def test_a_temperature_above_one_is_one() -> None:
    assert asked(sampling=Sampling(temperature=1.7))["inferenceConfig"] == {"temperature": 1}


def test_a_form_of_the_answer_is_told_as_aws_has_it() -> None:
    found = asked(output=OutputSchema(SCHEMA, "city", strict=True))

    assert found["outputConfig"] == {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"name": "city", "schema": '{"type": "object"}'}},
        }
    }


def test_json_without_a_schema_is_refused() -> None:
    with pytest.raises(Untranslatable, match="response_format"):
        asked(output=OutputSchema())


def test_the_user_is_a_label_of_characters_that_aws_takes() -> None:
    assert asked(user="ann@x.org ä|;" + "a" * 300)["requestMetadata"] == {
        "user": "ann@x.org ___" + "a" * 243
    }


def test_latency_is_asked_for_where_it_is_configured() -> None:
    assert asked(dialect=Converse(latency="optimized"))["performanceConfig"] == {
        "latency": "optimized"
    }


def test_only_models_of_anthropic_are_told_fields_of_their_own() -> None:
    only = ANTHROPIC.spoken - CONVERSE.spoken

    assert only == {"top_k", "reasoning_effort", "thinking"}
    assert ANTHROPIC.spoken <= set(FIELDS)
    found = asked(dialect=CONVERSE, reasoning=Reasoning(effort="high"))
    assert "additionalModelRequestFields" not in found


# Thinking


def thinking(*messages: Message, **fields: Any) -> object:
    found = asked(*messages, **fields)
    return found.get("additionalModelRequestFields", {}).get("thinking")


def test_a_budget_is_told_as_it_is_and_excludes_sampling() -> None:
    found = asked(
        reasoning=Reasoning(budget=2000),
        sampling=Sampling(max_tokens=3000, temperature=0.3, top_p=0.9, top_k=4),
    )

    thought = {"type": "enabled", "budget_tokens": 2000}
    assert found["additionalModelRequestFields"] == {"thinking": thought}
    assert found["inferenceConfig"] == {"maxTokens": 3000}


def test_an_effort_is_a_budget_for_models_that_know_no_other_way() -> None:
    assert thinking(reasoning=Reasoning("low")) == {"type": "enabled", "budget_tokens": 2048}
    assert thinking(reasoning=Reasoning("none")) == {"type": "disabled"}
    assert thinking(reasoning=Reasoning("low"), sampling=Sampling(max_tokens=99)) is None


def test_an_effort_is_told_to_models_that_choose_for_themselves() -> None:
    found = asked(dialect=ADAPTIVE, reasoning=Reasoning("high"), output=OutputSchema(SCHEMA))

    assert found["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
    assert found["outputConfig"]["effort"] == "high"
    assert found["outputConfig"]["textFormat"]["type"] == "json_schema"


def test_a_model_that_is_not_to_think_is_told_how_to_draw() -> None:
    found = asked(reasoning=Reasoning("none"), sampling=Sampling(temperature=0.5, top_k=-1))

    assert found["inferenceConfig"] == {"temperature": 0.5}
    assert found["additionalModelRequestFields"] == {"thinking": {"type": "disabled"}}


def test_thoughts_go_back_as_they_came() -> None:
    message = say("assistant", ThinkingPart("hm", "c2ln"), RedactedThinkingPart("eA=="), "So.")
    request = ChatRequest("m", (say("user", "a"), message, say("user", "b")))

    turn = msgspec.json.decode(ANTHROPIC.encode_request(request, "m"))["messages"][1]

    assert turn["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "eA=="}},
        {"text": "So."},
    ]


def test_thoughts_that_nobody_signed_stay_here() -> None:
    assert turns(say("assistant", ThinkingPart("hm"), "So."), say("user", "b"))[0]["content"] == [
        {"text": "So."}
    ]


parts = st.builds(TextPart, st.text(max_size=8)) | st.just(ImagePart("data:image/gif;base64,AA=="))
uses = st.builds(ToolUse, st.text(max_size=70), st.just("f"), st.text(max_size=9) | st.just("{}"))
messages = st.builds(
    Message,
    st.sampled_from(["user", "assistant", "tool"]),
    st.lists(parts, max_size=3).map(tuple),
    tool_calls=st.lists(uses, max_size=2).map(tuple),
    tool_call_id=st.text(max_size=70),
)


@given(st.lists(messages, max_size=6).map(tuple))
def test_any_conversation_alternates_and_has_no_empty_turn(sent: tuple[Message, ...]) -> None:
    found = msgspec.json.decode(CONVERSE.encode_request(ChatRequest("m", sent), "m"))

    roles = [turn["role"] for turn in found["messages"]]
    assert all(one != other for one, other in itertools.pairwise(roles))
    assert all(turn["content"] for turn in found["messages"])
    assert all(block.get("text") != "" for turn in found["messages"] for block in turn["content"])
