"""Secrets: texts that show themselves only when asked to, and the places they may stand in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta


class Secret:
    """A text that shows itself only when asked to; everything else sees `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself: for a header, never for a message."""
        return self._value

    def __bool__(self) -> bool:
        """Whether there is a text at all: an empty token is none."""
        return bool(self._value)

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


class EnvSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that stands in an environment variable."""

    env: Annotated[str, Meta(description="Name of an environment variable.")]


class FileSecret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A secret that stands in a file, which is read again at each reload."""

    file: Annotated[str, Meta(description="Path of a file; line breaks at its end are dropped.")]


# Gives the secret that is meant. Raises SecretUnavailable.
ReadSecret: TypeAlias = Callable[[EnvSecret | FileSecret], str]


class SecretUnavailable(ValueError):
    """There is no secret at that place; the message names the place, never a value."""
