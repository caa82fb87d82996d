"""What errors must not quote, found in whatever way a server quotes it."""

from __future__ import annotations

import msgspec
import pytest

from proxy.config.hidden import hidden_texts
from proxy.config.modelconfig import ProviderConfig


def shown(said: str, instruction: str = "", **settings: object) -> str:
    """What is left of a server's words."""
    provider = ProviderConfig("p", "P", "k", msgspec.Raw(msgspec.json.encode(settings)), ())
    for text in hidden_texts([provider], instruction).of("p"):
        said = said.replace(text, "***")
    return said


INSTRUCTION = 'Answer in Latin, say "salve" first.\nNever mention the project Björn.'
TWICE = msgspec.json.encode(msgspec.json.encode(INSTRUCTION).decode()).decode()


@pytest.mark.parametrize(
    "said",
    [
        INSTRUCTION,
        INSTRUCTION.replace("\n", " "),
        repr(INSTRUCTION),
        ascii(INSTRUCTION).replace(r"\xf6", r"\u00f6"),
        msgspec.json.encode(INSTRUCTION).decode(),
        TWICE,
        TWICE.replace("ö", r"\\u00f6"),
    ],
)
def test_an_instruction_is_found_however_it_is_quoted(said: str) -> None:
    left = shown(said, INSTRUCTION)

    assert not {"Latin", "Answer", "Never", "project", "rn."} & set(left.split())


def test_of_an_instruction_that_is_cut_off_little_is_left() -> None:
    instruction = "The quick brown fox jumps over the lazy dog, twice a day, whatever it is told."

    for end in range(len(instruction)):
        assert len(shown(instruction[:end], instruction).replace("*", "").strip()) < 40


def test_an_address_in_an_instruction_hides_nothing_of_the_rest() -> None:
    instruction = "Read https://wiki.example/rules before you speak to anybody at all."

    left = shown("got: Read [url] before you speak to anybody at all.", instruction)

    assert left == "got: Read [url] ***"


def test_short_texts_are_hidden_beside_their_keys_alone() -> None:
    said = 'bob: {"user":"bob"}, {"user": "bob"}, {\'user\': \'bob\'}, "{\\"user\\":\\"bob\\"}"'

    assert shown(said, user="bob") == 'bob: {***}, {***}, {***}, "{***}"'


def test_texts_of_settings_are_hidden_and_words_of_addresses_are_not() -> None:
    settings = {"user": "team-platform", "endpoint": "https://h.example/v1/messages"}

    assert shown("messages: no such user team-platform", **settings) == (
        "messages: no such user ***"
    )
