"""What penstock refuses at the door, over raw sockets.

Each refused request is followed, in the same write, by a sentinel. The sentinel is answered, once
and by its own answer, where the connection stays usable; it is not answered where it does not.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from tests.e2e.frames import WHOLE, same
from tests.e2e.rawclient import Answer, post, raw_client
from tests.harness import MODEL, chat, config_for, penstock
from tests.scripted import Upstream, response

CHAT = "/v1/chat/completions"
BODY = msgspec.json.encode(chat(stream=False))
SENTINEL = b"GET /v1/models HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n"


def chunked(body: bytes = BODY, *, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n0\r\n%b\r\n" % (len(body), extension, body, trailers)


async def answers(raw: bytes, **members: object) -> tuple[list[Answer], int]:
    """All answers to these bytes and the sentinel, and how many requests went upstream."""
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(config_for(upstream.url, penstock=members)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.send(raw + SENTINEL)
        return await client.answers(), len(upstream.requests)


def heads(*lines: bytes, target: bytes = CHAT.encode(), version: bytes = b"1.1") -> bytes:
    """The head of a POST with exactly these header lines."""
    return b"\r\n".join([b"POST %b HTTP/%b" % (target, version), *lines, b"", b""])


LENGTH = b"Content-Length: %d" % len(BODY)
HOST = b"Host: penstock"
CHUNKED = b"Transfer-Encoding: chunked"

REFUSED = {
    "empty host": heads(b"Host:", LENGTH) + BODY,
    "host with a user": heads(b"Host: a@b", LENGTH) + BODY,
    "host with a path": heads(b"Host: a/evil", LENGTH) + BODY,
    "host with a list": heads(b"Host: a, b", LENGTH) + BODY,
    "no host": heads(LENGTH) + BODY,
    "http 2.0": heads(HOST, LENGTH, version=b"2.0") + BODY,
    "http 0.9": heads(HOST, LENGTH, version=b"0.9") + BODY,
    "http 1.2": heads(HOST, LENGTH, version=b"1.2") + BODY,
    "no version": b"GET /v1/models\r\n\r\n",
    "empty transfer encoding": heads(HOST, b"Transfer-Encoding:", LENGTH) + BODY,
    "list of transfer encodings": heads(HOST, b"Transfer-Encoding: ,chunked") + chunked(),
    "both framings": heads(HOST, CHUNKED, LENGTH) + chunked(),
    "both framings, other order": heads(HOST, LENGTH, CHUNKED) + chunked(),
    "chunks in http 1.0": heads(HOST, CHUNKED, version=b"1.0") + chunked(),
    "another host in the target": heads(HOST, LENGTH, target=b"http://evil/v1/models") + BODY,
    "no path in the target": heads(HOST, LENGTH, target=b"v1/models") + BODY,
    "transfer_encoding": heads(HOST, b"Transfer_Encoding: chunked", LENGTH) + BODY,
    "content_length": heads(HOST, b"Content_Length: 3", LENGTH) + BODY,
    "connect": b"CONNECT inside:22 HTTP/1.1\r\nHost: inside:22\r\n\r\n",
    "connect with a body": b"CONNECT inside:22 HTTP/1.1\r\nHost: inside:22\r\n%b\r\n\r\n%b"
    % (LENGTH, BODY),
    "host in the trailers": heads(HOST, CHUNKED) + chunked(trailers=b"Host: evil\r\n"),
    "trace": b"TRACE / HTTP/1.1\r\nHost: penstock\r\n\r\n",
    "a megabyte of headers": heads(
        HOST, *[b"X-%d: %b" % (number, b"x" * 8000) for number in range(120)], LENGTH
    )
    + BODY,
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_doubtful_request_is_refused_and_the_connection_closed(name: str) -> None:
    found, upstream_requests = await answers(REFUSED[name])

    assert [answer.status for answer in found] in ([400], [405], [431], [501], [505])
    assert found[0].head.startswith(b"HTTP/1.")
    assert upstream_requests == 0


@pytest.mark.parametrize("version", [b"2.0", b"0.9", b"1.2", b"3.0"])
async def test_a_version_that_is_not_spoken_is_refused_in_one_that_is(version: bytes) -> None:
    async with penstock(config_for("http://127.0.0.1:9")) as proxy, raw_client(proxy.url) as client:
        client.send(heads(HOST, LENGTH, version=version) + BODY)  # nothing behind it
        (answer,) = await client.answers()

    assert answer.status in (400, 505)


HARMLESS = {
    "spaces in the request line": b"POST  /v1/models  HTTP/1.1\r\nHost: x\r\n\r\n",
    "fragment": b"GET /v1/models#x HTTP/1.1\r\nHost: x\r\n\r\n",
    "backslash": b"GET /v1\\models HTTP/1.1\r\nHost: x\r\n\r\n",
    "nul": b"GET /v1/models%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    "overlong slash": b"GET /v1%c0%afmodels HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw overlong slash": b"GET /v1\xc0\xafmodels HTTP/1.1\r\nHost: x\r\n\r\n",
    "two slashes": b"GET //v1/models HTTP/1.1\r\nHost: x\r\n\r\n",
    "up and down": b"POST /v1/x/../chat/completions HTTP/1.1\r\nHost: x\r\n\r\n",
    "admin": b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    "unread body": heads(HOST, LENGTH, target=b"/nowhere") + BODY,
    "unread chunks": heads(HOST, CHUNKED, target=b"/nowhere") + chunked(),
    "wrong method": b"GET /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n",
    "options": b"OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("name", HARMLESS)
async def test_an_odd_target_is_a_route_that_does_not_exist(name: str) -> None:
    found, upstream_requests = await answers(HARMLESS[name])

    first, *rest = found
    assert first.status in (400, 404, 405)
    assert [answer.status for answer in rest] in ([200], [])
    assert all(MODEL.encode() in answer.body for answer in rest)
    assert upstream_requests == 0


@pytest.mark.parametrize(
    "raw",
    [
        heads(HOST, LENGTH) + BODY,
        heads(HOST, CHUNKED) + chunked(),
        heads(b"Host: [::1]:8080", LENGTH) + BODY,
        heads(HOST, LENGTH, b"Expect: 100-continue") + BODY,
        heads(HOST, LENGTH, b"Expect: 100-continue", b"Expect: 100-continue") + BODY,
        heads(HOST, LENGTH, b"Expect: 100-continue", b"Connection: keep-alive", version=b"1.0")
        + BODY,
        heads(HOST, CHUNKED) + chunked(extension=b";a=b", trailers=b"X-Trailer: 1\r\n"),
    ],
)
async def test_a_proper_request_and_the_next_are_answered_in_order(raw: bytes) -> None:
    (first, second), upstream_requests = await answers(raw)

    assert (first.status, first.body, second.status) == (200, WHOLE, 200)
    assert MODEL.encode() in second.body
    assert upstream_requests == 1


async def test_a_trailer_is_no_header() -> None:
    raw = heads(HOST, CHUNKED) + chunked(trailers=b"Authorization: Bearer good\r\n")
    found, upstream_requests = await answers(raw, clients=[{"name": "a", "key": "good"}])

    assert found[0].status == 401
    assert upstream_requests == 0


# Size and pace of the body

SMALL = {"limits": {"maxBodyBytes": 1024}}


@pytest.mark.parametrize("body", [b" " * 1025, b" " * 5_000_000])
@pytest.mark.parametrize("framing", ["length", "chunks"])
async def test_a_body_over_the_limit_is_refused(body: bytes, framing: str) -> None:
    if framing == "length":
        raw = heads(HOST, b"Content-Length: %d" % len(body)) + body
    else:
        raw = heads(HOST, CHUNKED) + chunked(body)

    found, upstream_requests = await answers(raw, **SMALL)

    assert [answer.status for answer in found] == [413]
    assert found[0].headers["connection"] == "close"
    assert msgspec.json.decode(found[0].body)["error"]["code"] == "request_too_large"
    assert upstream_requests == 0


async def test_a_body_of_the_limit_is_taken() -> None:
    raw = heads(HOST, b"Content-Length: 1024") + BODY.ljust(1024)
    (first, _), _ = await answers(raw, **SMALL)

    assert first.status == 200


@pytest.mark.parametrize(
    "raw",
    [
        heads(HOST, LENGTH) + BODY[:-1],
        heads(HOST, CHUNKED) + chunked()[:-5],
        heads(HOST, CHUNKED) + b"1;" + b"x" * 8_000_000,
    ],
    ids=["length", "chunks", "endless extension"],
)
async def test_a_body_that_does_not_come_is_not_waited_for(
    raw: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.admission.BODY_SECONDS", 0.3)
    async with (
        asyncio.timeout(5),
        Upstream() as upstream,
        penstock(config_for(upstream.url)) as proxy,
        raw_client(proxy.url) as client,
    ):
        client.send(raw)
        got = await client.answer()

        assert (got.status, got.headers["connection"]) == (408, "close")
        assert upstream.connections == 0


@pytest.mark.parametrize("coding", ["gzip", "identity, br"])
async def test_a_compressed_request_is_refused(coding: str) -> None:
    (first, *_), upstream_requests = await answers(post(CHAT, BODY, f"Content-Encoding: {coding}"))

    assert (first.status, upstream_requests) == (415, 0)


NO_REQUESTS = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"model":1,"inputs":1}',
    b"\xff",
    b'{"messages":' + b"[" * 100_000,
]


@pytest.mark.parametrize("path", [CHAT, "/v1/completions", "/generate", "/generate_stream", "/"])
async def test_a_body_that_is_no_request_is_refused_in_the_paths_dialect(path: str) -> None:
    raw = b"".join(post(path, body) for body in NO_REQUESTS)
    (*refused, last), upstream_requests = await answers(raw)

    assert [answer.status for answer in refused] == [400] * len(NO_REQUESTS)
    assert (last.status, upstream_requests) == (200, 0)
    for answer in refused:
        error: Any = msgspec.json.decode(answer.body)["error"]
        assert isinstance(error, dict if path.startswith("/v1") else str)


# JSON that is hard to read

DEEP = 100_000
BOMBS = {
    "arrays": b'"x":' + b"[" * DEEP + b"]" * DEEP,
    "objects": b'"x":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "names": b",".join(b'"k%d":1' % number for number in range(100_000)),
    "texts": b'"x":[%b]' % b",".join([b'""'] * 100_000),
    "names that end in a backslash": b",".join([rb'"\\":1'] * 150_000),
    "messages": b'"messages":[%b]' % b",".join([b'{"role":"user","content":"a"}'] * 50_000),
}
PATHS = [CHAT, "/v1/completions", "/v1/messages", "/v1/responses", "/generate"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BOMBS)
async def test_json_that_would_keep_everybody_waiting_is_refused(path: str, name: str) -> None:
    body = b'{"model":"lab/model","max_tokens":1,%b}' % BOMBS[name]
    (first, second), upstream_requests = await answers(post(path, body))

    assert (first.status, second.status, upstream_requests) == (400, 200, 0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("member", ["x", "seed", "max_tokens", "temperature"])
async def test_a_number_of_a_hundred_thousand_digits_breaks_nothing(path: str, member: str) -> None:
    body = b'{"model":"lab/model","inputs":"","prompt":"","%b":%b}' % (member.encode(), b"9" * DEEP)
    (first, second), _ = await answers(post(path, body))

    assert first.status in (200, 400)
    assert second.status == 200


async def test_a_long_text_full_of_quotes_is_one_text() -> None:
    content = rb"{\"a\": \"b\"}, " * 200_000
    body = b'{"model":"lab/model","messages":[{"role":"user","content":"%b"}]}' % content
    (first, _), upstream_requests = await answers(post(CHAT, body))

    assert (first.status, upstream_requests) == (200, 1)


# Keys and models

CLIENTS = [
    {"name": "alice", "key": "alices-key"},
    {"name": "bob", "key": "bobs-key", "models": ["lab::v1::other"]},
]


def guarded(url: str) -> dict[str, Any]:
    config = config_for(url, penstock={"clients": CLIENTS})
    (one,) = config["modelConfiguration"]["modelOverrides"]
    config["modelConfiguration"]["modelOverrides"].append({**one, "modelRef": "lab::v1::other"})
    return config


@pytest.mark.parametrize(
    ("headers", "model", "status", "client"),
    [
        ({"Authorization": "Bearer alices-key"}, MODEL, 200, "alice"),
        ({"Authorization": "bearer  alices-key"}, MODEL, 200, "alice"),
        ({"Authorization": "token alices-key"}, MODEL, 200, "alice"),
        ({"Authorization": 'token-sudo token="alices-key",user="bob"'}, MODEL, 200, "alice"),
        ({"Authorization": 'Token-Sudo user="bob" , token=alices-key'}, MODEL, 200, "alice"),
        ({"Authorization": 'token-sudo user="a,b", token="alices\\-key"'}, MODEL, 200, "alice"),
        ({"Authorization": 'token-sudo token="alices-key"'}, MODEL, 200, "alice"),
        ({"Authorization": 'token-sudo user="alice",token="x"'}, MODEL, 401, "anonymous"),
        ({"Authorization": 'token-sudo user="alice"'}, MODEL, 401, "anonymous"),
        ({"Authorization": 'token-sudo token="",user="alice"'}, MODEL, 401, "anonymous"),
        ({"Authorization": "token-sudo alices-key"}, MODEL, 401, "anonymous"),
        ({"Authorization": "token-sudo token=alices-key,token=x"}, MODEL, 401, "anonymous"),
        ({"Authorization": 'token-sudo token="alices-key'}, MODEL, 401, "anonymous"),
        ({"X-Api-Key": "alices-key"}, MODEL, 200, "alice"),
        ({"api-key": "alices-key"}, MODEL, 200, "alice"),
        ({}, MODEL, 401, "anonymous"),
        ({"Authorization": "Bearer "}, MODEL, 401, "anonymous"),
        ({"Authorization": "Basic alices-key"}, MODEL, 401, "anonymous"),
        ({"Authorization": "Bearer alices-key2"}, MODEL, 401, "anonymous"),
        ({"Authorization": "alices-key"}, MODEL, 401, "anonymous"),
        ({"Authorization": "Basic YTpi", "X-Api-Key": "alices-key"}, MODEL, 200, "alice"),
        ({"Authorization": "Basic YTpi", "api-key": "alices-key"}, MODEL, 200, "alice"),
        ({"Authorization": "Bearer ", "X-Api-Key": "alices-key"}, MODEL, 200, "alice"),
        ({"Authorization": "Bearer alices-key", "X-Api-Key": "x"}, MODEL, 200, "alice"),
        ({"Authorization": "Bearer x", "X-Api-Key": "alices-key"}, MODEL, 401, "anonymous"),
        ({"X-Api-Key": "alices-key", "api-key": "bobs-key"}, MODEL, 200, "alice"),
        ({"X-Api-Key": "bobs-key"}, "lab::v1::other", 200, "bob"),
        ({"X-Api-Key": "bobs-key"}, "lab/other", 200, "bob"),
        ({"X-Api-Key": "bobs-key"}, MODEL, 403, "bob"),
        ({"X-Api-Key": "bobs-key"}, "lab/model", 403, "bob"),
        ({"X-Api-Key": "bobs-key"}, "nothing", 404, "bob"),
        ({"X-Api-Key": "alices-key"}, "nothing", 404, "alice"),
    ],
)
async def test_a_key_opens_what_it_was_given(
    headers: dict[str, str], model: str, status: int, client: str
) -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(guarded(upstream.url)) as proxy,
    ):
        asked = {"model": model, "messages": []}
        got, body = await proxy.ask(CHAT, asked, headers=headers)
        (line,) = await proxy.ended()

        assert (got, line.status, line.client) == (status, status, client)
        assert len(upstream.requests) == (status == 200)
        assert (b'"error"' in body) == (status != 200)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/lab::v1::model", "/info"])
async def test_lists_need_a_key_too(path: str) -> None:
    async with Upstream() as upstream, penstock(guarded(upstream.url)) as proxy:
        async with proxy.get(path) as got:
            assert got.status == 401
        async with proxy.get(path, headers={"X-Api-Key": "alices-key"}) as got:
            assert got.status == 200
        async with proxy.get(path, headers={"X-Api-Key": "bobs-key"}) as got:
            assert MODEL.encode() not in await got.read()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/nowhere", 404),
        ("POST", "/nowhere", 404),
        ("POST", "/v2/chat/completions", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/generate", 405),
        ("PUT", "/v1/models", 405),
    ],
)
async def test_a_route_that_is_none_is_told_in_the_paths_dialect(
    method: str, path: str, status: int
) -> None:
    raw = f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    (first, second), _ = await answers(raw)

    error: Any = msgspec.json.decode(first.body)["error"]
    assert (first.status, second.status) == (status, 200)
    assert isinstance(error, dict if path.startswith("/v1") else str)
    assert ("allow" in first.headers) == (status == 405)


async def test_one_request_too_many_is_told_to_come_back() -> None:
    limits = {"limits": {"maxConcurrentRequests": 1}}
    async with (
        Upstream() as upstream,
        penstock(config_for(upstream.url, penstock=limits)) as proxy,
        raw_client(proxy.url) as first,
    ):
        first.ask(CHAT, BODY)
        up = await upstream.accept()
        await up.request()
        async with proxy.post(CHAT, BODY) as second:
            assert (second.status, second.headers["Retry-After"]) == (503, "1")
        up.send(response(WHOLE))

        assert (await first.answer()).status == 200
        assert await proxy.ended(2)
