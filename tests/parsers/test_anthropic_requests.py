"""Anthropic's requests: from its clients, and to its servers."""

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
    Part,
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
from parsers.dialects.anthropic import ANTHROPIC, request_members
from parsers.dialects.base import Members, Untranslatable
from parsers.dialects.client_input import decode
from parsers.errors import BadPayload

HI = Message("user", (TextPart("hi"),))
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}')
NEW, OLD = "claude-opus-4-8", "claude-sonnet-4-5-20250929"


def asked(*messages: object, **members: object) -> ChatRequest:
    """What a client's request means."""
    body = {"model": "m", "max_tokens": 9, "messages": list(messages), **members}
    return ANTHROPIC.decode_request(msgspec.json.encode(body))


def user(*blocks: object) -> dict[str, object]:
    return {"role": "user", "content": list(blocks)}


def complaint(*messages: object, **members: object) -> str:
    with pytest.raises(BadPayload) as raised:
        asked(*messages, **members)
    return str(raised.value)


def sent(*messages: Message, model: str = NEW, **members: Any) -> dict[str, Any]:
    """What a server is sent."""
    request = ChatRequest("m", messages or (HI,), **members)
    wire: dict[str, Any] = msgspec.json.decode(ANTHROPIC.encode_request(request, model))
    return wire


# Peeking and forwarding


def test_a_peek_finds_model_and_stream() -> None:
    head = ANTHROPIC.peek(b'{"model":"m","stream":true,"messages":[]}')

    assert (head.model, head.stream) == ("m", True)


@pytest.mark.parametrize("body", [b"", b"[]", b'{"model":1}', b'{"stream":"yes"}', b"{"])
def test_a_bad_envelope_is_refused(body: bytes) -> None:
    with pytest.raises(BadPayload):
        ANTHROPIC.peek(body)


def test_a_request_is_forwarded_with_nothing_changed_but_the_model() -> None:
    def nothing(members: Members) -> None:
        """As it is."""

    body = b'{"messages": [ {"x":1.0} ], "model":"m", "new_thing": {"a" :1}}'

    out = ANTHROPIC.forward(body, "up", usage=True, amend=nothing)

    assert out == b'{"messages":[ {"x":1.0} ],"model":"up","new_thing":{"a" :1}}'
    assert ANTHROPIC.without_usage(b"data: x\n\n") == b"data: x\n\n"


# From a client


def test_a_whole_request_is_understood() -> None:
    request = asked(
        {"role": "user", "content": "hi"},
        system=[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        stream=True,
        temperature=0,
        top_p=0.5,
        top_k=3,
        stop_sequences=["END"],
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        tool_choice={"type": "tool", "name": "f", "disable_parallel_tool_use": True},
        output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}},
        metadata={"user_id": "u"},
        thinking={"type": "enabled", "budget_tokens": 2048},
    )

    assert request == ChatRequest(
        model="m",
        messages=(Message("system", (TextPart("Be brief."), TextPart("Be kind."))), HI),
        stream=True,
        include_usage=True,
        sampling=Sampling(max_tokens=9, temperature=0, top_p=0.5, top_k=3, stop=("END",)),
        tools=(Tool("f", "d", msgspec.Raw(b'{"type":"object"}')),),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tool_calls=False,
        output=OutputSchema(msgspec.Raw(b'{"type":"object"}')),
        reasoning=Reasoning(budget=2048),
        user="u",
    )


def test_results_of_tools_are_messages_of_their_own_before_what_else_is_said() -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "eA=="}
    picture = {"type": "image", "source": source}
    request = asked(
        user(
            {"type": "tool_result", "tool_use_id": "a", "content": "1"},
            {"type": "text", "text": "so?"},
            {"type": "tool_result", "tool_use_id": "b", "is_error": True, "content": [picture]},
            {"type": "tool_result", "tool_use_id": "c"},
        )
    )

    assert request.messages == (
        Message("tool", (TextPart("1"),), tool_call_id="a"),
        Message(
            "tool", (ImagePart("data:image/png;base64,eA=="),), tool_call_id="b", is_error=True
        ),
        Message("tool", (TextPart(""),), tool_call_id="c"),
        Message("user", (TextPart("so?"),)),
    )


