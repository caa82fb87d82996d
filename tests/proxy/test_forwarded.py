"""Who asks, by what the proxies before penstock say: nobody may make himself somebody else."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from proxy.forwarded import client_address

TRUSTED = tuple(map(ip_network, ("10.0.0.0/8", "192.0.2.7", "fd00::/8")))
NGINX = "10.0.0.1"
FOR = "X-Forwarded-For"


def headers(*lines: tuple[str, str]) -> CIMultiDictProxy[str]:
    return CIMultiDictProxy(CIMultiDict(lines))


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.5, 10.1.1.1", "203.0.113.5"),
        ("203.0.113.5,192.0.2.7,10.1.1.1", "203.0.113.5"),
        ("1.1.1.1, 203.0.113.5", "203.0.113.5"),  # the client has written the first
        ("10.9.9.9, 203.0.113.5, 10.1.1.1", "203.0.113.5"),
        ("10.2.2.2, 10.1.1.1", "10.2.2.2"),  # all are ours: the first of them asks
        ("203.0.113.5:4711", "203.0.113.5"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("2001:DB8::0:1", "2001:db8::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("203.0.113.5, fd00::1", "203.0.113.5"),
        ("203.0.113.5, ::ffff:10.1.1.1", "203.0.113.5"),
        ("", NGINX),
        ("unknown", NGINX),
        ("203.0.113.5, unknown", NGINX),
        ("203.0.113.5, unknown, 10.1.1.1", "10.1.1.1"),
        ("203.0.113.5, 999.1.1.1", NGINX),
        ("203.0.113.5, ", NGINX),
    ],
)
def test_the_last_address_that_is_no_trusted_proxys_asks(value: str, client: str) -> None:
    assert client_address(NGINX, headers((FOR, value)), TRUSTED) == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        ("for=203.0.113.5", "203.0.113.5"),
        ("For=203.0.113.5;proto=https;by=10.0.0.1", "203.0.113.5"),
        ('proto=https; for="203.0.113.5:80"', "203.0.113.5"),
        ('for="[2001:db8::1]:4711"', "2001:db8::1"),
        ("for=1.1.1.1, for=203.0.113.5, for=10.1.1.1", "203.0.113.5"),
        ("for=_hidden", NGINX),
        ("for=unknown", NGINX),
        ("proto=https", NGINX),
        ("xfor=203.0.113.5", NGINX),
        ("", NGINX),
    ],
)
def test_forwarded_says_so_too(value: str, client: str) -> None:
    assert client_address(NGINX, headers(("Forwarded", value)), TRUSTED) == client


def test_several_lines_are_one_list() -> None:
    lines = headers((FOR, "1.1.1.1"), (FOR, "203.0.113.5"), (FOR, "10.1.1.1"))

    assert client_address(NGINX, lines, TRUSTED) == "203.0.113.5"


def test_the_commoner_header_wins() -> None:
    lines = headers(("Forwarded", "for=1.1.1.1"), (FOR, "203.0.113.5"))

    assert client_address(NGINX, lines, TRUSTED) == "203.0.113.5"


@pytest.mark.parametrize("peer", ["203.0.113.9", "11.0.0.1", "2001:db8::9", "", None])
def test_who_is_not_trusted_speaks_for_himself_only(peer: str | None) -> None:
    assert client_address(peer, headers((FOR, "1.1.1.1")), TRUSTED) == peer


def test_nobody_is_trusted_unless_the_file_says_so() -> None:
    assert client_address(NGINX, headers((FOR, "1.1.1.1")), ()) == NGINX
