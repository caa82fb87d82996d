"""OpenAI chat requests: read, written, and passed on."""

from __future__ import annotations

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
from parsers.dialects.base import Members, RequestHead, Untranslatable
from parsers.dialects.openai import OPENAI_CHAT, SELF_HOSTED_CHAT, OpenAIChat
from parsers.errors import BadPayload


def read(members: bytes, messages: bytes = b"[]") -> ChatRequest:
    return OPENAI_CHAT.decode_request(b'{"model":"m","messages":%b%b}' % (messages, members))


def forwarded(body: bytes, *, usage: bool = False) -> bytes:
    return OPENAI_CHAT.forward(body, "up", usage=usage, amend=OPENAI_CHAT.amend)


# Reading


def test_a_request_with_everything_is_read() -> None:
    request = OPENAI_CHAT.decode_request(
        b"""{
        "model": "m", "stream": true, "stream_options": {"include_usage": true},
        "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "name": "bo", "content": [
                {"type": "text", "text": "what is this"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "image_url", "image_url": "data:image/png;base64,AA=="}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "42"},
            {"role": "assistant", "content": null, "refusal": "no"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "never"}]}],
        "max_completion_tokens": 7, "max_tokens": 9, "temperature": 0, "top_p": 1, "top_k": 5,
        "typical_p": 0.5, "repetition_penalty": 1.5, "stop": ["a", "b"], "seed": 1, "n": 2,
        "presence_penalty": 0.0, "frequency_penalty": -1, "logprobs": true, "top_logprobs": 3,
        "tools": [
            {"type": "function", "function": {"name": "f", "description": "d",
                "parameters": { "type": "object" }, "strict": true}},
            {"type": "function", "function": {"name": "g", "parameters": null}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": false,
        "response_format": {"type": "json_schema",
            "json_schema": {"name": "s", "schema": {"a": 1.0}, "strict": false}},
        "user": "u", "reasoning_effort": "low",
        "metadata": {"a": "hint"}, "nobody_knows": 1, "nor_this": 1, "seed_of": null}"""
    )

    assert request == ChatRequest(
        model="m",
        stream=True,
        include_usage=True,
        messages=(
            Message("developer", (TextPart("be brief"),)),
            Message(
                "user",
                (
                    TextPart("what is this"),
                    ImagePart("https://x/y.png", "low"),
                    ImagePart("data:image/png;base64,AA=="),
                ),
                name="bo",
            ),
            Message("assistant", tool_calls=(ToolUse("c", "f", "{"),)),
            Message("tool", (TextPart("42"),), tool_call_id="c"),
            Message("assistant", (TextPart("no"),)),
            Message("assistant", (TextPart("never"),)),
        ),
        sampling=Sampling(
            max_tokens=7,
            temperature=0,
            top_p=1,
            top_k=5,
            typical_p=0.5,
            stop=("a", "b"),
            seed=1,
            choices=2,
            presence_penalty=0,
            frequency_penalty=-1,
            repetition_penalty=1.5,
            logprobs=3,
        ),
        tools=(
            Tool("f", "d", msgspec.Raw(b'{ "type": "object" }'), strict=True),
            Tool("g"),
        ),
        tool_choice=ToolChoice("tool", "f"),
        parallel_tool_calls=False,
        output=OutputSchema(msgspec.Raw(b'{"a": 1.0}'), "s", strict=False),
        reasoning=Reasoning("low"),
        user="u",
        passed_over=("metadata", "other"),
    )


def test_null_is_not_said() -> None:
    request = read(
        b',"stream":null,"stream_options":null,"max_tokens":null,"stop":null,"tools":null,'
        b'"tool_choice":null,"response_format":null,"functions":null,"n":null,"logprobs":null'
    )

    assert request == ChatRequest("m", ())


@pytest.mark.parametrize(
    ("members", "sampling"),
    [
        (b',"stop":"end"', Sampling(stop=("end",))),
        (b',"max_tokens":3', Sampling(max_tokens=3)),
        (b',"logprobs":true', Sampling(logprobs=0)),
        (b',"logprobs":false,"top_logprobs":0', Sampling()),
    ],
)
def test_sampling_has_several_spellings(members: bytes, sampling: Sampling) -> None:
    assert read(members).sampling == sampling