def test_the_models_own_turns_keep_thoughts_and_calls() -> None:
    request = asked(
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
                {"type": "thinking", "thinking": "so", "signature": ""},
                {"type": "redacted_thinking", "data": "eA=="},
                {"type": "text", "text": "Well"},
                {"type": "tool_use", "id": "a", "name": "f", "input": {"x": [1, 2]}},
            ],
        }
    )

    assert request.messages == (
        Message(
            "assistant",
            (
                ThinkingPart("Hm", "c2ln"),
                ThinkingPart("so"),
                RedactedThinkingPart("eA=="),
                TextPart("Well"),
            ),
            tool_calls=(ToolUse("a", "f", '{"x":[1,2]}'),),
        ),
    )


@pytest.mark.parametrize(
    ("source", "url"),
    [
        (
            {"type": "base64", "media_type": "image/png", "data": "eA=="},
            "data:image/png;base64,eA==",
        ),
        ({"type": "url", "url": "https://x/y.png"}, "https://x/y.png"),
    ],
)
def test_pictures_are_told_by_their_address(source: object, url: str) -> None:
    (message,) = asked(user({"type": "image", "source": source})).messages

    assert message.parts == (ImagePart(url),)


@pytest.mark.parametrize(
    ("wire", "meant"),
    [
        ({"type": "auto"}, ToolChoice("auto")),
        ({"type": "any"}, ToolChoice("required")),
        ({"type": "none"}, ToolChoice("none")),
        ({"type": "tool", "name": "f"}, ToolChoice("tool", "f")),
    ],
)
def test_choices_of_tools(wire: object, meant: ToolChoice) -> None:
    request = asked({"role": "user", "content": "hi"}, tool_choice=wire)

    assert (request.tool_choice, request.parallel_tool_calls) == (meant, None)


@pytest.mark.parametrize(
    ("members", "meant"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, Reasoning(budget=1024)),
        ({"thinking": {"type": "adaptive"}}, Reasoning()),
        ({"thinking": {"type": "disabled"}}, None),
        ({"output_config": {"effort": "high"}}, Reasoning("high")),
        (
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
            Reasoning("low"),
        ),
        ({}, None),
    ],
)
def test_how_much_to_think(members: dict[str, object], meant: Reasoning | None) -> None:
    assert asked({"role": "user", "content": "hi"}, **members).reasoning == meant


def test_hints_are_passed_over_by_name_and_unheard_of_ones_together() -> None:
    block = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}}
    unheard = {"frobnicate": 1, "grok": "x", "empty": [], "absent": None}

    request = asked(user(block), service_tier="auto", container="c", **unheard)

    assert request.passed_over == ("service_tier", "container", "other", "cache_control")


@pytest.mark.parametrize(
    ("block", "place"),
    [
        ({"type": "document", "source": {"type": "text"}}, "messages[0].content[0].type"),
        ({"type": "image", "source": {"type": "file"}}, "messages[0].content[0].source.type"),
        ({"type": "image"}, "messages[0].content[0].source"),
        ({"type": "text"}, "messages[0].content[0].text"),
        ({"type": "tool_result"}, "messages[0].content[0].tool_use_id"),
        (
            {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "search_result"}]},
            "messages[0].content[0].content[0].type",
        ),
    ],
)
def test_blocks_that_cannot_be_told_are_refused_by_their_place(block: object, place: str) -> None:
    assert complaint(user(block)).startswith(f"{place}: ")


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"mcp_servers": [{"url": "https://x"}]}, "mcp_servers"),
        ({"inference_geo": "us"}, "inference_geo"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "x"}}, "tool_choice.type"),
        ({"temperature": "hot"}, "temperature"),
        ({"output_config": {"format": {"type": "x"}}}, "output_config.format.type"),
    ],
)
def test_terms_that_cannot_be_met_are_refused_by_name(
    members: dict[str, object], place: str
) -> None:
    assert complaint({"role": "user", "content": "hi"}, **members).startswith(f"{place}: ")


def test_a_system_message_in_the_middle_is_one() -> None:
    assert asked({"role": "system", "content": "Be kind."}).messages == (
        Message("system", (TextPart("Be kind."),)),
    )


def test_an_empty_list_of_servers_is_no_term() -> None:
    assert asked({"role": "user", "content": "hi"}, mcp_servers=[]).passed_over == ()


# To a server


