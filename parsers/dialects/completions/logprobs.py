"""Probabilities of tokens, in the form of text completions.

Servers that are asked to chat in their place give them in the form of a chat.
"""

from __future__ import annotations

import msgspec


class _Alternative(msgspec.Struct, frozen=True):
    token: str
    logprob: float | None = None


class _Token(_Alternative, frozen=True):
    top_logprobs: list[_Alternative] | None = None


class _ChatLogprobs(msgspec.Struct, frozen=True):
    content: list[_Token]


class _Lists(msgspec.Struct, frozen=True):
    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float | None]]


_CHAT = msgspec.json.Decoder(_ChatLogprobs)


def in_lists(logprobs: msgspec.Raw) -> msgspec.Raw:
    """The same in lists, if it has the form of a chat; else as it came."""
    try:
        tokens = _CHAT.decode(logprobs).content
    except msgspec.DecodeError:
        return logprobs
    lists = _Lists(
        tokens=[each.token for each in tokens],
        token_logprobs=[each.logprob for each in tokens],
        top_logprobs=[
            {other.token: other.logprob for other in each.top_logprobs or ()} for each in tokens
        ],
    )
    return msgspec.Raw(msgspec.json.encode(lists))
