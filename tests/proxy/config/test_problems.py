"""Collecting problems, and what they look like."""

from __future__ import annotations

import pytest

from parsers.jsonc import Positions
from proxy.config.problems import MAX_PROBLEMS, ConfigError, Problem, Problems, Source, dotted
from proxy.config.schema import EnvSecret, FileSecret

TEXT = """{
  "penstock": {
    "clients": [
      {"name": "a", "key": "hunter2"}
    ]
  }
}"""


def no_secrets(ref: EnvSecret | FileSecret) -> str:
    raise AssertionError(ref)


@pytest.fixture
def problems() -> Problems:
    return Problems(Source(Positions(TEXT), no_secrets))


def raised(problems: Problems) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as error:
        problems.raise_any()
    return error.value.problems


def test_a_problem_stands_at_the_value(problems: Problems) -> None:
    problems.add(("penstock", "clients", 0, "name"), "bad name")

    assert raised(problems) == (Problem("penstock.clients[0].name", 4, 16, "bad name"),)


def test_a_problem_stands_at_the_key_if_the_key_is_wrong(problems: Problems) -> None:
    problems.add(("penstock", "clients", 0, "name"), "unknown", at_key=True)

    assert raised(problems) == (Problem("penstock.clients[0].name", 4, 8, "unknown"),)


def test_what_is_missing_is_reported_at_what_it_is_missing_from(problems: Problems) -> None:
    problems.add(("penstock", "clients", 0, "models", 3), "missing")

    assert raised(problems) == (Problem("penstock.clients[0].models[3]", 4, 7, "missing"),)


def test_problems_come_in_the_order_of_the_file(problems: Problems) -> None:
    problems.add(("penstock", "clients"), "second")
    problems.add(("penstock",), "first")

    assert [problem.message for problem in raised(problems)] == ["first", "second"]


def test_the_error_reads_as_one_line_a_problem(problems: Problems) -> None:
    problems.add((), "wrong")
    problems.add(("penstock",), "bad")

    with pytest.raises(ConfigError) as error:
        problems.raise_any()

    assert str(error.value) == "line 1, column 1: wrong\nline 2, column 15: penstock: bad"


def test_warnings_alone_raise_nothing(problems: Problems) -> None:
    problems.warn(("penstock",), "odd")

    problems.raise_any()

    assert problems.warnings == (Problem("penstock", 2, 15, "odd"),)
    assert len(problems) == 0


def test_there_is_an_end_to_problems_and_to_warnings(problems: Problems) -> None:
    for number in range(MAX_PROBLEMS + 5):
        problems.add((number,), "wrong")
        problems.warn((number,), "odd")

    assert problems.is_full
    assert problems.is_reported((MAX_PROBLEMS + 1,))
    assert len(problems.warnings) == MAX_PROBLEMS
    assert len(raised(problems)) == MAX_PROBLEMS


def test_keys_that_are_no_words_are_quoted_in_a_path() -> None:
    assert dotted(("a", 0, "b.c", 'd"')) == r'a[0]["b.c"]["d\""]'
    assert dotted((0, "a")) == "[0].a"
    assert dotted(()) == ""


def test_neither_the_source_nor_the_problems_show_the_text(problems: Problems) -> None:
    assert "hunter2" not in repr(problems) + repr(problems.source)
