"""OpenAI Responses requests: read, written, and passed on."""

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
    OutputSchema,
    Reasoning,
    RedactedThinkingPart,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects import policy
from parsers.dialects.base import Untranslatable
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.responses import RESPONSES
from parsers.errors import BadPayload

Json = dict[str, Any]  # Any: JSON of any shape


def read(**members: object) -> ChatRequest:
    return RESPONSES.decode_request(msgspec.json.encode({"model": "m", "input": "hi", **members}))


def messages(*items: Json) -> tuple[Message, ...]:
    return read(input=items).messages


def complaint(**members: object) -> str:
    with pytest.raises(BadPayload) as raised:
        read(**members)
    return str(raised.value)


def written(request: ChatRequest) -> Json:
    body: Json = msgspec.json.decode(RESPONSES.encode_request(request, "up"))
    return body


# Reading


def test_a_request_with_everything_is_read() -> None:
    request = RESPONSES.decode_request(
        b"""{
        "model": "m", "stream": true, "instructions": "be brief", "input": "hi",
        "max_output_tokens": 7, "temperature": 0, "top_p": 1, "top_logprobs": 3,
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "parallel_tool_calls": false, "user": "bo", "store": false, "truncation": "disabled",
        "background": false, "previous_response_id": null, "stream_options": {},
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "s", "strict": true,
            "schema": { "type": "object" }}},
        "tools": [
            {"type": "function", "name": "f", "description": "d", "strict": true,
                "parameters": { "type": "object" }},
            {"type": "function", "name": "g", "parameters": null}],
        "tool_choice": {"type": "function", "name": "f"}}"""
    )

    assert request == ChatRequest(
        model="m",
        messages=(
            Message("system", (TextPart("be brief"),)),
            Message("user", (TextPart("hi"),)),
        ),
        stream=True,
        include_usage=True,
        sampling=Sampling(max_tokens=7, temperature=0, top_p=1, logprobs=3),
        tools=(
            Tool("f", "d", msgspec.Raw(b'{ "type": "object" }'), True),
            Tool("g"),
        ),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tool_calls=False,
        output=OutputSchema(msgspec.Raw(b'{ "type": "object" }'), "s", True),
        reasoning=Reasoning("low"),
        user="bo",
    )


def test_a_request_with_nothing_asks_for_nothing() -> None:
    assert read() == ChatRequest(
        model="m", messages=(Message("user", (TextPart("hi"),)),), include_usage=True
    )


def test_messages_are_easy_or_in_parts() -> None:
    told = messages(
        {"role": "developer", "content": "be brief"},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "what is this"},
                {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "output_text", "text": "a cat", "annotations": []},
                {"type": "refusal", "refusal": "no"},
            ],
        },
        {"role": "system", "content": []},
    )

    assert told == (
        Message("developer", (TextPart("be brief"),)),
        Message(
            "user",
            (
                TextPart("what is this"),
                ImagePart("https://x/y.png", "low"),
                ImagePart("data:image/png;base64,AA=="),
            ),
        ),
        Message("assistant", (TextPart("a cat"), TextPart("no"))),
        Message("system"),
    )


def test_what_the_model_did_in_one_turn_is_one_message() -> None:
    told = messages(
        {"role": "user", "content": "hi"},
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "s",
        },
        {"type": "message", "id": "msg_1", "role": "assistant", "content": "let me see"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {
            "type": "function_call",
            "id": "fc_2",
            "call_id": "b",
            "name": "g",
            "arguments": "",
            "extra_content": {"google": {"thought_signature": "t"}},
        },
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {
            "type": "function_call_output",
            "call_id": "b",
            "output": [
                {"type": "input_text", "text": "2"},
                {"type": "input_image", "image_url": "data:,"},
            ],
        },
        {"role": "assistant", "content": "done"},
    )

    assert told == (
        Message("user", (TextPart("hi"),)),
        Message(
            "assistant",
            (ThinkingPart("hm", "s"), TextPart("let me see")),
            tool_calls=(ToolUse("a", "f", "{}"), ToolUse("b", "g", "", "t")),
        ),
        Message("tool", (TextPart("1"),), tool_call_id="a"),
        Message("tool", (TextPart("2"), ImagePart("data:,")), tool_call_id="b"),
        Message("assistant", (TextPart("done"),)),
    )


@pytest.mark.parametrize(
    ("item", "thoughts"),
    [
        ({"content": [{"type": "reasoning_text", "text": "hm"}]}, (ThinkingPart("hm"),)),
        (
            {
                "content": [{"type": "reasoning_text", "text": "hm"}],
                "summary": [{"type": "summary_text", "text": "in short"}],
            },
            (ThinkingPart("hm"),),
        ),
        (
            {
                "summary": [
                    {"type": "summary_text", "text": "a"},
                    {"type": "summary_text", "text": "b"},
                ]
            },
            (ThinkingPart("a\n\nb"),),
        ),
        ({"summary": [], "encrypted_content": "s"}, (RedactedThinkingPart("s"),)),
        (
            {"content": [{"type": "reasoning_text", "text": ""}], "encrypted_content": "s"},
            (ThinkingPart("", "s"),),
        ),
        ({"summary": [], "encrypted_content": None}, ()),
    ],
)
def test_reasoning_comes_back_as_its_model_wants_it(
    item: Json, thoughts: tuple[ThinkingPart, ...]
) -> None:
    (turn,) = messages({"type": "reasoning", **item}, {"role": "assistant", "content": "a"})

    assert turn.parts == (*thoughts, TextPart("a"))