def test_a_request_is_written_like_this() -> None:
    request = ChatRequest(
        "m",
        (Message("system", (TextPart("Be brief."),)), HI),
        stream=True,
        sampling=Sampling(max_tokens=9, temperature=1.5, top_k=3, stop=("END", " ")),
        tools=(Tool("f", "d", SCHEMA, strict=True), Tool("g")),
        tool_choice=ToolChoice("required"),
        parallel_tool_calls=False,
        output=OutputSchema(SCHEMA, "answer"),
        user="u",
    )

    assert msgspec.json.decode(ANTHROPIC.encode_request(request, "up")) == {
        "model": "up",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 9,
        "temperature": 1,
        "top_k": 3,
        "stop_sequences": ["END"],
        "stream": True,
        "tools": [
            {
                "name": "f",
                "description": "d",
                "input_schema": msgspec.json.decode(SCHEMA),
                "strict": True,
            },
            {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": msgspec.json.decode(SCHEMA)}},
        "metadata": {"user_id": "u"},
    }


def test_the_members_can_be_had_without_their_envelope() -> None:
    members = request_members(ChatRequest("m", (HI,), stream=True), "up")

    assert sorted(members) == ["messages", "model", "stream"]


def test_raw_text_is_a_conversation_of_one_message() -> None:
    members = request_members(CompletionRequest("m", "once"), "up")

    assert bytes(members["messages"]) == b'[{"role":"user","content":"once"}]'


def test_system_texts_come_first_wherever_they_stood() -> None:
    wire = sent(
        Message("system", (TextPart("A"),)),
        HI,
        Message("developer", (TextPart("B"), TextPart(" "))),
    )

    assert wire["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert wire["messages"] == [{"role": "user", "content": "hi"}]


def test_neighbours_are_one_turn_with_the_results_of_tools_first() -> None:
    call = Message("assistant", (), tool_calls=(ToolUse("a.b", "f", ""), ToolUse("c", "f", "[]")))
    wire = sent(
        HI,
        call,
        Message("user", (TextPart("wait"),)),
        Message("tool", (TextPart("1"),), tool_call_id="a.b"),
        Message("tool", (TextPart(""),), tool_call_id="c", is_error=True),
    )

    assert wire["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a_b", "name": "f", "input": {}},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"_raw": "[]"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a_b", "content": "1"},
                {"type": "tool_result", "tool_use_id": "c", "is_error": True},
                {"type": "text", "text": "wait"},
            ],
        },
    ]


def test_blank_texts_and_turns_without_anything_are_not_sent() -> None:
    wire = sent(
        HI,
        Message("assistant", (TextPart(""),)),
        Message("user", (TextPart(" \n"), TextPart("so?"))),
        Message("assistant", (TextPart("Well, \n"),)),
    )

    assert wire["messages"] == [
        {
            "role": "user",
            "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": "so?"}],
        },
        {"role": "assistant", "content": "Well,"},
    ]


def test_thoughts_go_back_with_their_signature_or_not_at_all() -> None:
    thoughts: tuple[Part, ...] = (
        ThinkingPart("Hm", "c2ln"),
        ThinkingPart("unsigned"),
        RedactedThinkingPart("eA=="),
    )
    wire = sent(HI, Message("assistant", (*thoughts, TextPart("x"))))

    assert wire["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "eA=="},
        {"type": "text", "text": "x"},
    ]


@pytest.mark.parametrize(
    ("url", "source"),
    [
        (
            "data:image/png;base64,eA==",
            {"type": "base64", "media_type": "image/png", "data": "eA=="},
        ),
        ("https://x/y", {"type": "url", "url": "https://x/y"}),
    ],
)
def test_pictures_are_sent_whole_or_by_their_address(url: str, source: object) -> None:
    wire = sent(Message("user", (ImagePart(url),)))

    assert wire["messages"][0]["content"] == [{"type": "image", "source": source}]


@pytest.mark.parametrize("url", ["data:image/svg+xml,<svg/>", "gs://bucket/x", ""])
def test_a_picture_of_another_kind_is_untranslatable(url: str) -> None:
    with pytest.raises(Untranslatable):
        sent(Message("user", (ImagePart(url),)))
    with pytest.raises(Untranslatable):
        sent(Message("system", (ImagePart("https://x/y"),)))


def test_json_without_a_schema_is_untranslatable_in_the_clients_words() -> None:
    with pytest.raises(Untranslatable) as raised:
        sent(output=OutputSchema())

    assert raised.value.field == "response_format"
    assert raised.value.named(ANTHROPIC.words).field == "output_config.format"