@pytest.mark.parametrize("mode", ["auto", "none", "required"])
def test_tool_choice_may_be_a_word(mode: str) -> None:
    choice = read(b',"tool_choice":"%b"' % mode.encode()).tool_choice

    assert choice is not None
    assert (choice.mode, choice.name) == (mode, None)


HINTS = [
    *("logit_bias", "service_tier", "metadata", "store", "prediction", "safety_identifier"),
    *("prompt_cache_key", "verbosity", "chat_template_kwargs", "min_p", "provider"),
]


@pytest.mark.parametrize("name", HINTS)
def test_a_hint_without_a_word_in_the_hub_is_told_by_its_name(name: str) -> None:
    assert read(b',"%b":{"a":1}' % name.encode()).passed_over == (name,)


@pytest.mark.parametrize("value", [b"null", b"false", b"{}", b"[]", b'""'])
def test_a_hint_that_says_nothing_is_not_told(value: bytes) -> None:
    assert read(b',"metadata":%b' % value).passed_over == ()


TERMS = [
    *("functions", "function_call", "audio", "web_search_options", "guided_regex"),
    *("guided_choice", "guided_grammar", "structured_outputs", "grammar", "stop_token_ids"),
    *("documents", "continue_final_message"),
]


@pytest.mark.parametrize("name", TERMS)
def test_a_term_without_a_word_in_the_hub_is_refused_by_its_name(name: str) -> None:
    assert read(b',"%b":null' % name.encode()) == ChatRequest("m", ())
    with pytest.raises(BadPayload, match=f"^{name}: not supported for this model$"):
        read(b',"%b":["x"]' % name.encode())


def test_text_is_the_only_modality() -> None:
    assert read(b',"modalities":["text"]') == ChatRequest("m", ())
    with pytest.raises(BadPayload, match=r"^modalities: only text is supported"):
        read(b',"modalities":["text","audio"]')


@pytest.mark.parametrize(
    ("members", "reasoning"),
    [
        (b',"reasoning_effort":"high"', Reasoning("high")),
        (b',"reasoning":{"effort":"low","exclude":true}', Reasoning("low")),
        (b',"reasoning":{"max_tokens":2000}', Reasoning(budget=2000)),
        (b',"reasoning":{"enabled":true}', None),
        (b',"reasoning_effort":"high","reasoning":{"max_tokens":1}', Reasoning("high")),
        (b',"think":"medium"', Reasoning("medium")),
        (b',"think":false', Reasoning("none")),
        (b',"think":true', None),
        (b',"chat_template_kwargs":{"enable_thinking":false}', Reasoning("none")),
        (b',"chat_template_kwargs":{"enable_thinking":true}', None),
    ],
)
def test_how_much_to_think_has_several_spellings(
    members: bytes, reasoning: Reasoning | None
) -> None:
    assert read(members).reasoning == reasoning


def test_a_schema_has_an_older_word() -> None:
    schema = msgspec.Raw(b'{"type":"object"}')

    assert read(b',"guided_json":{"type":"object"}').output == OutputSchema(schema)


SIGNED = b'"thinking_blocks":[{"type":"thinking","thinking":"a","signature":"s"},'
REDACTED = b'{"type":"redacted_thinking","data":"r"}]'


@pytest.mark.parametrize(
    ("thoughts", "parts"),
    [
        (b'"reasoning_content":"a"', (ThinkingPart("a"),)),
        (b'"reasoning":"a"', (ThinkingPart("a"),)),
        (
            b'"reasoning_content":"a",' + SIGNED + REDACTED,
            (ThinkingPart("a", "s"), RedactedThinkingPart("r")),
        ),
        (b'"thinking_blocks":[{"type":"odd"}]', ()),
        (b'"reasoning":{"odd":1}', ()),
    ],
)
def test_reasoning_of_earlier_turns_comes_before_what_was_said(
    thoughts: bytes, parts: tuple[ThinkingPart | RedactedThinkingPart, ...]
) -> None:
    said = b'{"role":"assistant","content":"b",%b}'
    (message,) = read(b"", b"[%b]" % (said % thoughts)).messages

    assert message == Message("assistant", (*parts, TextPart("b")))


