"""Which bytes are a response, where it ends, and what is refused; over real sockets."""

from __future__ import annotations

import pytest

from tests.proxy.transport.recorder import Exchange, exchange
from tests.scripted import LAST_CHUNK, STREAM_HEAD, chunk, response

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


# What is delivered


async def test_length_framed_response_is_whole_and_its_connection_kept() -> None:
    done = await exchange(response(b"hello", headers=b"X-Some: Thing\r\n"))

    assert done.ended == "whole"
    assert done.receiver.calls == ["head", "data", "end"]
    assert done.receiver.head is not None
    assert done.receiver.head.headers == {b"x-some": b"Thing", b"content-length": b"5"}
    assert (done.receiver.status, done.receiver.body) == (200, b"hello")
    assert done.kept


async def test_an_interim_response_alone_is_none() -> None:
    done = await exchange(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", then="close")

    assert (done.ended, done.receiver.calls) == ("truncated", ["end"])


async def test_all_chunks_of_one_read_come_joined() -> None:
    done = await exchange(STREAM_HEAD + chunk(b"a") + chunk(b"bc"), chunk(b"d") + LAST_CHUNK)

    assert done.receiver.reads == [b"abc", b"d"]
    assert (done.ended, done.kept) == ("whole", True)


@pytest.mark.parametrize(
    "answer",
    [
        response(b"hello"),
        CHUNKED + b"5;name=value\r\nhello\r\n0\r\nX-Trailer: dropped\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + response(b"hello"),
    ],
)
async def test_a_response_in_single_bytes_is_the_same_response(answer: bytes) -> None:
    done = await exchange(*byte_by_byte(answer))

    assert (done.receiver.status, done.receiver.body) == (200, b"hello")
    assert (done.ended, done.kept) == ("whole", True)


@pytest.mark.parametrize("cut", range(1, 8))
async def test_an_end_cut_anywhere_is_exact(cut: int) -> None:
    whole = CHUNKED + chunk(b"x") + LAST_CHUNK

    done = await exchange(whole[:-cut], whole[-cut:])

    assert (done.receiver.body, done.ended, done.kept) == (b"x", "whole", True)


async def test_a_chunk_that_ends_like_a_body_does_not_end_it() -> None:
    done = await exchange(CHUNKED + b"8\r\nx: y\r\n\r\n", b"\r\n" + LAST_CHUNK)

    assert (done.receiver.body, done.ended, done.kept) == (b"x: y\r\n\r\n", "whole", True)


async def test_each_read_is_pushed_on_its_own() -> None:
    done = await exchange(STREAM_HEAD + b"5\r\n", *byte_by_byte(b"hello"), b"\r\n" + LAST_CHUNK)

    assert done.receiver.calls == ["head", *["data"] * 5, "end"]


async def test_repeated_headers_are_joined() -> None:
    done = await exchange(response(headers=b"Via: a\r\nVIA: b\r\n"))

    assert done.receiver.head is not None
    assert done.receiver.head.headers[b"via"] == b"a, b"


async def test_trailers_are_dropped() -> None:
    done = await exchange(CHUNKED + b"1\r\nx\r\n0\r\nContent-Type: text/evil\r\n\r\n")

    assert done.receiver.head is not None
    assert b"content-type" not in done.receiver.head.headers
    assert (done.ended, done.kept) == ("whole", True)


async def test_interim_responses_are_skipped() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"

    done = await exchange(b"HTTP/1.1 100 Continue\r\n\r\n", hints + hints + response(b"x"))

    assert done.receiver.calls == ["head", "data", "end"]
    assert done.receiver.head is not None
    assert done.receiver.head.headers == {b"content-length": b"1"}
    assert done.kept


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", [b"", b"Content-Length: 5\r\n"])
async def test_statuses_without_a_body_end_with_their_head(status: int, length: bytes) -> None:
    done = await exchange(b"HTTP/1.1 %d X\r\n%b\r\n" % (status, length))

    assert done.receiver.calls == ["head", "end"]
    assert (done.ended, done.kept) == ("whole", True)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""]
)
async def test_the_answer_to_head_has_no_body(framing: bytes) -> None:
    done = await exchange(OK + framing + b"\r\n", expects_body=False)

    assert done.receiver.calls == ["head", "end"]
    assert done.ended == "whole"


async def test_a_body_after_head_is_not_delivered() -> None:
    done = await exchange(response(b"hello"), expects_body=False)

    assert done.receiver.calls == ["head", "end"]
    assert (done.kept, done.distrusted) == (False, True)


async def test_redirects_are_responses_like_any_other() -> None:
    location = b"Location: http://169.254.169.254/latest/meta-data\r\n"

    done = await exchange(response(status=302, headers=location))

    assert (done.receiver.status, done.ended) == (302, "whole")


@pytest.mark.parametrize(
    "head", [b"HTTP/1.0 200 OK\r\n\r\n", OK + b"\r\n", b"HTTP/1.1 200\r\nConnection: close\r\n\r\n"]
)
async def test_a_body_without_framing_ends_with_its_connection(head: bytes) -> None:
    done = await exchange(head + b"some", b" more", then="close")

    assert done.receiver.reads == [b"some", b" more"]
    assert (done.ended, done.kept) == ("whole", False)


# What is not kept


