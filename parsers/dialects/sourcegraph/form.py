"""What an api-version changes in the data of an event (spec, sourcegraph.md 3.4)."""

from __future__ import annotations

import msgspec

NEWEST_VERSION = 9


class Form(msgspec.Struct, frozen=True):
    """How events are written."""

    deltas: bool = False  # `deltaText` with the new text; before, `completion` with all so far
    usage: bool = False  # token counts, and the names of the model
    tools: bool = False  # `delta_thinking` and `delta_tool_calls`


_FIRST = Form()
_DELTAS = Form(deltas=True)
_USAGE = Form(deltas=True, usage=True)
_TOOLS = Form(deltas=True, usage=True, tools=True)


def form_of(version: int | None) -> Form:
    """The form of an api-version from 1 to 9, or of None where a client names none.

    The first version with tools is not documented; clients ask for 8 when they want them.
    """
    if version is None or version < 2:
        return _FIRST
    if version < 5:
        return _DELTAS
    return _USAGE if version < 8 else _TOOLS
