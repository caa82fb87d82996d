"""No secret is left, however it is quoted and cut; and nothing else changes."""

from __future__ import annotations

import base64
import html
import time
from collections.abc import Callable
from itertools import pairwise
from urllib.parse import quote, quote_plus

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.capture import Event
from proxy.capture.format import Act
from proxy.capture.redaction import redacted

SECRET = 'canary/"0\\é\n😀 +x0word'
PLAIN = "canary0x0001x0word"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


def clean(
    *data: bytes, hidden: tuple[str, ...] = (), party: str = "upstream-1", act: Act = "received"
) -> list[bytes]:
    """The reads (or writes) of one kind without what is hidden."""
    events = [Event(float(at), party, act, each) for at, each in enumerate(data)]
    found = redacted(events, hidden)
    assert [each.at for each in found] == [each.at for each in events]
    assert [len(each.data) for each in found] == [len(each) for each in data]
    return [each.data for each in found]


def json_text(text: str) -> str:
    """The text inside a JSON text, without its quotes."""
    return msgspec.json.encode(text).decode()[1:-1]


def all_escaped(text: str) -> str:
    """As an encoder that trusts nothing writes it."""
    units = text.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2))


def ascii_json(text: str) -> str:
    """As Python's own encoder writes it."""
    short = json_text(text)
    return "".join(each if each.isascii() else all_escaped(each) for each in short)


QUOTINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "json": json_text,
    "json in ascii": ascii_json,
    "json with slashes escaped": lambda text: json_text(text).replace("/", "\\/"),
    "json, every character": all_escaped,
    "json in json": lambda text: json_text(json_text(text)),
    "ascii json in json": lambda text: json_text(ascii_json(text)),
    "json in json in json": lambda text: json_text(json_text(json_text(text))),
    "python's repr": lambda text: repr(text)[1:-1],
    "python's repr in json": lambda text: json_text(repr(text)[1:-1]),
    "repr of bytes": lambda text: repr(text.encode())[2:-1],
    "percent-encoded": lambda text: quote(text, safe=""),
    "percent-encoded form": quote_plus,
    "html": html.escape,
}


@pytest.mark.parametrize("quoting", QUOTINGS.values(), ids=QUOTINGS)
@pytest.mark.parametrize("secret", [SECRET, PLAIN, 'user":"\\u0041%41&amp;', "a%2Fb+c/d=="])
def test_a_secret_is_masked_in_any_quoting(quoting: Callable[[str], str], secret: str) -> None:
    said = quoting(secret).encode()

    (found,) = clean(b'{"error":"Key ' + said + b' is bad"}', hidden=(secret,))

    before, _, rest = found.partition(b"*")
    assert before.rstrip(b"\\") == b'{"error":"Key '
    assert rest.lstrip(b"*") == b' is bad"}'


@pytest.mark.parametrize("quoting", ["as it is", "json in ascii", "json, every character"])
def test_a_secret_is_masked_wherever_reads_cut_it(quoting: str) -> None:
    said = QUOTINGS[quoting](SECRET).encode()
    data = b'data: {"a":"' + said + b'"}\n\n'
    whole = data.replace(said, b"*" * len(said))

    for cut in range(len(data) + 1):
        assert b"".join(clean(data[:cut], data[cut:], hidden=(SECRET,))) == whole
    assert b"".join(clean(*(bytes((each,)) for each in data), hidden=(SECRET,))) == whole


def chunked(*pieces: bytes) -> bytes:
    """A chunked answer with these chunks."""
    chunks = [b"%x\r\n%b\r\n" % (len(each), each) for each in pieces]
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"


@pytest.mark.parametrize("quoting", ["as it is", "json, every character"])
def test_a_secret_is_masked_wherever_chunks_cut_it(quoting: str) -> None:
    said = QUOTINGS[quoting](SECRET).encode()
    data = b'data: {"a":"' + said + b'"}\n\n'
    whole = data.replace(said, b"*" * len(said))

    for first in range(len(data)):
        for second in (first, first + 1, first + 7):
            cuts = data[:first], data[first:second], data[second:]
            masked = whole[:first], whole[first:second], whole[second:]
            given_chunks = [each for each in cuts if each]
            assert clean(chunked(*given_chunks), hidden=(SECRET,)) == [
                chunked(*(each for each in masked if each))
            ]


@given(
    secret=st.text(min_size=8, max_size=40).filter(lambda text: len(text.strip("\\")) > 7),
    around=st.tuples(st.binary(max_size=40), st.binary(max_size=40)),
    quoting=st.sampled_from(sorted(QUOTINGS)),
    cuts=st.lists(st.integers(0, 300), max_size=5),
)
def test_no_secret_survives_any_quoting_and_cut(
    secret: str, around: tuple[bytes, bytes], quoting: str, cuts: list[int]
) -> None:
    try:
        said = QUOTINGS[quoting](secret).encode()
    except UnicodeEncodeError:
        return
    data = around[0] + b" " + said + b" " + around[1]
    places = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    reads = [data[begin:end] for begin, end in pairwise(places)]

    found = b"".join(clean(*reads, hidden=(secret,)))

    at = len(around[0]) + 1
    assert said not in found[at : at + len(said)]


@given(st.lists(st.binary(max_size=60), max_size=8))
def test_bytes_that_hold_no_secret_stay_as_they_are(reads: list[bytes]) -> None:
    assert clean(*reads, hidden=("a long text that is not there",)) == reads


