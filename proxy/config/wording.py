"""How texts from outside are shown in messages: quoted, and with the nearest word that is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches
from itertools import islice

import msgspec

# A line on a terminal. Whoever pastes a certificate as a key sees its beginning.
_SHOWN_CHARACTERS = 100
# Likeness takes a tenth of a millisecond a word, and nobody reads longer lists.
_COMPARED_WORDS = 1000
_LISTED_WORDS = 20


def quoted(text: str) -> str:
    """The text in double quotes on one line: shortened, and with what is unprintable escaped."""
    shown = text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}..."
    printable = shown.encode("utf-8", "backslashreplace").decode()
    return msgspec.json.encode(printable).decode()


def nearest(word: str, known: Iterable[str], likeness: float = 0.6) -> str | None:
    """The known word most like this one; None if none is like it, among the first thousand."""
    words = list(islice(known, _COMPARED_WORDS))
    near = get_close_matches(word[:_SHOWN_CHARACTERS], words, n=1, cutoff=likeness)
    return near[0] if near else None


def hint(word: str, known: Collection[str]) -> str:
    """What to say after an unknown word: the nearest known one, or all of them."""
    near = nearest(word, known)
    return f"known: {listed(known)}" if near is None else f"did you mean {quoted(near)}?"


def listed(words: Collection[str]) -> str:
    """The words, quoted; of many only the first."""
    shown = ", ".join(map(quoted, islice(words, _LISTED_WORDS)))
    more = len(words) - _LISTED_WORDS
    return f"{shown} and {more} more" if more > 0 else shown or "none"


def unsupported(given: object, known: Collection[str]) -> str:
    """What to say of a kind that is none of those known; it may be no text at all."""
    shown = quoted(given) if isinstance(given, str) else "this type"
    return f"{shown} is not supported by this version; {hint(str(given), known)}"
