"""Texts of the file that model servers are sent, and that their errors must not quote to clients.

Servers repeat requests in many ways: as JSON inside a JSON text, as Python's `repr`, cut off
after so many characters. So long texts are looked for in pieces that no way of quoting changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap

import msgspec

from parsers.dialects.safe_text import safe_text
from proxy.config.modelconfig import ProviderConfig

_WHOLE_CHARS = 8  # a shorter text could be any word, and is hidden only beside its key
_PIECE_CHARS = 32  # of a piece that is cut off, less than this is seen

# Quotes, escapes and line ends; and what stands for an address or key in a server's words.
_QUOTED_OTHERWISE = re.compile(r"[\x00-\x1f\"'\\<>&/\x7f-\x9f]+|\[(?:url|key|address)\]")
_ADDRESSES = ("url", "endpoint")
# A member of an object as JSON and Python write it, also inside a text.
_MEMBERS = ('"%s":"%s"', '"%s": "%s"', "'%s': '%s'", r"\"%s\":\"%s\"", r"\"%s\": \"%s\"")


class HiddenTexts:
    """The texts, by provider; as secret as what they are pieces of."""

    __slots__ = ("_texts",)

    def __init__(self, texts: Mapping[str, tuple[str, ...]]) -> None:
        self._texts = texts

    def of(self, provider: str) -> tuple[str, ...]:
        """What the errors of this provider must not quote, longer texts first."""
        return self._texts[provider]

    def __repr__(self) -> str:
        return "***"


def hidden_texts(providers: Sequence[ProviderConfig], instruction: str) -> HiddenTexts:
    """What is hidden of these providers' settings, and of the instruction that all are sent."""
    told = frozenset(_pieces(instruction))
    return HiddenTexts(
        {each.id: _longest_first(told.union(_of_settings(each.settings))) for each in providers}
    )


def _longest_first(texts: frozenset[str]) -> tuple[str, ...]:
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


def _of_settings(settings: msgspec.Raw) -> Iterator[str]:
    """Texts of a `serverSideConfig`, without addresses, which are hidden in any error.

    Their paths are the provider's to hide: a piece of one may be a word like "messages".
    """
    for key, text in _texts(msgspec.json.decode(settings), ""):
        if key in _ADDRESSES:
            continue
        if len(text) >= _WHOLE_CHARS:
            yield from _pieces(text)
        elif text:
            yield from (form % (key, text) for form in _MEMBERS)


def _texts(value: object, key: str) -> Iterator[tuple[str, str]]:
    """All texts in a JSON value, each with the last key on the way to it."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield from _texts(member, str(name))
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member, key)


def _pieces(text: str) -> Iterator[str]:
    """Pieces of a text, as they are and as JSON escapes them."""
    shown = safe_text(text, 2 * len(text) + _PIECE_CHARS)  # as an error's words are made safe
    for run in (*_QUOTED_OTHERWISE.split(text), *_QUOTED_OTHERWISE.split(shown)):
        for piece in _cut(run):
            yield piece
            if not piece.isascii():
                yield _escaped(piece, r"\u")
                yield _escaped(piece, r"\\u")


def _cut(run: str) -> list[str]:
    """The run at spaces, into pieces of which none is so short that it could be any word."""
    *pieces, last = wrap(run.strip(), _PIECE_CHARS, break_on_hyphens=False) or [""]
    if len(last) >= _WHOLE_CHARS:
        return [*pieces, last]
    return [*pieces[:-1], f"{pieces[-1]} {last}"] if pieces else []


def _escaped(text: str, prefix: str) -> str:
    return "".join(
        each if each.isascii() else "".join(f"{prefix}{unit:04x}" for unit in _utf16(each))
        for each in text
    )


def _utf16(character: str) -> Iterator[int]:
    data = character.encode("utf-16-be", "surrogatepass")
    return (int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2))
