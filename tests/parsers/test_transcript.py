"""A conversation as one text."""

from __future__ import annotations

import pytest

from parsers.chat import ImagePart, Message, Role, TextPart, ToolUse
from parsers.dialects.base import Untranslatable
from parsers.dialects.transcript import render


def says(role: Role, text: str) -> Message:
    return Message(role, (TextPart(text),))


def test_a_single_user_message_is_given_verbatim() -> None:
    text = render((says("user", "  def fib(n):\n"),), "TGI")

    assert text == "  def fib(n):\n"


def test_the_parts_of_a_message_are_joined() -> None:
    text = render((Message("user", (TextPart("a"), TextPart("b"))),), "TGI")

    assert text == "ab"


def test_a_conversation_ends_with_the_assistant_to_speak() -> None:
    text = render(
        (
            says("system", "Be brief."),
            says("developer", "No lists."),
            says("user", "Hi"),
            says("assistant", "Hello."),
            says("user", "Who are you?"),
        ),
        "TGI",
    )

    assert text == (
        "System: Be brief.\n\n"
        "System: No lists.\n\n"
        "User: Hi\n\n"
        "Assistant: Hello.\n\n"
        "User: Who are you?\n\n"
        "Assistant:"
    )


def test_an_answer_that_the_client_began_is_left_open() -> None:
    text = render((says("user", "Count."), says("assistant", "one, ")), "TGI")

    assert text == "User: Count.\n\nAssistant: one, "


def test_an_empty_turn_has_no_blank_at_its_end() -> None:
    text = render((says("user", "Count."), says("assistant", "")), "TGI")

    assert text == "User: Count.\n\nAssistant:"


def test_a_lone_system_message_is_a_conversation() -> None:
    assert render((says("system", "Sing."),), "TGI") == "System: Sing.\n\nAssistant:"


def test_no_messages_at_all_leave_the_assistant_to_speak() -> None:
    assert render((), "TGI") == "Assistant:"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message("user", (TextPart("see"), ImagePart("https://x/y"))), "messages[1].content[1]"),
        (Message("tool", (TextPart("7"),), tool_call_id="a"), "messages[1].role"),
        (
            Message("assistant", tool_calls=(ToolUse("a", "f", "{}"),)),
            "messages[1].tool_calls",
        ),
    ],
)
def test_what_no_text_can_carry_is_refused_by_name(message: Message, field: str) -> None:
    with pytest.raises(Untranslatable) as refused:
        render((says("user", "Hi"), message), "TGI")

    assert refused.value.field == field
    assert str(refused.value) == f'"{field}" cannot be expressed to a TGI server'
