"""Structs as plain JSON values, secrets hidden unless told otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from proxy.config.schema import Secret

Json: TypeAlias = dict[str, object]

SHOWN = "***"  # in the place of a secret


def hidden(_: Secret) -> str:
    """What is shown of any secret."""
    return SHOWN


def plain(value: msgspec.Struct, secret: Callable[[Secret], str] = hidden) -> Json:
    """The struct as an object of JSON; `secret` gives what stands in a secret's place."""
    return msgspec.json.decode(msgspec.json.encode(value, enc_hook=secret), type=Json)


def indented(value: object) -> str:
    """The value as JSON for people."""
    return msgspec.json.format(msgspec.json.encode(value)).decode() + "\n"
