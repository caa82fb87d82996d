"""A chat server asked to continue a text."""

from __future__ import annotations

import msgspec
import pytest

from parsers.chat import ChatRequest, CompletionRequest, Message, Sampling, TextPart
from parsers.dialects.base import Untranslatable
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.prompt_chat import (
    PROMPT_CHAT,
    SELF_HOSTED_PROMPT_CHAT,
    TGI_PROMPT_CHAT,
    PromptChat,
)

LIMITS = pytest.mark.parametrize(
    ("dialect", "limit"),
    [
        (PROMPT_CHAT, "max_completion_tokens"),
        (SELF_HOSTED_PROMPT_CHAT, "max_tokens"),
        (TGI_PROMPT_CHAT, "max_tokens"),
    ],
)
BOTH = pytest.mark.parametrize("dialect", [PROMPT_CHAT, TGI_PROMPT_CHAT])


def prompt(**members: object) -> CompletionRequest:
    return msgspec.structs.replace(CompletionRequest(model="asked", prompt="def f("), **members)


@LIMITS
def test_the_text_becomes_the_one_message(dialect: PromptChat, limit: str) -> None:
    request = prompt(
        stream=True,
        include_usage=True,
        sampling=Sampling(max_tokens=5, temperature=0, stop=("\n",)),
        user="u",
    )

    body = dialect.encode_request(request, "upstream")

    assert msgspec.json.decode(body) == {
        "model": "upstream",
        "messages": [{"role": "user", "content": "def f("}],
        limit: 5,
        "temperature": 0,
        "stop": ["\n"],
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "u",
    }


@BOTH
@pytest.mark.parametrize(("field", "value"), [("suffix", "}"), ("echo", True)])
def test_what_a_conversation_cannot_say_is_refused(
    dialect: PromptChat, field: str, value: object
) -> None:
    with pytest.raises(Untranslatable, match=f'"{field}" cannot be expressed to a chat server'):
        dialect.encode_request(prompt(**{field: value}), "m")


@BOTH
def test_a_conversation_stays_one(dialect: PromptChat) -> None:
    request = ChatRequest(model="m", messages=(Message("user", (TextPart("hi"),)),))

    assert dialect.encode_request(request, "m") == OPENAI_CHAT.encode_request(request, "m")


def test_tgi_gets_its_amendments() -> None:
    request = prompt(sampling=Sampling(top_p=1.0))

    assert b"top_p" in PROMPT_CHAT.encode_request(request, "m")
    assert b"top_p" not in TGI_PROMPT_CHAT.encode_request(request, "m")


@BOTH
def test_no_client_speaks_it(dialect: PromptChat) -> None:
    assert dialect.name != OPENAI_CHAT.name
