"""Who asks, where penstock stands behind proxies: the last address that none of them has.

Each proxy appends whom it heard from (RFC 7239; X-Forwarded-For is older and commoner), so the list
is true from its end up to the first address that is not a trusted proxy's: what stands before that
is whatever the client wrote. A proxy that writes Forwarded must drop X-Forwarded-For, which wins.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

from aiohttp import hdrs
from multidict import CIMultiDictProxy

Networks: TypeAlias = tuple[IPv4Network | IPv6Network, ...]

_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for\s*=\s*"?([^";]*)"?', re.IGNORECASE)
# An address as both headers write it: IPv6 may be in brackets, and a port may follow.
_ADDRESS = re.compile(r"\[([0-9a-f:.]+)\](?::\d+)?|([0-9.]+)(?::\d+)?|([0-9a-f:.]+)", re.IGNORECASE)


def client_address(
    peer: str | None, headers: CIMultiDictProxy[str], trusted: Networks
) -> str | None:
    """The address of who asks: the peer's own unless that is trusted, then whom it names.

    Where a trusted proxy names nobody, or something that is no address, it is the proxy itself.
    """
    if not trusted or peer is None:
        return peer
    client = _address(peer)
    for hop in reversed(_hops(headers)):
        if client is None or not _is_in(client, trusted):
            break
        named = _address(hop)
        if named is None:
            break
        client = named
    return peer if client is None else str(client)


def _hops(headers: CIMultiDictProxy[str]) -> list[str]:
    """Whom the proxies heard from, the nearest last."""
    if hdrs.X_FORWARDED_FOR in headers:
        return _items(headers.getall(hdrs.X_FORWARDED_FOR))
    found = map(_FORWARDED_FOR.search, _items(headers.getall(hdrs.FORWARDED, ())))
    return [match[1] if match else "" for match in found]


def _items(lines: Iterable[str]) -> list[str]:
    return [item.strip() for line in lines for item in line.split(",")]


def _address(text: str) -> IPv4Address | IPv6Address | None:
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return None
    try:
        address = ip_address(match[1] or match[2] or match[3])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_in(address: IPv4Address | IPv6Address, networks: Networks) -> bool:
    return any(address in network for network in networks)