def test_the_signature_of_a_call_is_read_and_written() -> None:
    use = (
        b'{"id":"c","type":"function","function":{"name":"f","arguments":"{}"},'
        b'"extra_content":{"google":{"thought_signature":"s"}}}'
    )
    request = read(b"", b'[{"role":"assistant","content":null,"tool_calls":[%b]}]' % use)

    assert request.messages[0].tool_calls == (ToolUse("c", "f", "{}", "s"),)
    assert use in OPENAI_CHAT.encode_request(request, "m")


def test_what_a_tool_answered_may_have_parts() -> None:
    said = b'{"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"1"}]}'

    assert read(b"", b"[%b]" % said).messages == (
        Message("tool", (TextPart("1"),), tool_call_id="c"),
    )


def test_the_answers_form_may_be_free() -> None:
    assert read(b',"response_format":{"type":"text"}').output is None
    assert read(b',"response_format":{"type":"json_object"}').output == OutputSchema()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the request body is not valid JSON"),
        (b"{", "the request body is not valid JSON"),
        (b'{"x":' + b"[" * 100_000, "the request body is not valid JSON"),
        (b"[1]", "the request body: expected `object`, got `array`"),
        (b"{}", "the request body: object missing required field `messages`"),
        (b'{"messages":[{"role":7}]}', "messages[0].role: expected `str`, got `int`"),
        (b'{"messages":[{"role":"SECRET"}]}', "messages[0].role: not a valid value"),
        (b'{"messages":[],"n":"SECRET"}', "n: expected `int | null`, got `str`"),
        (b'{"messages":[],"tools":[{"type":"SECRET"}]}', "tools[0].type: not a valid value"),
        (b'{"messages":[],"functions":[]}', "functions: not supported for this model"),
        (b'{"messages":[],"audio":{}}', "audio: not supported for this model"),
        (
            b'{"messages":[{"role":"user","content":[{"type":"SECRET"}]}]}',
            "messages[0].content[0].type: only text and image_url are supported for this model",
        ),
        (
            b'{"messages":[{"role":"user","content":[{"type":"text"}]}]}',
            "messages[0].content[0]: missing the member that its type names",
        ),
        (
            b'{"messages":[],"response_format":{"type":"json_schema"}}',
            "response_format.json_schema: missing its schema",
        ),
        (
            b'{"messages":[],"response_format":{"type":"json_schema","json_schema":{}}}',
            "response_format.json_schema: missing its schema",
        ),
        (b'{"messages":[],"temperature":1e999}', "temperature: not a valid value"),
    ],
)
def test_complaints_name_the_place_and_never_the_value(body: bytes, message: str) -> None:
    with pytest.raises(BadPayload) as raised:
        OPENAI_CHAT.decode_request(body)

    assert str(raised.value).startswith(message)
    assert "SECRET" not in str(raised.value)


# Writing


def test_a_plain_request_is_written_plainly() -> None:
    request = ChatRequest("m", (Message("user", (TextPart("hi"),)),), stream=True)

    assert OPENAI_CHAT.encode_request(request, "up") == (
        b'{"model":"up","messages":[{"role":"user","content":"hi"}],"stream":true}'
    )


def sent(*messages: Message) -> list[dict[str, object]]:
    body = msgspec.json.decode(OPENAI_CHAT.encode_request(ChatRequest("m", messages), "m"))
    found: list[dict[str, object]] = body["messages"]
    return found


def test_pictures_that_tools_answered_with_follow_all_answers_of_the_turn() -> None:
    picture = ImagePart("data:,")
    wire = {"type": "image_url", "image_url": {"url": "data:,"}}

    assert sent(
        Message("tool", (TextPart("1"), picture), tool_call_id="a"),
        Message("tool", (picture,), tool_call_id="b"),
        Message("user", (TextPart("so?"),)),
        Message("tool", (picture,), tool_call_id="c"),
    ) == [
        {"role": "tool", "content": "1", "tool_call_id": "a"},
        {"role": "tool", "content": "", "tool_call_id": "b"},
        {"role": "user", "content": [wire, wire]},
        {"role": "user", "content": "so?"},
        {"role": "tool", "content": "", "tool_call_id": "c"},
        {"role": "user", "content": [wire]},
    ]


@pytest.mark.parametrize(
    ("text", "written"), [("no file", "Error: no file"), ("error 7", "error 7"), ("", "Error: ")]
)
def test_a_tool_that_failed_is_said_to_have_failed(text: str, written: str) -> None:
    answer = Message("tool", (TextPart(text),), tool_call_id="a", is_error=True)

    assert sent(answer) == [{"role": "tool", "content": written, "tool_call_id": "a"}]


