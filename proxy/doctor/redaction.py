"""What must not be shown: everything that our requests carry besides what all requests carry."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qsl

# Headers that penstock writes itself.
_OPEN = frozenset(
    {
        *("host", "content-type", "content-length", "accept", "accept-encoding", "user-agent"),
        *("x-request-id", "anthropic-version"),
    }
)
_LEAST_CHARS = 4  # what is shorter could be a part of any word
_HIDDEN = "***"


class Redaction:
    """Takes secrets out of texts."""

    def __init__(self, secrets: Iterable[str]) -> None:
        long_first = sorted(set(secrets), key=len, reverse=True)
        self._secrets = tuple(each for each in long_first if len(each) >= _LEAST_CHARS)

    def finds(self, text: str) -> bool:
        """Whether there is a secret in the text."""
        return any(secret in text for secret in self._secrets)

    def __call__(self, text: str) -> str:
        """The text, with stars for each secret, and no character that steers a terminal."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        return printable(text)


def printable(text: str) -> str:
    """The text with an escape in the place of each character that steers a terminal."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def secrets_in(head: bytes) -> list[str]:
    """The values in a request's head that are not ours: keys, tokens, signatures, queries."""
    first, *lines = head.decode("latin-1").split("\r\n")
    query = first.split(" ")[1].partition("?")[2]
    found = [query, *(value for _, value in parse_qsl(query)), *_parts(query)]
    for line in lines:
        name, _, value = line.partition(":")
        if value and name.lower() not in _OPEN:
            found += [value.strip(), *value.split()[1:]]
    return found


def _parts(query: str) -> list[str]:
    """The values as they are sent."""
    return [part.partition("=")[2] for part in query.split("&")]