@pytest.mark.parametrize(
    ("sampling", "members"),
    [
        (Sampling(temperature=0.2, top_p=0.9), {"temperature": 0.2}),
        (Sampling(top_p=0.9), {"top_p": 0.9}),
        (Sampling(top_p=-1, top_k=-1), {}),
        (Sampling(temperature=0), {"temperature": 0}),
        (Sampling(stop=("\n",)), {}),
    ],
)
def test_sampling_is_what_every_model_takes(sampling: Sampling, members: dict[str, object]) -> None:
    wire = sent(sampling=sampling)

    assert {name: wire[name] for name in wire if name not in ("model", "messages")} == members


@pytest.mark.parametrize(
    ("schema", "wire"),
    [(b"{}", {"type": "object", "properties": {}}), (b"[]", [])],
)
def test_an_empty_schema_is_an_empty_object_and_another_value_is_left_to_the_server(
    schema: bytes, wire: object
) -> None:
    (tool,) = sent(tools=(Tool("f", None, msgspec.Raw(schema)),))["tools"]

    assert tool["input_schema"] == wire


def test_a_tools_schema_says_that_it_is_of_an_object() -> None:
    (tool,) = sent(tools=(Tool("f", None, msgspec.Raw(b'{"properties":{"a":{}}}')),))["tools"]

    assert tool["input_schema"] == {"type": "object", "properties": {"a": {}}}


@pytest.mark.parametrize(
    ("members", "wire"),
    [
        ({"tool_choice": ToolChoice("none")}, {"type": "none"}),
        ({"tool_choice": ToolChoice("tool", "f")}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
        ({"tool_choice": ToolChoice("none"), "parallel_tool_calls": False}, {"type": "none"}),
    ],
)
def test_which_tools_to_call(members: dict[str, Any], wire: object) -> None:
    assert sent(tools=(Tool("f"),), **members).get("tool_choice") == wire
    assert "tool_choice" not in sent(**members)


@pytest.mark.parametrize(
    ("reasoning", "model", "limit", "thinking", "effort"),
    [
        (Reasoning(budget=2000), OLD, 9, {"type": "enabled", "budget_tokens": 2000}, None),
        (Reasoning("high", 2000), NEW, 9, {"type": "enabled", "budget_tokens": 2000}, "high"),
        (Reasoning(), NEW, 9, {"type": "adaptive"}, None),
        (Reasoning("none"), OLD, 9, {"type": "disabled"}, None),
        (Reasoning("minimal"), NEW, 9, {"type": "adaptive"}, "low"),
        (Reasoning("high"), "arn:aws:x", 9, {"type": "adaptive"}, "high"),
        (Reasoning("low"), OLD, None, {"type": "enabled", "budget_tokens": 2048}, None),
        (Reasoning("high"), OLD, 4096, {"type": "enabled", "budget_tokens": 2048}, None),
        (Reasoning("high"), OLD, 1000, None, None),
        (Reasoning("invented"), OLD, None, None, None),
        (None, NEW, None, None, None),
    ],
)
def test_how_much_to_think_is_said_as_the_model_understands_it(
    reasoning: Reasoning | None,
    model: str,
    limit: int | None,
    thinking: object,
    effort: str | None,
) -> None:
    wire = sent(model=model, reasoning=reasoning, sampling=Sampling(max_tokens=limit))

    assert wire.get("thinking") == thinking
    assert wire.get("output_config", {}).get("effort") == effort


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("claude-3-7-sonnet-latest", True),
        ("claude-sonnet-4-20250514", True),
        ("claude-opus-4-1-20250805", True),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", True),
        ("claude-sonnet-4-5@20250929", True),
        ("claude-opus-4-5", True),
        ("claude-opus-4-6", False),
        ("claude-opus-4-10", False),
        ("claude-sonnet-5", False),
        ("claude-mythos-preview", False),
    ],
)
def test_old_models_are_told_a_budget_and_others_an_effort(name: str, *, budget: bool) -> None:
    thinking = sent(model=name, reasoning=Reasoning("high"))["thinking"]

    assert (thinking["type"] == "enabled") is budget


