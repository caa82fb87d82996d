"""AWS event streams: the shared vectors, every way of cutting, bounds, and botocore's opinion."""

from __future__ import annotations

import base64
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import process_time
from zlib import crc32

import msgspec
import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from parsers.errors import BadChecksum, BadFrame, ParseError
from parsers.eventstream import EventStreamDecoder, HeaderValue, Message, encode_message

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests/fixtures/conformance"

HELLO = encode_message(b'{"a":1}', {":message-type": "event", ":event-type": "chunk"})


class Header(msgspec.Struct, frozen=True):
    name: str
    type: str
    value: bool | int | str


class Expected(msgspec.Struct, frozen=True):
    headers: list[Header]
    payload: str


class Vector(msgspec.Struct, frozen=True):
    name: str
    chunks: list[str]
    messages: list[Expected]
    error: str | None = None
    error_at: int | None = None
    error_optional: bool = False

    @property
    def pieces(self) -> list[bytes]:
        return [base64.b64decode(chunk) for chunk in self.chunks]


class Vectors(msgspec.Struct, frozen=True):
    vectors: list[Vector]


ALL = msgspec.json.decode((VECTORS / "eventstream.json").read_bytes(), type=Vectors).vectors


def value_of(header: Header) -> HeaderValue:
    if header.type == "bytes":
        return base64.b64decode(str(header.value))
    if header.type == "uuid":
        return bytes.fromhex(str(header.value).replace("-", ""))
    return header.value


def decode(pieces: list[bytes]) -> tuple[list[Message], str | None]:
    """The messages, and the kind of the error that ended them."""
    decoder, messages = EventStreamDecoder(), list[Message]()
    try:
        for piece in pieces:
            messages += decoder.feed(piece)
        messages += decoder.close()
    except BadFrame as defect:
        before = [each for each in defect.messages if isinstance(each, Message)]
        return messages + before, defect.kind
    return messages, None


def ways(vector: Vector) -> Iterator[list[bytes]]:
    body = b"".join(vector.pieces)
    yield [body]
    yield vector.pieces
    yield [body[at : at + 1] for at in range(len(body))]


def test_the_language_neutral_runner_passes_every_vector() -> None:
    command = [sys.executable, str(VECTORS / "run_eventstream.py"), "--path", str(ROOT)]
    chosen = ["--parser", "parsers.eventstream:EventStreamDecoder"]

    run = subprocess.run([*command, *chosen], capture_output=True, text=True, check=False)

    assert (run.stdout, run.returncode) == ("pass 44/44\n", 0)


@pytest.mark.parametrize("vector", ALL, ids=lambda vector: vector.name)
def test_vector_means_what_it_says(vector: Vector) -> None:
    for pieces in ways(vector):
        messages, kind = decode(pieces)

        if vector.error is None:
            assert kind is None
        elif not vector.error_optional:
            assert kind in vector.error.split("|")
        assert len(messages) == len(vector.messages)
        for message, expected in zip(messages, vector.messages, strict=True):
            assert message.payload == base64.b64decode(expected.payload)
            assert message.headers == {each.name: value_of(each) for each in expected.headers}


@pytest.mark.parametrize("vector", [v for v in ALL if v.error_at], ids=lambda v: v.name)
def test_a_bad_prelude_is_refused_with_its_last_byte(vector: Vector) -> None:
    body = b"".join(vector.pieces)
    decoder = EventStreamDecoder()

    for at in range(11):
        assert decoder.feed(body[at : at + 1]) == []

    with pytest.raises(BadFrame):
        decoder.feed(body[11:12])


headers = st.dictionaries(
    st.text(min_size=1, max_size=20),
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=50)
    | st.binary(max_size=50),
    max_size=5,
)


@given(sent=st.lists(st.tuples(st.binary(max_size=200), headers), max_size=4), data=st.data())
def test_what_was_encoded_is_decoded_however_it_is_cut(
    sent: list[tuple[bytes, Mapping[str, HeaderValue]]], data: st.DataObject
) -> None:
    body = b"".join(encode_message(payload, fields) for payload, fields in sent)
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8).map(sorted))
    pieces = [body[a:b] for a, b in itertools.pairwise([0, *cuts, len(body)])]

    messages, kind = decode(pieces)

    assert kind is None
    assert messages == [Message(fields, payload) for payload, fields in sent]


