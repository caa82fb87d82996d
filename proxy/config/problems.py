"""What is wrong with a file: every problem at once, each with its path, line and column."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

import msgspec

from parsers.jsonc import Positions
from proxy.config.schema import ReadSecret
from proxy.config.wording import quoted

# Keys and indexes from the top of the file down: ("penstock", "clients", 0, "key").
Path: TypeAlias = tuple[str | int, ...]

# More than anybody reads; a file of nothing but mistakes must not cost minutes.
MAX_PROBLEMS = 100


class Problem(msgspec.Struct, frozen=True):
    """One mistake, or one thing worth a warning; line and column count from one.

    The path is empty where it is the document itself. No part ever holds a secret.
    """

    path: str
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        where = f"line {self.line}, column {self.column}"
        return ": ".join(part for part in (where, self.path, self.message) if part)


class ConfigError(ValueError):
    """The file cannot be used; `problems` says why, in the order of the file."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class Source:
    """The file a configuration was made from, for those who look into it later.

    It holds the file's text, secrets included, and has no `repr` to show it. `moved` says where
    parts come from that stand elsewhere in the file than what was made of them.
    """

    __slots__ = ("moved", "positions", "read_secret")

    def __init__(
        self,
        positions: Positions,
        read_secret: ReadSecret,
        moved: Mapping[Path, Path] = MappingProxyType({}),
    ) -> None:
        self.positions = positions
        self.read_secret = read_secret
        self.moved = moved

    def origin(self, path: Path) -> Path:
        """Where in the file the value at the path comes from."""
        for length in range(len(path), 0, -1):
            if (place := self.moved.get(path[:length])) is not None:
                return (*place, *path[length:])
        return path


class Problems:
    """Collects what is wrong with one file, up to `MAX_PROBLEMS`, and what is only doubtful."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: list[Problem] = []
        self._count = 0
        self._warnings: list[Problem] = []
        self._reported: set[Path] = set()

    def __len__(self) -> int:
        """How many there were, beyond the limit too."""
        return self._count

    @property
    def is_full(self) -> bool:
        """Whether there is no point in looking for more."""
        return len(self._found) >= MAX_PROBLEMS

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What is doubtful, in the order of the file."""
        return _ordered(self._warnings)

    def move(self, places: Mapping[Path, Path]) -> None:
        """From now on, what is said of these paths is said of the places they come from."""
        self.source = Source(self.source.positions, self.source.read_secret, places)

    def is_reported(self, path: Path) -> bool:
        """Whether something is wrong with the very value at the path."""
        return path in self._reported

    def is_reported_in(self, path: Path) -> bool:
        """Whether something is wrong with the value at the path, or with a part of it."""
        return any(reported[: len(path)] == path for reported in self._reported)

    def add(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Something is wrong with the value at the path, or with its key.

        What does not exist is reported at the nearest thing around it that does.
        """
        self._count += 1
        self._reported.add(path)
        if not self.is_full:
            self._found.append(self._problem(path, message, at_key=at_key))

    def warn(self, path: Path, message: str, *, at_key: bool = False) -> None:
        """Something about the value at the path, or its key, is doubtful."""
        if len(self._warnings) < MAX_PROBLEMS:
            self._warnings.append(self._problem(path, message, at_key=at_key))

    def raise_any(self) -> None:
        """Raises ConfigError if anything is wrong; warnings alone do not count."""
        if self._found:
            raise ConfigError(_ordered(self._found))

    def _problem(self, path: Path, message: str, *, at_key: bool) -> Problem:
        path = self.source.origin(path)
        positions = self.source.positions
        position = positions.key(path) if at_key else positions.value(path)
        return Problem(dotted(path), position.line, position.column, message)


def dotted(path: Path) -> str:
    """The path as text: `penstock.clients[0].key`."""
    return "".join(map(_step, path)).removeprefix(".")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    return f".{step}" if step.isidentifier() else f"[{quoted(step)}]"


def _ordered(problems: list[Problem]) -> tuple[Problem, ...]:
    return tuple(sorted(problems, key=lambda problem: (problem.line, problem.column)))
