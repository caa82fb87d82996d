"""Server-sent events, read in any cut and written for other readers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import sseclient
from hypothesis import given
from hypothesis import strategies as st

from parsers.errors import FrameTooLarge, SizeLimit
from parsers.sse import SSEEvent, SSEParser, comment, encode_event, frames

BOM = b"\xef\xbb\xbf"

# What a stream is made of: every state of the parser is a few of these away.
LINE_ENDS = [b"\n", b"\r", b"\r\n", b"\n\n"]
FIELDS = [b"data: y\n\n", b"data: ", b"event: e", b"id: 7", b"retry: 10", b"other: z"]
PIECES = [b"data", b"data:", b"event", b"id", b":", b" ", b"x", b"\0", b"\xc3\xa9", b"\xff"]
TOKENS = st.sampled_from([*LINE_ENDS, *FIELDS, *PIECES, BOM, BOM[:2]])
STREAMS = st.lists(TOKENS, max_size=30).map(b"".join)


def bytewise(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(c, len(stream)) for c in cuts), len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


def parse(pieces: list[bytes], *, flush_at_eof: bool = False) -> list[SSEEvent]:
    parser = SSEParser(flush_at_eof=flush_at_eof)
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events + parser.close()


def data_of(stream: bytes) -> list[bytes]:
    whole = parse([stream])
    assert parse(bytewise(stream)) == whole
    return [event.data for event in whole]


# Events


def test_event_has_the_fields_of_its_block() -> None:
    stream = b"id: 1\nevent: delta\nretry: 250\ndata: a\ndata: b\n\n"

    assert parse([stream]) == [SSEEvent("delta", b"a\nb", "1", 250)]
    assert parse(bytewise(stream)) == [SSEEvent("delta", b"a\nb", "1", 250)]


def test_event_without_a_name_has_an_empty_name() -> None:
    assert parse([b"data: a\n\n"]) == [SSEEvent("", b"a", "", None)]


def test_one_event_per_read_is_the_same_as_all_in_one() -> None:
    reads = [b"data: 1\n\n", b"data: \n\n", "data: \u00e9\n\n".encode(), b"data: \xff\n\n"]

    assert parse(reads) == parse([b"".join(reads)])
    assert data_of(b"".join(reads)) == [b"1", b"", b"\xc3\xa9", b"\xef\xbf\xbd"]


def test_id_of_an_earlier_event_stays_in_force_for_single_reads() -> None:
    parser = SSEParser()

    parser.feed(b"id: 7\ndata: a\n\n")

    assert parser.feed(b"data: b\n\n") == [SSEEvent("", b"b", "7")]
    assert parser.last_event_id == "7"


def test_id_of_an_earlier_event_stays_in_force_for_reads_of_several_events() -> None:
    parser = SSEParser()

    parser.feed(b"id: 7\ndata: a\n\n")

    assert parser.feed(b"data: b\n\ndata: c\n\n") == [
        SSEEvent("", b"b", "7"),
        SSEEvent("", b"c", "7"),
    ]
    assert parser.feed(b"data: d\n\n") == [SSEEvent("", b"d", "7")]


def test_mark_is_data_of_an_unknown_field_after_the_first_event() -> None:
    unknown: list[tuple[bytes, bytes]] = []
    parser = SSEParser(on_unknown=lambda name, value: unknown.append((name, value)))

    parser.feed(b"data: a\n\n")
    events = parser.feed(BOM + b"data: b\n\n")

    assert events == []
    assert unknown == [(BOM + b"data", b"b")]


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: \xff\n\ndata: b\n\n", [b"\xef\xbf\xbd", b"b"]),
        (b"data: a\n\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\n\n\n\n", [b"a"]),
        (b"data: a\ndata: b\n\ndata: c\n\n", [b"a\nb", b"c"]),
        (b"data: a\n\n: c\n\ndata: b\n\n", [b"a", b"b"]),
        (b"data: a\rdata: b\n\n", [b"a\nb"]),
        (b"data: a\r\n\r\n", [b"a"]),
        (b"data: a\r\r", [b"a"]),
        (b"data:a\n\n", [b"a"]),
        (b"data: a\n", []),
        (b"data: \n", []),
        (b"\n\n", []),
    ],
)
def test_read_that_looks_like_one_event_is_read_with_care(read: bytes, data: list[bytes]) -> None:
    parser = SSEParser()
    parser.feed(b"data: first\n\n")

    assert [event.data for event in parser.feed(read)] == data


def test_empty_read_between_cr_and_lf_changes_nothing() -> None:
    assert parse([b"data: a\r", b"", b"\ndata: b\r", b"\n\r", b"\n"]) == [SSEEvent("", b"a\nb")]


def test_retry_of_more_digits_than_64_bits_hold_is_ignored() -> None:
    parser = SSEParser()

    events = parser.feed(b"retry: 999999999999999999\ndata: a\n\nretry: 1000000000000000000\n\n")

    assert [event.retry for event in events] == [999999999999999999]
    assert parser.retry == 999999999999999999


def test_close_drops_an_unfinished_event() -> None:
    parser = SSEParser()

    assert parser.feed(b"data: a\n\ndata: b\n") == [SSEEvent("", b"a")]
    assert parser.close() == []


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n", b"\n\n"])
def test_close_completes_an_event_if_told_to(end: bytes) -> None:
    stream = b"data: a\n\nevent: e\ndata: b" + end
    parser = SSEParser(flush_at_eof=True)

    assert parser.feed(stream) + parser.close() == [SSEEvent("", b"a"), SSEEvent("e", b"b")]
    assert parser.pending_bytes == 0
    assert parser.close() == []
    assert parse(bytewise(stream), flush_at_eof=True) == parse([stream], flush_at_eof=True)


# Unknown fields


def test_unknown_fields_are_told_by_name_and_value() -> None:
    stream = (
        b'error: {"code":400}\n\n'  # llama.cpp
        b'{"error": {"code": 429}}\n'  # Gemini
        b"[\n: a comment\nDATA:  x\ndata: y\n\n"
    )
    unknown: list[tuple[bytes, bytes]] = []
    expected = [
        (b"error", b'{"code":400}'),
        (b'{"error"', b'{"code": 429}}'),
        (b"[", b""),
        (b"DATA", b" x"),
    ]

    for pieces in ([stream], bytewise(stream), cut(stream, [3, 30, 47])):
        unknown.clear()
        parser = SSEParser(on_unknown=lambda name, value: unknown.append((name, value)))
        events = [event for piece in pieces for event in parser.feed(piece)]

        assert unknown == expected
        assert events == [SSEEvent("", b"y")]


def test_unknown_last_line_is_told_when_closing_flushes() -> None:
    unknown: list[tuple[bytes, bytes]] = []
    parser = SSEParser(
        flush_at_eof=True, on_unknown=lambda name, value: unknown.append((name, value))
    )

    parser.feed(b'{"error":"boom"}')

    assert unknown == []
    assert parser.close() == []
    assert unknown == [(b'{"error"', b'"boom"}')]


# Pending bytes


@pytest.mark.parametrize(
    ("stream", "pending"),
    [
        (b"", 0),
        (b"\n", 0),
        (b"d", 1),
        (b"data: a", 7),
        (b"data: a\n", 8),
        (b"data: a\n\n", 0),
        (b"data: a\n\n\n", 0),
        (b"data: a\n\ndata: b", 7),
        (b"data: a\n\ndata: b\n", 8),
        (b"data: a\r", 8),
        (b"data: a\r\n", 9),
        (b"data: a\r\n\r", 0),
        (b"data: a\r\n\r\n", 0),
        (b"data: a\r\r", 0),
        (b"data: a\r\r\n", 0),
        (b"data: a\r\rid: 1\r", 6),
        (b"data: a\r\n\r\nid: 1\r\nid: 2\n", 13),
        (b": ping\n", 7),
        (b": ping\n\n", 0),
        (b"data: a\n\n: ping\nid", 9),
        (BOM[:1], 1),
        (BOM, 3),
        (BOM + b"\n", 0),
        (BOM + b"data: a\n", 11),
        (BOM + b"data: a\n\nx", 1),
    ],
)
def test_pending_bytes_are_those_after_the_last_blank_line(stream: bytes, pending: int) -> None:
    whole, slow = SSEParser(), SSEParser()

    whole.feed(stream)
    for piece in bytewise(stream):
        slow.feed(piece)
        slow.feed(b"")

    assert whole.pending_bytes == pending
    assert slow.pending_bytes == pending


def test_pending_bytes_are_none_after_each_whole_event() -> None:
    parser = SSEParser()

    for read in (b"data: a\n\n", b"data: b\n\n", b"data: c\r\n\r", b"\n", b"data: d\n\n"):
        parser.feed(read)
        assert parser.pending_bytes == 0


@given(STREAMS, st.lists(st.integers(0, 60)), st.booleans())
def test_every_cut_gives_the_same(stream: bytes, cuts: list[int], flush: bool) -> None:
    def run(pieces: list[bytes]) -> tuple[object, ...]:
        unknown: list[tuple[bytes, bytes]] = []
        parser = SSEParser(
            flush_at_eof=flush, on_unknown=lambda name, value: unknown.append((name, value))
        )
        events = [event for piece in pieces for event in parser.feed(piece)]
        pending = parser.pending_bytes
        events += parser.close()
        return events, unknown, pending, parser.last_event_id, parser.retry

    whole = run([stream])

    assert run(bytewise(stream)) == whole
    assert run(cut(stream, cuts)) == whole


@given(STREAMS, st.lists(st.integers(0, 60)))
def test_pending_bytes_are_right_after_every_read(stream: bytes, cuts: list[int]) -> None:
    parser = SSEParser()
    fed = b""

    for piece in cut(stream, cuts):
        parser.feed(piece)
        fed += piece
        assert parser.pending_bytes == len(fed) - end_of_last_blank_line(fed)


def end_of_last_blank_line(stream: bytes) -> int:
    lines = stream.removeprefix(BOM).splitlines(keepends=True)
    blank = [i for i, line in enumerate(lines) if not line.strip(b"\r\n")]
    after = lines[blank[-1] + 1 :] if blank else [stream]
    return len(stream) - sum(map(len, after))


# Limits


def refuse(pieces: list[bytes], **limits: int) -> tuple[SizeLimit, list[bytes]]:
    """The limit that was broken, and the data of all events before."""
    parser = SSEParser(**limits)  # type: ignore[arg-type]  # only the limits are given
    got: list[object] = []
    with pytest.raises(FrameTooLarge) as caught:
        got.extend(event for piece in pieces for event in parser.feed(piece))
    with pytest.raises(FrameTooLarge) as again:
        parser.feed(b"data: x\n\n")
    with pytest.raises(FrameTooLarge):
        parser.close()
    assert again.value.kind == caught.value.kind
    assert list(again.value.events) == []
    got += caught.value.events
    return caught.value.kind, [event.data for event in got if isinstance(event, SSEEvent)]


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b"data: 12345", "line_too_long"),
        (b"data:123456", "line_too_long"),
        (b"event: 1234", "line_too_long"),
        (b": a comment", "line_too_long"),
        (b"unknown: 12", "line_too_long"),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_line_over_the_limit_is_refused(line: bytes, kind: SizeLimit, end: bytes) -> None:
    stream = b"data: 1\n\ndata: 2\n\n" + line + end

    assert refuse([stream], max_line_bytes=10) == (kind, [b"1", b"2"])
    assert refuse(bytewise(stream), max_line_bytes=10) == (kind, [b"1", b"2"])
    assert parse([stream]) == [SSEEvent("", b"1"), SSEEvent("", b"2")]


@pytest.mark.parametrize(
    "block",
    [
        b"data: 12345678901",
        b"data:12345678901\n",
        b"data: 12345\r\ndata: 67890\r\n",
        b"data: 12345\ndata: 67890",
        b"data\ndata: 1234567890",
        b"data\n" * 12,
    ],
)
def test_data_over_the_limit_is_refused_before_the_blank_line(block: bytes) -> None:
    stream = b"data: 1\n\n" + block

    assert refuse([stream], max_event_bytes=10) == ("event_too_large", [b"1"])
    assert refuse(bytewise(stream), max_event_bytes=10) == ("event_too_large", [b"1"])
    assert refuse([b"data: 1\n\n", block], max_event_bytes=10) == ("event_too_large", [b"1"])


def test_event_limit_alone_bounds_lines_without_data() -> None:
    fine, long = b": 34567890123456\n\n", b": 345678901234567\n\n"
    parser = SSEParser(max_event_bytes=10)

    assert parser.feed(fine) == []
    assert refuse([long], max_event_bytes=10) == ("line_too_long", [])
    assert refuse(bytewise(long), max_event_bytes=10) == ("line_too_long", [])


def test_event_exactly_at_both_limits_is_fine() -> None:
    stream = b"data: 1234567890\n\n" * 2
    for pieces in ([stream], bytewise(stream), [stream[:18], stream[18:]]):
        parser = SSEParser(max_line_bytes=16, max_event_bytes=10)

        events = [event for piece in pieces for event in parser.feed(piece)]

        assert [event.data for event in events] == [b"1234567890"] * 2


def test_single_read_over_the_limit_is_refused_between_events() -> None:
    reads = [b"data: 1\n\n", b"data: 12345678901\n\n"]

    assert refuse(reads, max_event_bytes=10) == ("event_too_large", [b"1"])
    assert refuse(reads, max_line_bytes=16) == ("line_too_long", [b"1"])


def test_long_line_in_small_pieces_is_not_copied_again_and_again() -> None:
    # 10 MB: copying what is there for each kB that comes would take minutes.
    piece = b"x" * 1000
    parser = SSEParser()

    for opening in (b"data: ", b"unknown: "):
        parser.feed(opening)
        for _ in range(10_000):
            parser.feed(piece)
        parser.feed(b"\n")
    events = parser.feed(b"\n")

    assert [event.data for event in events] == [piece * 10_000]


# Writing


@pytest.mark.parametrize(
    ("data", "event", "frame"),
    [
        (b"", "", b"data: \n\n"),
        (b"{}", "", b"data: {}\n\n"),
        (b"{}", "delta", b"event: delta\ndata: {}\n\n"),
        (b"a\nb\n", "", b"data: a\ndata: b\ndata: \n\n"),
        (b"a\r\nb\rc", "", b"data: a\ndata: b\ndata: c\n\n"),
        ("\u2028".encode(), "\u00e9", b"event: \xc3\xa9\ndata: \xe2\x80\xa8\n\n"),
    ],
)
def test_event_is_written_with_line_feeds_only(data: bytes, event: str, frame: bytes) -> None:
    assert encode_event(data, event) == frame


@pytest.mark.parametrize("name", ["a\nb", "a\r", "\n"])
def test_event_name_with_a_line_end_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="line end"):
        encode_event(b"{}", name)


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ("ping", b": ping\n\n"),
        ("", b": \n\n"),
        ("two\nlines", b": two\n: lines\n\n"),
        ("a\r\ndata: b\rc", b": a\n: data: b\n: c\n\n"),
    ],
)
def test_comment_is_a_frame_without_an_event(text: str, frame: bytes) -> None:
    parser = SSEParser()

    assert comment(text) == frame
    assert parser.feed(frame) == []
    assert parser.pending_bytes == 0


@given(st.text(), st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])))
def test_what_is_written_is_read_again(text: str, name: str) -> None:
    data = text.encode()
    read_back = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    frame = encode_event(data, name)

    assert parse([frame]) == [SSEEvent(name, read_back)]
    assert parse(bytewise(frame)) == [SSEEvent(name, read_back)]


def test_sseclient_reads_what_is_written() -> None:
    written = [
        encode_event(b'{"a":1}'),
        comment("ping"),
        encode_event("two\nlines, é".encode(), "delta"),
        encode_event(b"[DONE]"),
    ]

    events = list(sseclient.SSEClient(iter(written)).events())

    assert [(event.event, event.data) for event in events] == [
        ("message", '{"a":1}'),
        ("delta", "two\nlines, é"),
        ("message", "[DONE]"),
    ]


# Frames


@pytest.mark.parametrize(
    ("stream", "raw"),
    [
        (b"", []),
        (b"data: a\n\n", [b"data: a\n\n"]),
        (b"id: 1\ndata: a\n\n: c\n\n", [b"id: 1\ndata: a\n\n", b": c\n\n"]),
        (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"data: a\r\n\r\n", b"data: b\r\n\r\n"]),
        (b"data: a\r\rdata: b\r\r", [b"data: a\r\r", b"data: b\r\r"]),
        (b"data: a\n\r\ndata: b\r\n\n", [b"data: a\n\r\n", b"data: b\r\n\n"]),
        (b"data: a\n\n\ndata: b\n\n", [b"data: a\n\n", b"\n", b"data: b\n\n"]),
        (b"data: a\n\ndata: b\n", [b"data: a\n\n", b"data: b\n"]),
        (b"\ndata: a\n\n", [b"\n", b"data: a\n\n"]),
        (b"data: a\n\ndata: b\n\n", [b"data: a\n\n", b"data: b\n\n"]),
        ("data: \u2028\x0b\x0c\x85\n\n".encode(), ["data: \u2028\x0b\x0c\x85\n\n".encode()]),
    ],
)
def test_frames_are_cut_after_each_blank_line(stream: bytes, raw: list[bytes]) -> None:
    assert frames(stream) == raw


@given(STREAMS)
def test_frames_joined_are_the_stream(stream: bytes) -> None:
    found = frames(stream)

    assert b"".join(found) == stream
    assert all(end_of_last_blank_line(frame) == len(frame) for frame in found[:-1])