@given(sent=st.lists(st.tuples(st.binary(min_size=1, max_size=99), headers), max_size=3))
def test_botocore_reads_what_was_encoded(
    sent: list[tuple[bytes, Mapping[str, HeaderValue]]],
) -> None:
    reader = EventStreamBuffer()
    reader.add_data(b"".join(encode_message(payload, fields) for payload, fields in sent))

    read = [(event.payload, event.headers) for event in reader]

    assert read == [(payload, dict(fields)) for payload, fields in sent]


@given(body=st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: HELLO + tail))
def test_any_bytes_give_messages_or_a_parse_error(body: bytes) -> None:
    decoder = EventStreamDecoder()

    try:
        messages = decoder.feed(body) + decoder.close()
    except ParseError:
        return

    again = b"".join(encode_message(each.payload, each.headers) for each in messages)
    assert len(again) >= len(body)  # numbers come back as longs


@given(at=st.integers(0, len(HELLO) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_never_passed_on(at: int, bit: int) -> None:
    broken = bytearray(HELLO)
    broken[at] ^= 1 << bit

    messages, kind = decode([bytes(broken)])

    assert messages == []
    assert kind in ("prelude_crc", "message_crc")


def test_what_comes_before_a_broken_message_is_not_lost() -> None:
    broken = HELLO[:-1] + bytes([HELLO[-1] ^ 1])

    with pytest.raises(BadChecksum) as raised:
        EventStreamDecoder().feed(HELLO + HELLO + broken + HELLO)

    assert len(raised.value.messages) == 2


def test_after_a_broken_message_every_call_raises() -> None:
    decoder = EventStreamDecoder()
    with pytest.raises(BadFrame):
        decoder.feed(HELLO + b"x" * 12)

    calls: list[Callable[[], list[Message]]] = [
        lambda: decoder.feed(HELLO),
        lambda: decoder.feed(b""),
        decoder.close,
    ]
    for call in calls:
        with pytest.raises(BadFrame) as raised:
            call()
        assert raised.value.messages == ()
    assert decoder.pending_bytes == 0


def test_a_message_over_the_limit_is_refused_before_it_is_here() -> None:
    body = encode_message(b"x" * 1000, {})
    assert len(EventStreamDecoder(max_message_bytes=len(body)).feed(body)) == 1

    decoder = EventStreamDecoder(max_message_bytes=len(body) - 1)

    with pytest.raises(BadFrame, match="over the size limit") as raised:
        decoder.feed(body[:12])
    assert raised.value.kind == "length"


def test_what_belongs_to_no_whole_message_is_counted() -> None:
    decoder = EventStreamDecoder()

    assert len(decoder.feed(HELLO + HELLO[:5])) == 1
    assert decoder.pending_bytes == 5
    assert decoder.feed(HELLO[5:7]) == []
    assert decoder.pending_bytes == 7
    assert len(decoder.feed(HELLO[7:])) == 1
    assert decoder.pending_bytes == 0


def test_a_name_that_is_no_text_is_a_bad_header() -> None:
    good = encode_message(b"", {"name": True})
    block = good[12:-4].replace(b"name", b"na\xffe")
    lengths = good[:8]
    frame = lengths + crc32(lengths).to_bytes(4) + block

    messages, kind = decode([frame + crc32(frame).to_bytes(4)])

    assert (messages, kind) == ([], "header")


def test_equal_headers_in_a_row_are_read_once() -> None:
    one, other = EventStreamDecoder().feed(HELLO + HELLO)

    assert one.headers is other.headers


def _seconds_for(megabytes: int, piece: int) -> float:
    body = encode_message(bytes(megabytes * 1024 * 1024), {})
    pieces = [body[at : at + piece] for at in range(0, len(body), piece)]
    decoder = EventStreamDecoder()
    start = process_time()
    (message,) = itertools.chain.from_iterable(map(decoder.feed, pieces))
    assert len(message.payload) == megabytes * 1024 * 1024
    return process_time() - start


def test_a_long_message_in_small_pieces_takes_linear_time() -> None:
    assert _seconds_for(10, 512) < 1  # 20 ms here; quadratic would be minutes


def test_many_messages_in_one_read_take_linear_time() -> None:
    decoder = EventStreamDecoder()
    start = process_time()

    assert len(decoder.feed(HELLO * 50_000)) == 50_000
    assert process_time() - start < 2
