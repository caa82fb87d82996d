"""Texts from outside in messages."""

from __future__ import annotations

import pytest

from proxy.config.wording import hint, listed, nearest, quoted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("mistral", '"mistral"'),
        ('a "b"', r'"a \"b\""'),
        ("two\nlines\x1b", r'"two\nlines\u001b"'),
        ("\ud800", r'"\\ud800"'),
        ("x" * 200, '"' + "x" * 100 + '..."'),
    ],
)
def test_quoted_is_one_short_printable_line(text: str, shown: str) -> None:
    assert quoted(text) == shown


def test_the_nearest_word_is_named() -> None:
    assert hint("dislayName", ["id", "displayName"]) == 'did you mean "displayName"?'


def test_all_words_are_named_where_none_is_near() -> None:
    assert hint("zebra", ["id", "url"]) == 'known: "id", "url"'


def test_no_words_at_all() -> None:
    assert hint("zebra", []) == "known: none"


def test_of_many_words_the_first_are_listed() -> None:
    assert listed([str(number) for number in range(25)]).endswith('"18", "19" and 5 more')


def test_a_word_that_must_be_very_like() -> None:
    assert nearest("penstok", ["penstock"], 0.8) == "penstock"
    assert nearest("pen", ["penstock"], 0.8) is None
