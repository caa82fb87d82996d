"""A conversation for servers that want system texts apart, and users and model in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from parsers.chat import Message

Block: TypeAlias = dict[str, object]

SYSTEM = ("system", "developer")


def in_turn(
    messages: Iterable[Message],
    blocks_of: Callable[[Message], Iterable[Block]],
    strip_end: Callable[[list[Block]], None],
) -> list[tuple[str, list[Block]]]:
    """Role and blocks of each turn: neighbours of one role are one, and system texts none.

    `strip_end` takes the blanks off the end of an answer that is to be continued.
    """
    turns: list[tuple[str, list[Block]]] = []
    for message in messages:
        if message.role in SYSTEM:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = list(blocks_of(message))
        if blocks and turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        elif blocks:
            turns.append((role, blocks))
    if turns and turns[-1][0] == "assistant":
        strip_end(turns[-1][1])
    return turns
