"""Texts of a configuration that become part of a request's head, and what they must not be."""

from __future__ import annotations

import re
from urllib.parse import quote

from proxy.config.schema import Secret
from proxy.origin import parse_origin

# RFC 9110, token.
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
# A query as it may stand in a request line.
_QUERY = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/?%-]*")
# What penstock itself says of a request; two of one would be read differently by two servers.
_OWN = frozenset(
    {
        *("host", "content-length", "content-type", "transfer-encoding", "connection"),
        *("accept", "accept-encoding", "te", "trailer", "upgrade", "expect", "keep-alive"),
        *("proxy-connection", "user-agent", "x-request-id"),
    }
)


def bearer(token: Secret | None) -> tuple[tuple[str, Secret], ...]:
    """The header that carries a token; none for an empty one, which says that there is none."""
    return (("authorization", Secret(f"Bearer {token.reveal()}")),) if token else ()


def token_query(token: Secret) -> str:
    """A token as a query (RFC 6750, 2.3)."""
    return f"access_token={quote(token.reveal(), safe='')}"


def split_query(url: str) -> tuple[str, str]:
    """A URL without its query, and the query."""
    base, _, query = url.partition("?")
    return base, query


def url_problem(text: str) -> str | None:
    """What is wrong with the URL of an endpoint, or None; it may have a query."""
    base, query = split_query(text)
    if _QUERY.fullmatch(query) is None:
        return "the URL's query must be visible ASCII; write the rest percent-encoded"
    try:
        parse_origin(base)
    except ValueError as error:
        return str(error)
    return None


def token_problem(token: Secret | None) -> str | None:
    """What is wrong with a token that goes into a header, or None; it may be empty."""
    if token is None or _is_visible(token.reveal()):
        return None
    return "the token cannot stand in a header"


def header_problem(name: str, value: Secret) -> str | None:
    """What is wrong with a custom header, or None."""
    if _NAME.fullmatch(name) is None:
        return "this is not the name of a header"
    if name.lower() in _OWN:
        return "penstock sends this header itself"
    return None if _is_visible(value.reveal()) else "the value cannot stand in a header"


def _is_visible(text: str) -> bool:
    return text.isascii() and (text.isprintable() or not text)