def test_reasoning_is_written_as_text_and_as_blocks_where_it_is_signed() -> None:
    plain = Message("assistant", (ThinkingPart("a"), TextPart("b")))
    signed = Message("assistant", (ThinkingPart("a", "s"), RedactedThinkingPart("r")))

    assert sent(plain, signed) == [
        {"role": "assistant", "content": "b", "reasoning_content": "a"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "a",
            "thinking_blocks": [
                {"type": "thinking", "thinking": "a", "signature": "s"},
                {"type": "redacted_thinking", "data": "r"},
            ],
        },
    ]


def test_a_server_of_ones_own_is_asked_in_older_words() -> None:
    request = ChatRequest("m", (Message("developer"),), sampling=Sampling(max_tokens=3))

    assert OPENAI_CHAT.encode_request(request, "m") == (
        b'{"model":"m","messages":[{"role":"developer","content":null}],"max_completion_tokens":3}'
    )
    assert SELF_HOSTED_CHAT.encode_request(request, "m") == (
        b'{"model":"m","messages":[{"role":"system","content":null}],"max_tokens":3}'
    )


@pytest.mark.parametrize(
    ("budget", "effort"),
    [(0, "none"), (1, "low"), (4999, "low"), (5000, "medium"), (10_000, "high"), (99_999, "high")],
)
def test_a_budget_is_written_as_an_effort(budget: int, effort: str) -> None:
    request = ChatRequest("m", (), reasoning=Reasoning(budget=budget))

    body = msgspec.json.decode(OPENAI_CHAT.encode_request(request, "m"))

    assert body["reasoning_effort"] == effort


@pytest.mark.parametrize(
    ("effort", "members"),
    [
        ("minimal", b'"reasoning_effort":"low"'),
        ("medium", b'"reasoning_effort":"medium"'),
        ("xhigh", b'"reasoning_effort":"high"'),
        ("none", b'"chat_template_kwargs":{"enable_thinking":false}'),
    ],
)
def test_a_server_of_ones_own_knows_three_levels_and_no(effort: str, members: bytes) -> None:
    request = ChatRequest("m", (), reasoning=Reasoning(effort))

    assert SELF_HOSTED_CHAT.encode_request(request, "m") == (
        b'{"model":"m","messages":[],%b}' % members
    )
    assert b'"reasoning_effort":"%b"' % effort.encode() in OPENAI_CHAT.encode_request(request, "m")


def test_one_call_at_a_time_is_said_only_where_there_are_tools() -> None:
    request = ChatRequest("m", (), parallel_tool_calls=False)

    assert b"parallel" not in OPENAI_CHAT.encode_request(request, "m")


def test_the_form_of_the_answer_is_written() -> None:
    free = ChatRequest("m", (), output=OutputSchema())
    nameless = ChatRequest("m", (), output=OutputSchema(msgspec.Raw(b"{}")))

    assert b'"response_format":{"type":"json_object"}' in OPENAI_CHAT.encode_request(free, "m")
    assert (
        b'"response_format":{"type":"json_schema","json_schema":{"name":"answer","schema":{}}}'
        in OPENAI_CHAT.encode_request(nameless, "m")
    )


def test_raw_text_is_no_conversation() -> None:
    with pytest.raises(Untranslatable, match='"prompt" cannot be expressed to a chat server'):
        OPENAI_CHAT.encode_request(CompletionRequest("m", "text"), "m")


