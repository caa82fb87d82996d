"""Which URLs name a server, and what goes into the Host header."""

from __future__ import annotations

import pytest

from proxy.origin import Origin, parse_origin


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://tgi", Origin("http", "tgi", 80, "tgi")),
        ("http://tgi:80/v1", Origin("http", "tgi", 80, "tgi", path="/v1")),
        ("HTTP://TGI:8080/v1/", Origin("http", "tgi", 8080, "tgi:8080", path="/v1")),
        ("https://api.example.com", Origin("https", "api.example.com", 443, "api.example.com")),
        ("https://a.example:8443/", Origin("https", "a.example", 8443, "a.example:8443")),
        ("http://10.0.0.7:3000", Origin("http", "10.0.0.7", 3000, "10.0.0.7:3000")),
        ("http://[::1]:3000", Origin("http", "::1", 3000, "[::1]:3000")),
        ("https://[2001:db8::7]", Origin("https", "2001:db8::7", 443, "[2001:db8::7]")),
        ("http://my_model.svc.", Origin("http", "my_model.svc.", 80, "my_model.svc.")),
        ("unix:/run/tgi.sock", Origin("http", "localhost", 0, "localhost", uds="/run/tgi.sock")),
    ],
)
def test_an_url_names_an_origin(url: str, origin: Origin) -> None:
    assert parse_origin(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tgi:8080",
        "ftp://tgi",
        "http://",
        "http:///v1",
        "http://:8080",
        "http://tgi:0",
        "http://tgi:65536",
        "http://tgi:http",
        "http://bücher.example",
        "http://a b",
        "http://a%0d%0ab",
        "http://-a",
        "http://tgi/v1?x",
        "http://tgi/v1#y",
        "http://tgi/v 1",
        "http://tgi/vé",
        "http://[::1",
        "http://[fe80::zz]",
        "unix:run/tgi.sock",
        "unix:",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the texts differ; that one comes is the point
        parse_origin(url)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="must not hold a user or a password") as caught:
        parse_origin("http://me:hunter2@tgi")

    assert "hunter2" not in str(caught.value)
