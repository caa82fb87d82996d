"""Takes secrets out of what model servers say: they like to quote what they were sent."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.dialects.safe_text import CUT
from parsers.events import Fault

_HIDDEN = "***"
_TELLING_CHARS = 4  # of a secret; fewer could be the end of any word


def without(fault: Fault, hidden: Iterable[str]) -> Fault:
    """The fault with these secrets taken out of all its words, also where one was cut off."""
    words = {
        name: word
        for name in ("message", "type", "code", "param")
        if isinstance(word := getattr(fault, name), str)
    }
    clean = dict(words)
    for secret in hidden:
        clean = {name: _without(word, secret) for name, word in clean.items()}
    return fault if clean == words else msgspec.structs.replace(fault, **clean)


def _without(word: str, secret: str) -> str:
    word = word.replace(secret, _HIDDEN)
    if not word.endswith(CUT):
        return word
    said = word.removesuffix(CUT)
    for length in range(min(len(secret), len(said)), _TELLING_CHARS - 1, -1):
        if said.endswith(secret[:length]):
            return said[:-length] + _HIDDEN + CUT
    return word