TEXT = st.text(max_size=6)
PARTS = st.one_of(
    st.builds(TextPart, TEXT), st.builds(ImagePart, TEXT, st.none() | st.sampled_from(["low"]))
)
THOUGHTS = st.lists(
    st.builds(ThinkingPart, TEXT, TEXT.filter(bool)) | st.builds(RedactedThinkingPart, TEXT),
    max_size=2,
)
NAMES = st.none() | TEXT
SIGNATURES = st.none() | TEXT.filter(bool)
TURNS = st.builds(
    Message,
    role=st.sampled_from(["system", "developer", "user"]),
    parts=st.lists(PARTS, max_size=3).map(tuple),
    name=NAMES,
)
ASSISTANTS = st.builds(
    Message,
    role=st.just("assistant"),
    parts=st.builds(lambda *lists: (*lists[0], *lists[1]), THOUGHTS, st.lists(PARTS, max_size=3)),
    name=NAMES,
    tool_calls=st.lists(st.builds(ToolUse, TEXT, TEXT, TEXT, SIGNATURES), max_size=2).map(tuple),
)
ANSWERS = st.builds(
    Message,
    role=st.just("tool"),
    parts=st.lists(st.builds(TextPart, TEXT), min_size=1, max_size=3).map(tuple),
    tool_call_id=TEXT,
)
MESSAGES = TURNS | ASSISTANTS | ANSWERS
RAW = st.sampled_from([b"{}", b'{"a":[1.50]}', b'{ "b" : "\\u00e9" }']).map(msgspec.Raw)
FLAG = st.none() | st.booleans()
COUNT = st.none() | st.integers(0, 2**53)
NUMBER = st.none() | st.floats(-2, 2)
REQUESTS = st.builds(
    ChatRequest,
    model=st.just("m"),
    messages=st.lists(MESSAGES, max_size=3).map(tuple),
    stream=st.just(True),
    include_usage=st.booleans(),
    sampling=st.builds(
        Sampling,
        max_tokens=COUNT,
        temperature=NUMBER,
        top_p=NUMBER,
        top_k=COUNT,
        typical_p=NUMBER,
        stop=st.lists(TEXT, max_size=2).map(tuple),
        seed=COUNT,
        choices=COUNT,
        presence_penalty=NUMBER,
        frequency_penalty=NUMBER,
        repetition_penalty=NUMBER,
        logprobs=COUNT,
    ),
    tools=st.lists(st.builds(Tool, TEXT, st.none() | TEXT, st.none() | RAW, FLAG), max_size=2).map(
        tuple
    ),
    tool_choice=st.none()
    | st.builds(ToolChoice, st.sampled_from(["auto", "none", "required"]))
    | st.builds(ToolChoice, st.just("tool"), TEXT),
    parallel_tool_calls=FLAG,
    reasoning=st.none() | st.builds(Reasoning, st.sampled_from(["low", "medium", "high"])),
    output=st.none()
    | st.just(OutputSchema())
    | st.builds(OutputSchema, RAW, TEXT.filter(bool), FLAG),
    user=st.none() | TEXT,
)


@given(REQUESTS)
def test_what_is_written_is_read_back(request: ChatRequest) -> None:
    if not request.tools:
        request = msgspec.structs.replace(request, parallel_tool_calls=None)

    assert OPENAI_CHAT.decode_request(OPENAI_CHAT.encode_request(request, "m")) == request


# What the two names of one thing become, once they have been read.
FIRST_NAMES = {"max_tokens": "max_completion_tokens"}


@given(REQUESTS, st.sampled_from([OPENAI_CHAT, SELF_HOSTED_CHAT]))
def test_no_member_is_lost_between_a_client_and_a_server_that_both_know_it(
    request: ChatRequest, server: OpenAIChat
) -> None:
    asked = OPENAI_CHAT.encode_request(request, "m")

    settled, lost = policy.settle(OPENAI_CHAT.decode_request(asked), server.spoken, server.name)
    sent = server.encode_request(settled, "m")

    before, after = msgspec.json.decode(asked), msgspec.json.decode(sent)
    after = {FIRST_NAMES.get(name, name): value for name, value in after.items()}
    lost_members = {*lost} - {"thinking"}
    assert {name: value for name, value in before.items() if name not in after} == {
        name: before[name] for name in lost_members & before.keys()
    }
    for name in after.keys() - {"messages"}:
        assert after[name] == before[name]
    assert len(after["messages"]) == len(before["messages"])


# Passing on


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (b'{"model":"m"}', RequestHead("m")),
        (b'{"model":null,"stream":null,"stream_options":null}', RequestHead()),
        (b'{"model":"m","stream":true}', RequestHead("m", stream=True)),
        (
            b'{"stream":true,"stream_options":{"include_usage":true}}',
            RequestHead("", stream=True, include_usage=True),
        ),
        (b'{"stream_options":{"include_usage":null}}', RequestHead()),
        (b'{"model":"m","messages":["\\ud83d"]}', RequestHead("m")),
    ],
)
def test_peek_reads_what_routing_needs(body: bytes, head: RequestHead) -> None:
    assert msgspec.structs.replace(OPENAI_CHAT.peek(body), members=None) == head