def test_a_secret_that_is_cut_off_at_the_end_is_masked() -> None:
    for size in range(4, len(PLAIN)):
        (found,) = clean(chunked(b"said " + PLAIN[:size].encode())[:-7], hidden=(PLAIN,))
        assert found.endswith(b"said " + b"*" * size)


def test_a_call_hides_every_header_that_penstock_does_not_write() -> None:
    head = (
        b"POST /v1/chat?access_token=t0&api-version=1 HTTP/1.1\r\nhost: model:80\r\n"
        b"content-type: application/json\r\nuser-agent: penstock/1\r\nx-team: blue-team-key\r\n"
        b"x-request-id: r-1\r\nauthorization: Bearer abcdefghij\r\ncontent-length: 2\r\n\r\n{}"
    )

    (found,) = clean(head, act="sent")

    assert found == (
        b"POST /v1/chat?access_token=**&api-version=1 HTTP/1.1\r\nhost: model:80\r\n"
        b"content-type: application/json\r\nuser-agent: penstock/1\r\nx-team: *************\r\n"
        b"x-request-id: r-1\r\nauthorization: *****************\r\ncontent-length: 2\r\n\r\n{}"
    )


def test_what_a_request_carries_as_a_key_is_hidden_in_the_answer_too() -> None:
    events = [
        Event(
            0.0, "client", "received", b"POST /?k=param-0001 HTTP/1.1\r\nApi-Key: 12345678\r\n\r\n"
        ),
        Event(0.1, "upstream-1", "sent", b"POST / HTTP/1.1\r\nx-a: Key abcdefgh\r\n\r\n"),
        Event(0.2, "upstream-1", "received", b"HTTP/1.1 401 No\r\nX-A: b\r\n\r\nabcdefgh 12345678"),
        Event(0.3, "client", "sent", b"HTTP/1.1 401 No\r\n\r\nparam-0001"),
    ]

    found = [each.data for each in redacted(events, ())]

    assert found == [
        b"POST /?k=********** HTTP/1.1\r\nApi-Key: ********\r\n\r\n",
        b"POST / HTTP/1.1\r\nx-a: ************\r\n\r\n",
        b"HTTP/1.1 401 No\r\nX-A: *\r\n\r\n******** ********",
        b"HTTP/1.1 401 No\r\n\r\n**********",
    ]


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("authorization", True),
        ("Proxy-Authorization", True),
        ("cookie", True),
        ("set-cookie", True),
        ("x-api-key", True),
        ("ocp-apim-subscription-key", True),
        ("x-amz-security-token", True),
        ("x-auth", True),
        ("x-goog-iap-jwt-assertion", True),
        ("x-time-per-token", False),
        ("x-prompt-tokens", False),
        ("keep-alive", False),
        ("content-type", False),
        ("x-ratelimit-remaining-tokens", False),
    ],
)
def test_headers_that_carry_keys_are_known_by_their_names(name: str, hidden: bool) -> None:
    answer = b"HTTP/1.1 200 OK\r\n%b: value;1\r\n\r\n" % name.encode()

    (found,) = clean(answer)

    assert found == (answer.replace(b"value;1", b"*******") if hidden else answer)


def test_the_head_after_an_interim_one_and_the_trailers_are_heads_too() -> None:
    head = b"HTTP/1.1 103 Hints\r\nSet-Cookie: a\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: b\r\n"
    data = head + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nSet-Cookie: c\r\n\r\n"

    (found,) = clean(data)

    assert found == data.replace(b": a", b": *").replace(b": b", b": *").replace(
        b"e: c\r", b"e: *\r"
    )


@pytest.mark.parametrize(
    "key",
    [
        b"sk-abcdefgh12345678",
        b"hf_abcdefgh12345678",
        b"AKIAABCDEFGHIJKLMNOP",
        b"AIzaSyA-1234567890",
        b"eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.abc",
    ],
)
def test_keys_of_known_forms_are_masked_though_nobody_told_of_them(key: bytes) -> None:
    filler = b"word " * 3272  # the key lies across the end of a window

    (found,) = clean(filler + b"a key (" + key + b")")

    assert found == filler + b"a key (" + b"*" * len(key) + b")"


def test_a_bearer_that_somebody_quotes_is_masked() -> None:
    assert clean(b'sent "Bearer abc.def-123" to it') == [b'sent "Bearer ***********" to it']


def test_a_short_text_is_masked_only_where_it_stands_alone() -> None:
    data = b'data: {"data":"x data, \\ndata update data-1","model": "data"}'

    (found,) = clean(data, hidden=("data",))

    assert found == b'data: {"data":"x ****, \\n**** update ****-1","model": "****"}'


def test_the_pieces_of_a_capture_cost_little_each(record_property: Callable[..., None]) -> None:
    token = b'data: {"choices":[{"index":0,"delta":{"content":" caf\\u00e9\\n"}}]}\n\n'
    reads = [b"%x\r\n%b\r\n" % (len(token), token)] * 12_000
    head = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    hidden = tuple(base64.b64encode(bytes([each]) * 24).decode() for each in range(40))

    since = time.perf_counter()
    found = clean(head, *reads, hidden=hidden)

    record_property("seconds", time.perf_counter() - since)
    assert found == [head, *reads]