def test_thoughts_without_a_word_or_a_deed_are_no_turn() -> None:
    thought = {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]}

    told = messages(thought, {"role": "user", "content": "hi"}, thought)

    assert told == (Message("user", (TextPart("hi"),)),)


def test_forms_of_answers_are_read() -> None:
    assert read(text={"format": {"type": "text"}}).output is None
    assert read(text={"format": {"type": "json_object"}}).output == OutputSchema()
    assert read(text=None).output is None
    assert read(tool_choice="required").tool_choice == ToolChoice("required")


@pytest.mark.parametrize(
    ("members", "logprobs"),
    [
        ({"top_logprobs": 0}, None),
        ({"top_logprobs": 2}, 2),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": []}, None),
    ],
)
def test_probabilities_are_asked_for_by_name_or_number(members: Json, logprobs: int | None) -> None:
    assert read(**members).sampling.logprobs == logprobs


def test_hints_without_a_word_of_ours_are_named() -> None:
    request = read(
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        prompt_cache_key="k",
        prompt_cache_retention="24h",
        max_tool_calls=3,
        truncation="auto",
        text={"verbosity": "low"},
        reasoning={"summary": "auto"},
        include=["file_search_call.results"],
        safety_identifier="bo",
    )

    assert set(request.passed_over) == {
        *("metadata", "store", "service_tier", "prompt_cache_key", "prompt_cache_retention"),
        *("max_tool_calls", "truncation", "text.verbosity", "reasoning.summary", "include"),
    }
    assert (request.user, request.reasoning) == ("bo", None)


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"background": True},
        {"prompt": {"id": "pmpt_1"}},
        {"context_management": [{"type": "compaction"}]},
    ],
)
def test_what_needs_a_memory_is_refused_by_name(members: Json) -> None:
    (name,) = members

    assert complaint(**members).startswith(f"{name}: ")


@pytest.mark.parametrize(
    "kind",
    [
        *("web_search", "file_search", "code_interpreter", "mcp", "image_generation"),
        *("computer_use_preview", "local_shell", "custom"),
    ],
)
def test_tools_of_the_servers_own_are_refused(kind: str) -> None:
    tools = [{"type": "function", "name": "f"}, {"type": kind, "server_label": "x"}]

    assert complaint(tools=tools) == ("tools[1].type: only functions are supported for this model")
    assert complaint(tool_choice={"type": kind}).startswith("tool_choice.type: ")


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ({"type": "item_reference", "id": "msg_1"}, "input[0].type: nothing is stored here"),
        ({"type": "web_search_call", "id": "ws_1"}, "input[0].type: "),
        ({"type": "custom_tool_call", "call_id": "c", "name": "f"}, "input[0].type: "),
        ({"content": "a"}, "input[0]: object missing required field `role`"),
        ({"role": "user"}, "input[0].content: "),
        ({"role": "judge", "content": "a"}, "input[0].role: not a valid value"),
        (
            {"type": "function_call", "name": "f"},
            "input[0]: object missing required field `call_id",
        ),
        (
            {"type": "function_call", "call_id": "c"},
            "input[0]: object missing required field `name",
        ),
        ({"type": "function_call_output", "call_id": "c"}, "input[0].output: "),
        ({"role": "user", "content": [{"type": "input_file"}]}, "input[0].content[0].type: "),
        (
            {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
            "input[0].content[0].image_url: ",
        ),
        ({"role": "user", "content": [{"type": "input_text"}]}, "input[0].content[0]: missing"),
    ],
)
def test_items_that_cannot_be_told_are_refused_by_their_place(item: Json, place: str) -> None:
    assert complaint(input=[item]).startswith(place)


def test_what_is_missing_or_no_json_is_told() -> None:
    with pytest.raises(BadPayload, match="missing required field `input`"):
        RESPONSES.decode_request(b'{"model":"m"}')
    with pytest.raises(BadPayload, match="not valid JSON"):
        RESPONSES.decode_request(b"{")
    assert complaint(tools=[{"type": "function"}]).startswith("tools[0]: ")
    assert complaint(text={"format": {"type": "json_schema"}}).startswith("text.format: ")
    assert complaint(text={"format": {"type": "xml"}}) == "text.format.type: not a valid value"


@given(body=st.binary() | st.text().map(str.encode))
def test_no_request_breaks_the_reader(body: bytes) -> None:
    with pytest.raises(BadPayload):
        RESPONSES.decode_request(body)


