"""Probabilities of tokens, in the lists of OpenAI's text completions."""

from __future__ import annotations

import msgspec


class _Lists(msgspec.Struct, omit_defaults=True):
    """One entry per token in each list, each still as it came."""

    tokens: list[msgspec.Raw] | None = None
    token_logprobs: list[msgspec.Raw] | None = None
    top_logprobs: list[msgspec.Raw] | None = None
    text_offset: list[msgspec.Raw] | None = None


_LISTS = msgspec.json.Decoder(_Lists)


class Logprobs:
    """The lists of all pieces so far, one after another; other shapes are left out."""

    def __init__(self) -> None:
        self._lists = _Lists()

    def add(self, piece: msgspec.Raw) -> None:
        """Take in what came with one piece of text."""
        try:
            more = _LISTS.decode(piece)
        except msgspec.DecodeError:
            return
        for name in _Lists.__struct_fields__:
            if (entries := getattr(more, name)) is not None:
                setattr(self._lists, name, [*(getattr(self._lists, name) or ()), *entries])

    def encode(self) -> bytes:
        """The lists as JSON; empty where there are none."""
        return b"" if self._lists == _Lists() else msgspec.json.encode(self._lists)
