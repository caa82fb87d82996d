"""JSONC: the conformance vectors, every value under every disguise, and where things stand."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parsers.errors import ParseError
from parsers.jsonc import MAX_DEPTH, JSONCError, Position, Positions, loads

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT / "tests/fixtures/conformance"
# Vectors hold anything that JSON can say, hence Any.
VECTORS: list[dict[str, Any]] = msgspec.json.decode((CONFORMANCE / "jsonc.json").read_bytes())[
    "vectors"
]
GOOD = [pytest.param(vector, id=vector["name"]) for vector in VECTORS if "value" in vector]
BAD = [pytest.param(vector, id=vector["name"]) for vector in VECTORS if "error" in vector]

SITE = """\
// site configuration
{
  "modelConfiguration": {
    "sourcegraph": null, /* no
    discovery */ "providerOverrides": [
      {"id": "chat-tgi", "日本": "😀", "limit": 7,},
      {"id": "other"}, // last
    ],
  },
}
"""


def text_of(vector: dict[str, Any]) -> str:
    text = vector["text"]
    return text if isinstance(text, str) else text["repeat"] * text["times"]


def refusal(text: str) -> JSONCError:
    with pytest.raises(JSONCError) as caught:
        loads(text)
    return caught.value


# The vectors


@pytest.mark.parametrize("vector", GOOD)
def test_a_good_vector_gives_its_value(vector: dict[str, Any]) -> None:
    value = loads(text_of(vector))

    assert msgspec.json.encode(value) == msgspec.json.encode(vector["value"])
    Positions(text_of(vector))


@pytest.mark.parametrize("vector", BAD)
def test_a_bad_vector_is_refused_at_the_right_place(vector: dict[str, Any]) -> None:
    error = refusal(text_of(vector))

    if vector["error"]["kind"] == "syntax":
        assert [error.line, error.column] in vector["error"]["positions"]


def test_the_conformance_runner_passes() -> None:
    runner = [sys.executable, str(CONFORMANCE / "run_jsonc.py"), "--path", str(ROOT)]

    done = subprocess.run(
        [*runner, "--parser", "parsers.jsonc:loads", "-v"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (
        0,
        "positive 42/42  negative rejected 47/47  line right 47  position exact 47\n",
    )


# Errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a value at line 1, column 1"),
        ("\ufeff{}", "expected a value at line 1, column 1"),
        ("[1,\r\n 2,\r 3,\n\n x]", "expected a value at line 5, column 2"),
        ("{\n  a: 1}", "expected a key in double quotes at line 2, column 3"),
        ('{1: "a"}', "expected a key in double quotes at line 1, column 2"),
        ('{"a", 1}', "expected ':' at line 1, column 5"),
        ('{"a": 1 "b": 2}', "expected ',' or '}' at line 1, column 9"),
        ("[1 2]", "expected ',' or ']' at line 1, column 4"),
        ("[1] [2]", "expected the end of the document at line 1, column 5"),
        ("[1] /* [2]", "unclosed comment at line 1, column 5"),
        ('["a\nb"]', "unclosed or invalid string at line 1, column 2"),
        (r'{"\x": 1}', "unclosed or invalid string at line 1, column 2"),
        (r'["\ud83d"]', "unclosed or invalid string at line 1, column 2"),
        ('["\ud83d"]', "unclosed or invalid string at line 1, column 2"),
        ("[0,1e999]", "expected a value at line 1, column 4"),
        ("[" + "9" * 5000 + "]", "expected a value at line 1, column 2"),
        ("[/* none */ , ]", "expected a value at line 1, column 13"),
        ("{// none\n,}", "expected a key in double quotes at line 2, column 1"),
    ],
)
def test_an_error_says_what_was_expected_and_where(text: str, message: str) -> None:
    assert str(refusal(text)) == message


def test_a_lone_surrogate_in_a_comment_does_no_harm() -> None:
    assert loads("[1] // \ud83d") == [1]


def test_the_error_is_a_parse_error_with_nothing_chained_to_it() -> None:
    error = refusal('["\ud83d"]')

    assert isinstance(error, ParseError)
    assert (error.__cause__, error.__context__) == (None, None)


@pytest.mark.parametrize(("opener", "inner", "closer"), [("[", "7", "]"), ('{"a":', "7", "}")])
def test_nesting_has_a_limit(opener: str, inner: str, closer: str) -> None:
    deepest = opener * MAX_DEPTH + inner + closer * MAX_DEPTH

    loads(deepest)
    error = refusal(f"{opener}{deepest}{closer}")

    assert str(error) == (
        f"more than 128 brackets are open at line 1, column {len(opener) * MAX_DEPTH + 1}"
    )


@given(st.data())
@settings(deadline=None)
def test_an_error_never_shows_the_document(data: st.DataObject) -> None:
    document = f'{{"hunter2": ["hunter2", {{"id": hunter2}}, "{data.draw(st.text())}hunter2"]}}'
    cut = data.draw(st.integers(0, len(document)))
    junk = data.draw(st.sampled_from(["", '"', ",", "]", "hunter2", "/*", "\\", "\ud83d"]))

    error = refusal(document[:cut] + junk + document[cut:])

    assert "hunter2" not in f"{error!s} {error.args!r} {error.__context__!r}"


PIECES = ["{", "}", "[", "]", ",", ":", '"', '"a"', "1", "-", "null", "/*", "*/", "//"]
PIECES += ["/", "\\", " ", "\n", "\r", "\ud83d", "é", '"a":', "[1,", ",]", ",}"]


def assert_agreement(text: str) -> None:
    """Either a value and positions, or the same error from both, at a place in the text."""
    try:
        loads(text)
    except JSONCError:
        error = refusal(text)
        assert error.line <= text.count("\n") + text.count("\r") + 1
        assert error.column <= len(text) + 1
        with pytest.raises(JSONCError, match=f"^{re.escape(str(error))}$"):
            Positions(text)
    else:
        Positions(text)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
@settings(deadline=None)
def test_any_text_gives_a_value_or_an_error(text: str) -> None:
    assert_agreement(text)


# A value written with everything that JSONC allows

Steps: TypeAlias = tuple[str | int, ...]
GAPS = ["", "", "", " ", "\n", "\r\n", "\t", "\r", "/**/", "/* , ] */", "//\n", '// " }\r', "/***/"]
DECOY = {"decoy": [1, {}]}
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Disguise:
    """Writes a value as JSONC, and remembers the offset of each key and value by its path."""

    def __init__(self, value: object, seed: int) -> None:
        self.text = ""
        self.values: dict[Steps, int] = {}
        self.keys: dict[Steps, int] = {}
        self.duplicates: list[Steps] = []
        self._random = random.Random(seed)
        self._gap()
        self._value(value, ())
        self._gap()

    def _gap(self) -> None:
        self.text += "".join(self._random.choices(GAPS, k=2))

    def _put(self, token: str) -> None:
        self.text += token
        self._gap()

    def _value(self, value: object, path: Steps) -> None:
        self.values[path] = len(self.text)
        if isinstance(value, dict):
            self._object(value, path)
        elif isinstance(value, list):
            self._array(value, path)
        else:
            self._put(msgspec.json.encode(value).decode())

    def _array(self, items: list[object], path: Steps) -> None:
        self._put("[")
        for index, item in enumerate(items):
            self._value(item, (*path, index))
            self._comma(is_last=index == len(items) - 1)
        self._put("]")

    def _object(self, members: dict[str, object], path: Steps) -> None:
        self._put("{")
        for index, (key, value) in enumerate(members.items()):
            if key != "decoy" and self._random.random() < 0.2:
                self._member(key, DECOY, path)
                self._comma(is_last=False)
                self._forget((*path, key))
                self.duplicates.append((*path, key))
            self._member(key, value, path)
            self._comma(is_last=index == len(members) - 1)
        self._put("}")

    def _member(self, key: str, value: object, path: Steps) -> None:
        self.keys[*path, key] = len(self.text)
        self._put(msgspec.json.encode(key).decode())
        self._put(":")
        self._value(value, (*path, key))

    def _comma(self, *, is_last: bool) -> None:
        if not is_last or self._random.random() < 0.5:
            self._put(",")

    def _forget(self, path: Steps) -> None:
        for known in (self.keys, self.values):
            for stale in [other for other in known if other[: len(path)] == path]:
                del known[stale]


def place(text: str, offset: int) -> tuple[int, int]:
    before = text[:offset].replace("\r\n", "\n").replace("\r", "\n")
    return before.count("\n") + 1, offset - max(text.rfind(end, 0, offset) for end in "\r\n")


@given(VALUES, st.integers())
@settings(deadline=None)
def test_any_value_survives_comments_and_trailing_commas(value: object, seed: int) -> None:
    text = Disguise(value, seed).text

    assert loads(text) == value


@given(VALUES, st.integers())
@settings(deadline=None)
def test_every_value_and_key_is_found_where_it_was_written(value: object, seed: int) -> None:
    written = Disguise(value, seed)

    positions = Positions(written.text)

    for path, offset in written.values.items():
        assert positions.value(path) == place(written.text, offset)
        if path not in written.keys:
            assert positions.key(path) == place(written.text, offset)
    for path, offset in written.keys.items():
        assert positions.key(path) == place(written.text, offset)


@given(VALUES, st.integers())
@settings(deadline=None)
def test_repeated_keys_are_listed(value: object, seed: int) -> None:
    written = Disguise(value, seed)

    assert Positions(written.text).duplicates == written.duplicates


@given(VALUES, st.integers(), st.data())
@settings(deadline=None)
def test_one_damaged_character_gives_a_value_or_an_error(
    value: object, seed: int, data: st.DataObject
) -> None:
    text = Disguise(value, seed).text
    cut = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.sampled_from(["", *PIECES]))

    assert_agreement(text[:cut] + junk + text[cut + 1 :])


# Positions


def test_a_value_is_found_by_its_path() -> None:
    positions = Positions(SITE)

    assert positions.value(()) == (2, 1)
    assert positions.value(["modelConfiguration"]) == (3, 25)
    assert positions.value(("modelConfiguration", "providerOverrides", 0, "日本")) == (6, 32)
    assert positions.value(("modelConfiguration", "providerOverrides", 1)) == (7, 7)


def test_a_key_is_found_by_its_path() -> None:
    positions = Positions(SITE)

    assert positions.key(["modelConfiguration"]) == (3, 3)
    assert positions.key(("modelConfiguration", "providerOverrides")) == (5, 18)
    assert positions.key(("modelConfiguration", "providerOverrides", 0, "limit")) == (6, 37)


def test_what_has_no_key_is_found_by_its_value() -> None:
    positions = Positions(SITE)

    assert positions.key(()) == (2, 1)
    assert positions.key(("modelConfiguration", "providerOverrides", 1)) == (7, 7)


@pytest.mark.parametrize(
    ("path", "nearest"),
    [
        (("nothing",), (2, 1)),
        ((0,), (2, 1)),
        (("modelConfiguration", "nothing", "id"), (3, 25)),
        (("modelConfiguration", "providerOverrides", 2), (5, 39)),
        (("modelConfiguration", "providerOverrides", "0"), (5, 39)),
        (("modelConfiguration", "providerOverrides", 0, "nothing"), (6, 7)),
        (("modelConfiguration", "providerOverrides", 0, "id", "inner", 3), (6, 14)),
    ],
)
def test_a_missing_path_leads_to_its_nearest_ancestor(
    path: Steps, nearest: tuple[int, int]
) -> None:
    positions = Positions(SITE)

    assert positions.value(path) == nearest
    assert positions.key(path) == nearest


def test_of_equal_keys_the_last_one_counts_with_all_that_is_in_it() -> None:
    positions = Positions('{"a": {"b": 1},\n "c": 2,\n "\\u0061": {"d": 3}}')

    assert positions.key(["a"]) == (3, 2)
    assert positions.value(["a", "d"]) == (3, 18)
    assert positions.value(["a", "b"]) == (3, 12)
    assert positions.duplicates == [("a",)]


def test_a_position_names_its_parts() -> None:
    assert Positions("\n 7").value(()) == Position(line=2, column=2)


def test_positions_of_a_broken_document_are_refused_as_the_document_is() -> None:
    with pytest.raises(JSONCError, match=r"^expected a value at line 1, column 2$"):
        Positions("[,]")


# Size. Anything quadratic runs into the limit of the test instead of finishing at once.

MANY = 300_000


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "unit",
    [
        *["[", "{", ",", "/", "-", '"', "\\", "\n", "//", "/*", "*/", '{"a":', "[1,", "[ ", ", "],
        *["[,", ",/*", "[/*", '"\\"', "/**/,", "[/**/", "//\n,", '"\n', "/**/", "/*/", ", , /*"],
    ],
)
def test_a_long_bad_document_is_refused_in_linear_time(unit: str) -> None:
    refusal(unit * MANY)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "item", ["1,", "1, //,\n", '"//",', "/*,]*/[],", '{"a":"\\"",},', "1 ,\n\n"]
)
def test_a_long_good_document_is_read_in_linear_time(item: str) -> None:
    text = f"[{item * MANY}]"

    value = loads(text)

    assert isinstance(value, list)
    assert len(value) == MANY
