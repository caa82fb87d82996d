"""JSON with comments and trailing commas: its value, and where in the text each part stands.

Strategy: a good document is the usual one. One regular expression takes out what JSON does not
have, and msgspec decodes the rest. Only when that fails, or when positions are asked for, a reader
of the full grammar walks the original text. It leaves every string and number to msgspec, so the
two cannot disagree about them; that they agree about the rest is tested.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeAlias, TypeVar

import msgspec

from parsers.errors import ParseError

# A configuration nests a dozen deep. The reader needs two frames a level, and what was loaded must
# still be convertible to Structs, all within the interpreter's usual 1000.
MAX_DEPTH = 128

Path: TypeAlias = Sequence[str | int]
_Steps: TypeAlias = tuple[str | int, ...]
_T = TypeVar("_T")

# Linear on any input: nothing here is tried twice in different ways, and what is never closed runs
# to the end of the text at once. Atomic groups rather than `*+`, which is broken with a lookahead
# before Python 3.11.5 (python/cpython#100061).
_COMMENT = r"//[^\n\r]*|/\*(?s:.*?)\*/"
_GAP = rf"(?>(?:[ \t\n\r]+|{_COMMENT})*)"
_STRING = r'(?>"(?:[^"\\]+|\\(?s:.))*"?)'

# The first group stays as it is. Besides strings it takes two errors for msgspec to refuse: a comma
# right after an opening bracket, which would pass for a trailing one, and an unclosed comment.
_NOISE = re.compile(rf"{_COMMENT}|({_STRING}|[\[{{]{_GAP},|/\*(?s:.*))|,(?={_GAP}[\]}}])")
# The token is empty at the end of the text, and before a character that begins none.
_TOKEN = re.compile(rf"{_GAP}({_STRING}|[-+.\w]+|[\[\]{{}}:,]|)")
_LINE_END = re.compile(r"\r\n?|\n")

# What msgspec raises on bad JSON; the second one on a lone surrogate in the text itself. They are
# suppressed, not chained: a UnicodeEncodeError holds the whole document, secrets included.
_REFUSALS = (msgspec.DecodeError, UnicodeEncodeError)


class Position(NamedTuple):
    """A place in a text: line and column count from one, columns in code points."""

    line: int
    column: int


class JSONCError(ParseError):
    """The text is not JSONC; `line` and `column` are those of the first wrong token."""

    def __init__(self, problem: str, position: Position) -> None:
        super().__init__(f"{problem} at line {position.line}, column {position.column}")
        self.line, self.column = position


def loads(text: str) -> object:
    """Gives the value of a JSONC document; of equal keys the last one wins.

    Raises JSONCError, also for an empty document, a byte order mark, a lone surrogate in a string,
    a number that msgspec cannot hold, and more than `MAX_DEPTH` brackets open at once.
    """
    with suppress(*_REFUSALS, RecursionError):
        value: object = msgspec.json.decode(_NOISE.sub(lambda noise: noise[1] or " ", text))
        if not _is_too_deep(value):
            return value
    _Reader(text)
    # The reader has raised: no text is known that only msgspec refuses.
    raise JSONCError("not JSON", Position(1, 1))  # pragma: no cover - see above


class Positions:
    """Where the values and keys of a JSONC document stand, by path: `("models", 0, "id")`.

    Of equal keys the last one counts, as in `loads`. A path that does not exist leads to the value
    of its nearest ancestor that does. Made for reporting problems: building it walks the whole
    text, several times slower than `loads`. Raises JSONCError where `loads` does.
    """

    duplicates: list[tuple[str | int, ...]]
    """The path of each key that repeats an earlier one, in the order of the text."""

    def __init__(self, text: str) -> None:
        reader = _Reader(text)
        self.duplicates = reader.duplicates
        self._root = reader.root
        self._text = text

    def value(self, path: Path) -> Position:
        """Where the value at the path begins."""
        return _position(self._text, self._follow(path)[-1].start)

    def key(self, path: Path) -> Position:
        """Where the key of the member at the path begins; of an array's item, its value."""
        nodes = self._follow(path)
        exists = len(nodes) > len(path)
        return _position(self._text, nodes[-1].key_start if exists else nodes[-1].start)

    def _follow(self, path: Path) -> list[_Node]:
        """The root, and what is found of the path below it."""
        nodes = [self._root]
        for step in path:
            child = nodes[-1].children.get(step)
            if child is None:
                break
            nodes.append(child)
        return nodes


class _Node(NamedTuple):
    """A value: the offsets of its key, if it has one, and of itself, and what is in it."""

    key_start: int
    start: int
    children: dict[str | int, _Node]


class _Reader:
    """Reads a document by the grammar, and raises JSONCError at the first wrong token."""

    def __init__(self, text: str) -> None:
        self.duplicates: list[_Steps] = []
        self._text = text
        self._lexemes = _TOKEN.finditer(text)
        self._advance()
        self.root = _Node(self._start, self._start, self._value(()))
        if self._start < len(text):
            raise self._error("expected the end of the document")

    def _advance(self) -> None:
        """Moves to the next token. There is always one: nothing accepts the empty one."""
        token = next(self._lexemes)
        self._lexeme, self._start = token[1], token.start(1)

    def _value(self, path: _Steps) -> dict[str | int, _Node]:
        """Reads a value, and gives what is in it."""
        if self._lexeme not in {"{", "["}:
            self._scalar(object, "expected a value")
            return {}
        if len(path) >= MAX_DEPTH:
            raise self._error(f"more than {MAX_DEPTH} brackets are open")
        return self._object(path) if self._lexeme == "{" else self._array(path)

    def _object(self, path: _Steps) -> dict[str | int, _Node]:
        members: dict[str | int, _Node] = {}
        for _ in self._items("}"):
            key_start = self._start
            key = self._key()
            if key in members:
                self.duplicates.append((*path, key))
            members[key] = _Node(key_start, self._start, self._value((*path, key)))
        return members

    def _array(self, path: _Steps) -> dict[str | int, _Node]:
        return {
            index: _Node(self._start, self._start, self._value((*path, index)))
            for index in self._items("]")
        }

    def _items(self, closer: str) -> Iterator[int]:
        """Stops before each item, for the caller to read it, and passes the commas between."""
        self._advance()
        index = 0
        while self._lexeme != closer:
            yield index
            index += 1
            if self._lexeme == ",":
                self._advance()
            elif self._lexeme != closer:
                raise self._error(f"expected ',' or '{closer}'")
        self._advance()

    def _key(self) -> str:
        """Reads a key and its colon."""
        key = self._scalar(str, "expected a key in double quotes")
        if self._lexeme != ":":
            raise self._error("expected ':'")
        self._advance()
        return key

    def _scalar(self, kind: type[_T], expected: str) -> _T:
        """Reads a string, a number, true, false or null, and gives its value."""
        with suppress(*_REFUSALS):
            value = msgspec.json.decode(self._lexeme, type=kind)
            self._advance()
            return value
        is_string = self._lexeme.startswith('"')
        raise self._error("unclosed or invalid string" if is_string else expected)

    def _error(self, problem: str) -> JSONCError:
        is_comment = self._text.startswith("/*", self._start)
        return JSONCError(
            "unclosed comment" if is_comment else problem, _position(self._text, self._start)
        )


def _position(text: str, offset: int) -> Position:
    lines = _LINE_END.split(text[:offset])
    return Position(len(lines), len(lines[-1]) + 1)


def _is_too_deep(value: object) -> bool:
    level: list[dict[str, object] | list[object]] = [[value]]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
    return bool(level)
