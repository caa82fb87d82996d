"""The steering words: how a prompt tells the demo model to misbehave.

Words stand in double brackets anywhere in the prompt (in a chat: in the last user message),
or in the query as `?demo=`, which wins. Several are parted by commas or blanks:

    [[fail after=5]] why is the sky blue?        POST /generate_stream?demo=slow=0.2,tokens=100

    overload        refused as by a full server: 429, or the first event of a stream
    validation      refused as too long: 422, or the first event of a stream
    template        refused by the chat route before a stream opens: always 422
    fail            the forward pass fails after some tokens: 424, or an error event
    incomplete      the backend ends early and the router says so: 500, or an error event
    truncate        a stream ends cleanly but has no end; a whole answer is 500
    cut             the connection is cut
    stall           nothing but keep-alive comments for 600 seconds; stall=S for S seconds
    after=N         the five troubles above come after N tokens (3); a shorter answer is spared
    tokens=N        the length of the answer
    slow=S          seconds per token, instead of the server's pace
    wait=S          seconds before the first token

Unknown words and unreadable numbers are ignored (brackets are common in code); numbers are
brought into their limits. If several troubles are named, the first of this list counts.
"""

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from math import isfinite

from msgspec import Struct

MARK = re.compile(r"\[\[([^\[\]]{1,200})\]\]")
SEPARATOR = re.compile(r"[,\s]+")

MAX_TOKENS = 10_000  # ten times a long answer, and still a second at full speed
MAX_PACE_SECONDS = 60.0
MAX_WAIT_SECONDS = 600.0  # beyond every time limit that a proxy is likely to have


class Trouble(Enum):
    """What can go wrong, by its steering word, most urgent first."""

    OVERLOAD = "overload"
    VALIDATION = "validation"
    TEMPLATE = "template"
    FAIL = "fail"
    INCOMPLETE = "incomplete"
    TRUNCATE = "truncate"
    CUT = "cut"
    STALL = "stall"


class Script(Struct, frozen=True):
    """What one prompt asked for; `None` leaves the choice to the server."""

    trouble: Trouble | None
    after: int
    tokens: int | None
    pace_seconds: float | None
    wait_seconds: float
    stall_seconds: float


def read_script(prompt: str, query: Iterable[str] = ()) -> Script:
    """The script of a prompt and the values of `?demo=`; of a word given twice the last counts."""
    words = (word for text in (*MARK.findall(prompt), *query) for word in SEPARATOR.split(text))
    given = {name: value for name, _, value in (word.partition("=") for word in words)}
    after = _number(given, "after", MAX_TOKENS)
    return Script(
        trouble=next((trouble for trouble in Trouble if trouble.value in given), None),
        after=3 if after is None else int(after),
        tokens=int(_number(given, "tokens", MAX_TOKENS) or 0) or None,
        pace_seconds=_number(given, "slow", MAX_PACE_SECONDS),
        wait_seconds=_number(given, "wait", MAX_WAIT_SECONDS) or 0.0,
        stall_seconds=_number(given, "stall", MAX_WAIT_SECONDS) or MAX_WAIT_SECONDS,
    )


def _number(given: Mapping[str, str], name: str, limit: float) -> float | None:
    try:
        value = float(given[name])
    except (KeyError, ValueError):
        return None
    return min(max(value, 0.0), limit) if isfinite(value) else None