def test_a_term_that_is_refused_has_the_clients_name() -> None:
    with pytest.raises(Untranslatable) as raised:
        policy.settle(read(text={"format": {"type": "json_object"}}), frozenset(), "odd")

    assert raised.value.named(RESPONSES.words).field == "text.format"


# To a chat server


def test_a_chat_server_is_asked_the_same() -> None:
    request = read(
        instructions="be brief",
        input=[
            {"role": "user", "content": "hi"},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
        ],
        tools=[{"type": "function", "name": "f", "parameters": {}}],
    )
    settled, lost = policy.settle(request, OPENAI_CHAT.spoken, OPENAI_CHAT.name)

    body = msgspec.json.decode(OPENAI_CHAT.encode_request(settled, "up"))

    assert lost == ("thinking",)
    assert body["tools"] == [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "1", "tool_call_id": "a"},
    ]


# Writing


def test_a_request_is_written_with_everything() -> None:
    request = ChatRequest(
        model="m",
        messages=(
            Message("system", (TextPart("be brief"),)),
            Message("user", (TextPart("what"), ImagePart("https://x/y.png"))),
            Message(
                "assistant",
                (ThinkingPart("hm", "s"), ThinkingPart("unsigned"), TextPart("so")),
                tool_calls=(ToolUse("a", "f", "{}", "t"),),
            ),
            Message("tool", (TextPart("1"),), tool_call_id="a"),
            Message("tool", (ImagePart("data:,", "low"),), tool_call_id="b"),
            Message("assistant", (RedactedThinkingPart("r"),)),
        ),
        stream=True,
        sampling=Sampling(max_tokens=7, temperature=0, top_p=0.5, logprobs=2),
        tools=(Tool("f", "d", msgspec.Raw(b"{}")), Tool("g", strict=True)),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tool_calls=False,
        output=OutputSchema(msgspec.Raw(b"{}"), None, True),
        reasoning=Reasoning("low"),
        user="bo",
    )

    signed = {"google": {"thought_signature": "t"}}
    assert written(request) == {
        "model": "up",
        "input": [
            {
                "type": "message",
                "role": "system",
                "content": [{"type": "input_text", "text": "be brief"}],
            },
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "what"},
                    {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"},
                ],
            },
            {
                "type": "reasoning",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": "hm"}],
                "encrypted_content": "s",
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "so"}],
            },
            {
                "type": "function_call",
                "call_id": "a",
                "name": "f",
                "arguments": "{}",
                "extra_content": signed,
            },
            {"type": "function_call_output", "call_id": "a", "output": "1"},
            {
                "type": "function_call_output",
                "call_id": "b",
                "output": [{"type": "input_image", "image_url": "data:,", "detail": "low"}],
            },
            {"type": "reasoning", "summary": [], "encrypted_content": "r"},
        ],
        "store": False,
        "stream": True,
        "max_output_tokens": 7,
        "temperature": 0,
        "top_p": 0.5,
        "top_logprobs": 2,
        "include": ["message.output_text.logprobs"],
        "tools": [
            {
                "type": "function",
                "name": "f",
                "description": "d",
                "parameters": {},
                "strict": False,
            },
            {"type": "function", "name": "g", "parameters": None, "strict": True},
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "answer", "schema": {}, "strict": True}},
        "user": "bo",
    }


def test_what_is_written_is_read_as_the_same() -> None:
    request = read(
        input=[
            {"role": "user", "content": "hi"},
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "a", "output": "1"},
        ],
        tools=[{"type": "function", "name": "f", "parameters": {}, "strict": False}],
        tool_choice="auto",
        text={"format": {"type": "json_object"}},
        max_output_tokens=3,
    )

    assert RESPONSES.decode_request(RESPONSES.encode_request(request, "m")) == request


def test_raw_text_is_not_for_such_a_server() -> None:
    with pytest.raises(Untranslatable):
        RESPONSES.encode_request(CompletionRequest("m", "once"), "up")


# Passing on


def test_a_glance_finds_the_model_and_that_usage_is_always_told() -> None:
    head = RESPONSES.peek(b'{"model":"m","stream":true,"input":[]}')

    assert (head.model, head.stream, head.include_usage) == ("m", True, True)


@pytest.mark.parametrize("usage", [True, False])
def test_only_the_name_of_the_model_is_changed(usage: bool) -> None:
    body = b'{"model":"m","stream":true,"store":true,"previous_response_id": "r", "input":[ 1 ]}'

    sent = RESPONSES.forward(body, "up", usage=usage, amend=RESPONSES.amend)

    assert sent == (
        b'{"model":"up","stream":true,"store":true,"previous_response_id":"r","input":[ 1 ]}'
    )


def test_no_frame_only_reports_usage() -> None:
    frame = b'data: {"type":"response.completed","response":{"usage":{"input_tokens":1}}}\n\n'

    assert RESPONSES.without_usage(frame) == frame