def test_what_peek_read_need_not_be_read_again() -> None:
    body = b'{"model":"m","x":1.50,"stream":true}'
    members = OPENAI_CHAT.peek(body).members
    assert members is not None
    before = dict(members)

    again = OPENAI_CHAT.forward(b"", "up", usage=True, amend=OPENAI_CHAT.amend, members=members)

    assert again == OPENAI_CHAT.forward(body, "up", usage=True, amend=OPENAI_CHAT.amend)
    assert members == before


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'{"model":1}', b'{"stream":"yes"}'])
def test_peek_refuses_what_is_no_request(body: bytes) -> None:
    with pytest.raises(BadPayload):
        OPENAI_CHAT.peek(body)


def test_forward_changes_the_model_and_nothing_else() -> None:
    body = b'{ "model" : "m", "x": 1.50, "messages":[ {"\\u0072ole": "user"} ], "stream": true }'

    assert forwarded(body) == (
        b'{"model":"up","x":1.50,"messages":[ {"\\u0072ole": "user"} ],"stream":true}'
    )


def test_forward_names_a_model_where_the_client_named_none() -> None:
    assert forwarded(b"{}") == b'{"model":"up"}'


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (b"", b'{"include_usage":true}'),
        (b',"stream_options":null', b'{"include_usage":true}'),
        (b',"stream_options":{"include_usage":false}', b'{"include_usage":true}'),
        (b',"stream_options":{"a":1.50}', b'{"a":1.50,"include_usage":true}'),
    ],
)
def test_forward_asks_for_usage_in_streams(options: bytes, asked: bytes) -> None:
    streamed = forwarded(b'{"model":"m","stream":true%b}' % options, usage=True)

    assert streamed == b'{"model":"up","stream":true,"stream_options":%b}' % asked


def test_forward_does_not_ask_for_usage_elsewhere() -> None:
    assert forwarded(b'{"stream":false}', usage=True) == b'{"stream":false,"model":"up"}'


def test_forward_amends_last() -> None:
    def amend(members: Members) -> None:
        assert bytes(members["model"]) == b'"up"'
        del members["x"]

    assert OPENAI_CHAT.forward(b'{"x":1}', "up", usage=False, amend=amend) == b'{"model":"up"}'


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"stream":true,"stream_options":7}'])
def test_forward_refuses_what_is_no_request(body: bytes) -> None:
    with pytest.raises(BadPayload):
        forwarded(body, usage=True)


TOKEN = b'data: {"choices":[{"delta":{"content":"\\"usage\\""}}],"usage":null}\n\n'
USAGE = b'data: {"id":"x","choices":[],"usage":{"prompt_tokens":1}}\n\n'


@pytest.mark.parametrize(
    ("frames", "left"),
    [
        (TOKEN, TOKEN),
        (USAGE, b""),
        (TOKEN + USAGE + b"data: [DONE]\n\n", TOKEN + b"data: [DONE]\n\n"),
        (USAGE + TOKEN + b"data: [DONE]\n\n", TOKEN + b"data: [DONE]\n\n"),
        (USAGE + b"\n" + TOKEN + USAGE, b"\n" + TOKEN),
        (TOKEN + b"\n" + USAGE, TOKEN + b"\n"),
        (USAGE.replace(b"\n", b"\r\n"), b""),
        (b": comment\n\n" + USAGE, b": comment\n\n"),
        (b'data: {"usage": {"a":1}, "choices": null}\n\n', b""),
    ],
)
def test_usage_frames_can_be_left_out(frames: bytes, left: bytes) -> None:
    assert OPENAI_CHAT.without_usage(frames) == left


@pytest.mark.parametrize(
    "frame",
    [
        b'data: {"choices":[{"delta":{}}],"usage":{"prompt_tokens":1}}\n\n',
        b'data: {"choices":[],"usage": null,"prompt_filter_results":[]}\n\n',
        b'data: {"choices":[],"usage":{"a":1},"error":"x"}\n\n',
        b'data: not json "usage"\n\n',
        b': "usage" in a comment\n\n',
    ],
)
def test_frames_that_say_more_than_usage_stay(frame: bytes) -> None:
    assert OPENAI_CHAT.without_usage(frame) == frame


def test_the_keepalive_is_a_comment() -> None:
    assert OPENAI_CHAT.keepalive == b": keep-alive\n\n"
