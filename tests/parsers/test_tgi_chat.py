"""Chat requests as TGI can read them."""

from __future__ import annotations

import msgspec
import pytest

from parsers.chat import ChatRequest, Message, OutputSchema, Sampling, TextPart, ToolUse
from parsers.dialects.base import Untranslatable
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.tgi_chat import TGI_CHAT
from parsers.errors import BadPayload


def amended(members: bytes) -> bytes:
    """The members after `"model"`, as they would be sent on."""
    body = OPENAI_CHAT.forward(
        b'{"model":"m",%b}' % members, "up", usage=False, amend=TGI_CHAT.amend
    )
    return body.removeprefix(b'{"model":"up"').removeprefix(b",").removesuffix(b"}")


def test_it_is_openais_dialect_under_the_same_name() -> None:
    assert TGI_CHAT.name == OPENAI_CHAT.name == "openai-chat"


@pytest.mark.parametrize(
    ("said", "sent"),
    [
        (b'"x":1.50', b'"x":1.50'),
        (b'"top_p":1', b""),
        (b'"top_p":1.0', b""),
        (b'"top_p":0.99', b'"top_p":0.99'),
        (b'"top_p":0', b'"top_p":0'),
        (b'"stop":"a\\n"', b'"stop":["a\\n"]'),
        (b'"stop":["a"]', b'"stop":["a"]'),
        (b'"presence_penalty":0.0', b""),
        (b'"presence_penalty":0.5', b'"presence_penalty":0.5'),
        (b'"temperature":null,"stream_options":null,"stop":null', b""),
        (b'"n":1', b'"n":1'),
        (b'"logit_bias":{"5":-100}', b""),
        (b'"max_completion_tokens":7', b'"max_tokens":7'),
        (b'"max_tokens":9,"max_completion_tokens":7', b'"max_tokens":7'),
        (b'"max_tokens":9,"max_completion_tokens":null', b'"max_tokens":9'),
        (b'"tools":[],"tool_choice":"auto"', b""),
        (
            b'"tools":[{"a":1.50}],"tool_choice":"auto"',
            b'"tools":[{"a":1.50}],"tool_choice":"auto"',
        ),
        (b'"response_format":{"type":"text"}', b""),
        (
            b'"response_format":{"type":"json_schema",'
            b'"json_schema":{"name":"s","strict":true,"schema":{ "a":1.50 }}}',
            b'"response_format":{"value":{"name":"s","schema":{ "a":1.50 }},"type":"json_schema"}',
        ),
        (
            b'"response_format":{"type":"json_schema","json_schema":{"schema":{}}}',
            b'"response_format":{"value":{"name":"answer","schema":{}},"type":"json_schema"}',
        ),
        (
            b'"response_format":{"type":"regex","value":"a+"}',
            b'"response_format":{"type":"regex","value":"a+"}',
        ),
        (
            b'"messages":[{"content":"","tool_calls":[1]},{"content":null,"tool_calls":[2]},'
            b'{"content":"x","tool_calls":[3]},{"content":""}]',
            b'"messages":[{"tool_calls":[1]},{"tool_calls":[2]},'
            b'{"content":"x","tool_calls":[3]},{"content":""}]',
        ),
        (b'"messages":[ {"content":""} ]', b'"messages":[ {"content":""} ]'),
    ],
)
def test_members_are_rewritten_for_tgi(said: bytes, sent: bytes) -> None:
    assert amended(said) == sent


@pytest.mark.parametrize(
    ("said", "field"),
    [
        (b'"n":2', "n"),
        (b'"response_format":{"type":"json_object"}', "response_format"),
        (b'"response_format":{"type":"json_schema"}', "response_format"),
    ],
)
def test_what_tgi_would_ignore_or_refuse_is_refused_here(said: bytes, field: str) -> None:
    with pytest.raises(BadPayload, match="cannot be expressed to a TGI server") as raised:
        amended(said)

    assert isinstance(raised.value, Untranslatable)
    assert raised.value.field == field


@pytest.mark.parametrize(
    "said",
    [
        b'"top_p":"x"',
        b'"n":[]',
        b'"tools":7',
        b'"response_format":"json"',
        b'"messages":"tool_calls"',
        b'"messages":{"tool_calls":1}',
    ],
)
def test_members_of_the_wrong_type_are_bad_input_at_their_path(said: bytes) -> None:
    path = said.partition(b":")[0].strip(b'"').decode()

    with pytest.raises(BadPayload, match=f"^{path}: expected "):
        amended(said)


def test_a_translated_request_is_rewritten_too() -> None:
    request = ChatRequest(
        "m",
        (
            Message("user", (TextPart("hi"),)),
            Message("assistant", tool_calls=(ToolUse("0", "f", "{}"),)),
        ),
        sampling=Sampling(max_tokens=5, top_p=1.0, stop=("a",), presence_penalty=0.0),
        output=OutputSchema(msgspec.Raw(b'{"properties":{}}'), "s"),
    )

    assert TGI_CHAT.encode_request(request, "adapter") == (
        b'{"model":"adapter","messages":[{"role":"user","content":"hi"},'
        b'{"role":"assistant","tool_calls":'
        b'[{"id":"0","type":"function","function":{"name":"f","arguments":"{}"}}]}],'
        b'"max_tokens":5,"stop":["a"],'
        b'"response_format":{"value":{"name":"s","schema":{"properties":{}}},'
        b'"type":"json_schema"}}'
    )


def test_several_choices_cannot_be_asked_of_tgi() -> None:
    with pytest.raises(Untranslatable):
        TGI_CHAT.encode_request(ChatRequest("m", (), sampling=Sampling(choices=2)), "m")
