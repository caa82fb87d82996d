"""Where an endpoint is: its URL, parsed once."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

_PORTS = {"http": 80, "https": 443}
# Names reach the resolver, TLS and the Host header: nothing that one of them reads differently.
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?\Z")


class Origin(msgspec.Struct, frozen=True):
    """One server to connect to.

    `authority` is the value of the Host header; `path` is the URL's own, without a slash at its
    end, and empty where it has none.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    authority: str
    uds: str | None = None  # the path of a unix socket; None: TCP
    address: str | None = None  # where to connect instead of where the host's name leads
    path: str = ""


def parse_origin(url: str) -> Origin:
    """The origin of `http://host[:port]/…`, `https://…` or `unix:/path/to.sock`.

    Raises ValueError for anything else, without quoting the URL: it may hold a password.
    """
    if url.startswith("unix:"):
        return _unix(url.removeprefix("unix:"))
    parts = urlsplit(url)
    if parts.scheme not in _PORTS:
        raise ValueError("the URL must begin with http://, https:// or unix:")
    if "@" in parts.netloc:
        raise ValueError("the URL must not hold a user or a password")
    return _tcp("https" if parts.scheme == "https" else "http", parts)


def _unix(path: str) -> Origin:
    if not path.startswith("/"):
        raise ValueError("unix: needs an absolute path")
    return Origin(scheme="http", host="localhost", port=0, authority="localhost", uds=path)


def _tcp(scheme: Literal["http", "https"], parts: SplitResult) -> Origin:
    host = parts.hostname or ""
    port = _PORTS[scheme] if parts.port is None else parts.port  # .port raises ValueError
    if port == 0:
        raise ValueError("port 0 is not a port")
    name = _bracketed(host) if ":" in host else host
    if ":" not in host and not _NAME.match(host):
        raise ValueError("the host must be an ASCII name (punycode) or an address")
    authority = name if port == _PORTS[scheme] else f"{name}:{port}"
    return Origin(scheme=scheme, host=host, port=port, authority=authority, path=_base_path(parts))


def _bracketed(host: str) -> str:
    IPv6Address(host)  # raises ValueError
    return f"[{host}]"


def _base_path(parts: SplitResult) -> str:
    """The path, safe to stand in a request line."""
    if parts.query or parts.fragment:
        raise ValueError("the URL must not have a query or a fragment")
    if not parts.path.isascii() or not parts.path.isprintable() or " " in parts.path:
        raise ValueError("the URL's path must be visible ASCII; write the rest percent-encoded")
    return parts.path.rstrip("/")