def test_an_effort_gives_way_to_what_an_old_model_would_refuse_beside_it() -> None:
    lost = (HI, Message("assistant", (), tool_calls=(ToolUse("a", "f", "{}"),)))
    forced: dict[str, Any] = {"tools": (Tool("f"),), "tool_choice": ToolChoice("required")}

    assert "thinking" not in sent(*lost, model=OLD, reasoning=Reasoning("high"))
    assert "thinking" not in sent(model=OLD, reasoning=Reasoning("high"), **forced)


def test_a_model_that_thinks_is_not_told_how_to_draw_tokens() -> None:
    sampling = Sampling(max_tokens=9, temperature=0.5, top_p=0.5, top_k=3)

    wire = sent(reasoning=Reasoning(), sampling=sampling)

    assert {"temperature", "top_p", "top_k"}.isdisjoint(wire)
    assert sent(reasoning=Reasoning("none"), sampling=sampling)["temperature"] == 0.5


def test_everything_a_client_can_say_is_spoken() -> None:
    request = asked(
        user({"type": "image", "source": {"type": "url", "url": "https://x/y"}}),
        top_k=3,
        top_p=0.5,
        temperature=1,
        stop_sequences=["x"],
        thinking={"type": "adaptive"},
        tools=[{"name": "f"}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        metadata={"user_id": "u"},
    )

    assert policy.settle(request, ANTHROPIC.spoken, ANTHROPIC.name) == (request, ())


# There and back

_WORDS = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=5)
_IDS = st.from_regex(r"[a-zA-Z0-9_-]{1,8}", fullmatch=True)
_URLS = st.sampled_from(["https://x/y.png", "data:image/png;base64,eA=="])
_SHOWN = st.lists(
    st.builds(TextPart, _WORDS) | st.builds(ImagePart, _URLS), min_size=1, max_size=2
).map(tuple)
_THOUGHTS = st.lists(
    st.builds(ThinkingPart, _WORDS, _WORDS) | st.builds(RedactedThinkingPart, _WORDS), max_size=2
).map(tuple)
_USES = st.builds(
    ToolUse,
    _IDS,
    _WORDS,
    st.dictionaries(_WORDS, _WORDS, max_size=2).map(
        lambda each: msgspec.json.encode(each).decode()
    ),
)
_TOOLS = st.builds(Tool, _WORDS, st.none() | _WORDS, st.just(SCHEMA), st.sampled_from([None, True]))
_LIMITED = st.builds(Sampling, max_tokens=st.integers(1, 9))


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns that alternate, as Anthropic has them."""
    messages: list[Message] = []
    if draw(st.booleans()):
        messages.append(Message("system", (TextPart(draw(_WORDS)),)))
    for _ in range(draw(st.integers(1, 3))):
        uses = tuple(draw(st.lists(_USES, max_size=2)))
        results = [Message("tool", draw(_SHOWN), tool_call_id=use.id) for use in uses]
        messages.append(Message("user", draw(_SHOWN)))
        said = (*draw(_THOUGHTS), TextPart(draw(_WORDS)))
        messages.append(Message("assistant", said, tool_calls=uses))
        messages += results
    return tuple(messages)


@given(
    st.builds(
        ChatRequest,
        st.just("m"),
        conversations(),
        stream=st.booleans(),
        include_usage=st.just(True),
        sampling=_LIMITED,
        tools=st.lists(_TOOLS, min_size=1, max_size=2).map(tuple),
        tool_choice=st.sampled_from([None, ToolChoice("auto"), ToolChoice("required")]),
        output=st.sampled_from([None, OutputSchema(SCHEMA)]),
        reasoning=st.sampled_from([None, Reasoning(), Reasoning("high"), Reasoning(budget=1024)]),
        user=st.none() | _WORDS,
    )
)
def test_a_request_there_and_back_is_the_same(request: ChatRequest) -> None:
    """But for results of tools, which come before what the user says in the same turn."""
    body = ANTHROPIC.encode_request(request, "m")

    again = ANTHROPIC.decode_request(body)

    assert msgspec.json.decode(ANTHROPIC.encode_request(again, "m")) == msgspec.json.decode(body)
    assert again == request


_MEMBERS: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


@given(st.binary(max_size=40) | st.sampled_from([b'{"messages":[{}]}', b'{"messages":{}}']))
def test_any_bytes_are_a_request_or_bad_input(body: bytes) -> None:
    try:
        ANTHROPIC.decode_request(body)
    except BadPayload:
        return
    decode(_MEMBERS, body)