@pytest.mark.parametrize(
    "answer",
    [
        response(b"x", headers=b"Connection: close\r\n"),
        response(b"x", headers=b"Connection: keep-alive, close\r\n"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx",
    ],
)
async def test_upstreams_that_refuse_keep_alive_get_none(answer: bytes) -> None:
    done = await exchange(answer)

    assert (done.receiver.body, done.ended) == (b"x", "whole")
    assert (done.kept, done.distrusted) == (False, False)


@pytest.mark.parametrize("surplus", [b"\n", b"\r\n", b"\r\n\r\n", b"x", response(b"evil")])
@pytest.mark.parametrize(
    "answer",
    [
        response(b"good"),
        response(b"good", headers=b"Connection: close\r\n"),
        CHUNKED + chunk(b"good") + LAST_CHUNK,
    ],
)
async def test_bytes_after_a_response_end_reuse(answer: bytes, surplus: bytes) -> None:
    done = await exchange(answer + surplus)

    assert (done.receiver.body, done.ended) == (b"good", "whole")
    assert (done.kept, done.distrusted) == (False, True)


@pytest.mark.parametrize("surplus", [b"\n", b"\r\n", b"x", response(b"evil")])
async def test_bytes_after_the_last_chunk_end_reuse(surplus: bytes) -> None:
    done = await exchange(CHUNKED, chunk(b"good") + LAST_CHUNK + surplus)

    assert (done.receiver.body, done.ended) == (b"good", "whole")
    assert (done.kept, done.distrusted) == (False, True)


# What is refused


def assert_refused(done: Exchange, kind: str) -> None:
    assert done.ended == kind
    assert done.receiver.calls == ["end"]
    assert not done.kept


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST_CHUNK,
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + LAST_CHUNK,
        OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        OK + b"Content-Length: 5, 5\r\n\r\nhello",
        OK + b"Content-Length: -5\r\n\r\nhello",
        OK + b"Content-Length: +5\r\n\r\nhello",
        OK + b"Content-Length: 5x\r\n\r\nhello",
        OK + b"Content-Length:\r\n\r\nhello",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\nhello",
        OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + LAST_CHUNK,
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + LAST_CHUNK,
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST_CHUNK,
        OK + b"Transfer-Encoding: xchunked\r\n\r\n" + LAST_CHUNK,
        OK + b"X-Folded: a\r\n b\r\n\r\n",
        OK + b"X-Space : a\r\n\r\n",
        OK + b"X-Nul: a\0b\r\n\r\n",
        OK + b"X-Bare: a\rb\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 999 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x03\x00\x02\x02\x50",
        b"<html>",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + response(),
        b"HTTP/1.1 150 X\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST_CHUNK + response(),
    ],
)
async def test_what_can_be_read_in_two_ways_is_not_read(answer: bytes) -> None:
    assert_refused(await exchange(answer), "framing")


@pytest.mark.parametrize("rest", [b"zz\r\n", b"0x5\r\n", b"5 \r\n", b"5\n", b"-1\r\n", b"f" * 17])
async def test_a_broken_chunk_ends_the_body_with_an_error(rest: bytes) -> None:
    done = await exchange(CHUNKED + chunk(b"fine") + rest)

    assert done.receiver.calls == ["head", "data", "end"]
    assert (done.receiver.body, done.ended, done.kept) == (b"fine", "framing", False)


async def test_the_message_names_no_byte_of_the_upstream() -> None:
    done = await exchange(OK + b"X-Secret: hun\0ter2\r\n\r\n")

    assert str(done.receiver.errors[0]) == "not an HTTP/1.1 response: Invalid header value char"


# Limits


@pytest.mark.parametrize(
    "headers",
    [
        b"".join(b"X-%d: y\r\n" % i for i in range(500)),
        b"".join(b"X-%d: y\r\n" % i for i in range(129)),
        b"X: %b\r\n" % (b"y" * 9 * 1024),
        b"%b: y\r\n" % (b"X" * 9 * 1024),
        b"".join(b"X-%d: %b\r\n" % (i, b"y" * 8000) for i in range(9)),
    ],
    ids=["500 headers", "129 headers", "9 KB value", "9 KB name", "72 KB in all"],
)
async def test_heads_over_the_limits_are_refused(headers: bytes) -> None:
    assert_refused(await exchange(OK + headers + b"\r\n"), "too_large")


async def test_a_head_at_the_limits_is_taken() -> None:
    headers = [b"X-%d: y\r\n" % i for i in range(126)] + [b"X: %b\r\n" % (b"y" * 8191)]

    done = await exchange(response(b"x", headers=b"".join(headers)))

    assert (done.ended, done.kept) == ("whole", True)


@pytest.mark.parametrize(
    ("begin", "more"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 400),
        (b"HTTP/1.1 200 O", b"K" * 10_000),
        (OK + b"X: ", b"y" * 10_000),
    ],
    ids=["interim responses", "reason phrase", "unfinished header"],
)
async def test_an_endless_head_is_refused(begin: bytes, more: bytes) -> None:
    assert_refused(await exchange(begin + more, *[more] * 8), "too_large")


@pytest.mark.parametrize(
    ("before", "more"),
    [
        (b"1;", b"x" * 10_000),
        (b"0\r\nX: ", b"y" * 10_000),
        (b"0\r\n", b"X: y\r\n" * 100),
    ],
    ids=["chunk extension", "unfinished trailer", "trailers"],
)
async def test_framing_without_content_is_bounded(before: bytes, more: bytes) -> None:
    done = await exchange(CHUNKED + chunk(b"fine") + before, *[more] * 8)

    assert done.receiver.calls == ["head", "data", "end"]
    assert (done.ended, done.kept) == ("too_large", False)


async def test_content_clears_the_count_of_framing_bytes() -> None:
    extended = [b"1;" + b"e" * 9_000, b"\r\nx\r\n"] * 16

    done = await exchange(CHUNKED, *extended, LAST_CHUNK)

    assert (done.receiver.body, done.ended, done.kept) == (b"x" * 16, "whole", True)
