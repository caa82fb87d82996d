"""A stream watched at a glance is judged as one that is decoded in full, whatever is in it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import MAX_EVENT_BYTES, StreamDecoder, UpstreamDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.glance import Glance
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.responses import RESPONSES
from parsers.dialects.tgi import TGI
from parsers.errors import FrameTooLarge
from parsers.events import StreamEvent, Text, Thinking
from parsers.sse import frames
from tests.fixture_streams import Case, cases, ways

DIALECTS: dict[str, UpstreamDialect] = {
    "openai-chat": OPENAI_CHAT,
    "openai-completions": OPENAI_COMPLETIONS,
    "openai-responses": RESPONSES,
    "tgi-native": TGI,
}
CASES = [case for case in cases(*DIALECTS) if case.streamed]
SMALL = [case for case in CASES if len(case.body) < 10_000]


def watch(dialect: UpstreamDialect, reads: list[bytes], limit: int = MAX_EVENT_BYTES) -> list[int]:
    """Read by read what the glance said, having asserted that the decoder says the same.

    One decoder gets every read, the other only those that are not dull; they must give the same
    events for these, and the same last events. So finish, usage, fault, end and contents agree.
    """
    full, watched = dialect.stream_decoder(limit), dialect.stream_decoder(limit)
    glance = Glance(limit)
    counts = []
    for read in reads:
        counts.append(glance.dull(read))
        expected = fed(full, read)
        if not counts[-1]:
            events = fed(watched, read)
            assert events == expected
            if events is None:
                return counts
            glance.learn(read, events)
        else:
            assert expected is not None
            assert len(expected) == counts[-1]
            assert all(isinstance(event, Text | Thinking) and event.text for event in expected)
        assert watched.pending_bytes == full.pending_bytes
    assert watched.close() == full.close()
    return counts


def fed(decoder: StreamDecoder, read: bytes) -> list[StreamEvent] | None:
    """The events of the read; None if it goes over the limit."""
    try:
        return decoder.feed(read)
    except FrameTooLarge:
        return None


def chat(body: bytes, head: bytes = b'"id":"a"', tail: bytes = b"") -> bytes:
    """An ordinary chunk around the body of a JSON string."""
    return b'data: {%b,"choices":[{"delta":{"content":"%b"}%b}]}\n\n' % (head, body, tail)


def text(members: bytes) -> bytes:
    """A text completion's chunk with these members of a choice."""
    return b'data: {"choices":[{%b}]}\n\n' % members


# What is told at a glance

FIRST = [chat(b"a"), chat(b" b"), chat(b" c")]  # begins the answer; and two to learn from


def test_a_text_is_dull_after_two_alike() -> None:
    assert watch(OPENAI_CHAT, [*FIRST, chat(b" d"), chat(b" e")]) == [0, 0, 0, 1, 1]


def test_recorded_streams_with_more_of_the_same_are_mostly_dull() -> None:
    """The property tests below would say little if nothing they try were ever dull."""
    dull: dict[str, int] = {}
    for case in SMALL:
        stream = frames(case.body)
        for at in range(len(stream)):
            longer = stream.copy()
            _reword(longer, at, 4, b" more")
            counts = watch(DIALECTS[case.dialect], longer)
            dull[case.name] = max(dull.get(case.name, 0), sum(counts))

    learnt = [name for name, count in dull.items() if count >= 2]
    assert len(learnt) > len(SMALL) / 2


def test_several_in_one_read_are_counted() -> None:
    read = chat(b" d") + chat(b" e") + chat(b" f")

    assert watch(OPENAI_CHAT, [*FIRST, read, read]) == [0, 0, 0, 3, 3]


def test_two_equal_texts_prove_nothing_yet() -> None:
    reads = [chat(b"a"), chat(b"b"), chat(b"b"), chat(b"c"), chat(b"d")]

    assert watch(OPENAI_CHAT, reads) == [0, 0, 0, 0, 1]


def test_thinking_is_as_dull_as_text() -> None:
    def chunk(thought: bytes) -> bytes:
        return b'data: {"choices":[{"delta":{"reasoning":"%b"}}]}\n\n' % thought

    assert watch(OPENAI_CHAT, [chunk(b"%d" % i) for i in range(9)])[3:] == [1] * 6


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", [b"", b"event: message"])
def test_named_events_and_both_line_ends_are_learnt(name: bytes, end: bytes) -> None:
    before = name + end if name else b""
    reads = [before + b"data:" + chat(b"%d" % i)[5:-2] + end + end for i in range(9)]

    assert watch(OPENAI_CHAT, reads)[3:] == [1] * 6


def test_another_second_is_learnt_anew() -> None:
    reads = [chat(b"%d" % i, b'"created":%d' % (i // 10)) for i in range(30)]

    assert sum(watch(OPENAI_CHAT, reads)) == 7 + 8 + 8


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recordings_mean_the_same_at_a_glance(case: Case) -> None:
    for way, reads in [*ways(case), ("frames", frames(case.body))]:
        watch(DIALECTS[case.dialect], reads)
        assert way


@pytest.mark.parametrize("dialect", [OPENAI_CHAT, OPENAI_COMPLETIONS], ids=lambda it: it.name)
def test_every_short_text_that_is_dull_is_one(dialect: UpstreamDialect) -> None:
    def chunk(body: bytes) -> bytes:
        member = b'"text":"%b"' if dialect is OPENAI_COMPLETIONS else b'"delta":{"content":"%b"}'
        return text(member % body)

    glance, decoder = Glance(MAX_EVENT_BYTES), dialect.stream_decoder()
    for body in (b"a", b"b", b"c"):
        assert glance.dull(chunk(body)) == 0
        glance.learn(chunk(body), decoder.feed(chunk(body)))

    refused = 0
    for pair in itertools.product(range(256), repeat=2):
        read = chunk(bytes(pair))
        if glance.dull(read):
            (event,) = decoder.feed(read)
            assert isinstance(event, Text)
            assert event.text
        else:  # learn again, with a decoder that has not seen what was refused
            refused += 1
            glance, decoder = Glance(MAX_EVENT_BYTES), dialect.stream_decoder()
            for body in (b"a", b"b", b"c"):
                glance.learn(chunk(body), decoder.feed(chunk(body)))

    whole_escapes = len(rb'"\/bfnrt')
    bad = 32 + len(rb'"\\'[:2])  # control characters, quote and backslash
    two_byte_characters = (0xDF - 0xC1) * (0xBF - 0x7F)
    assert refused == 256**2 - (128 - bad) ** 2 - two_byte_characters - whole_escapes


# Bodies of JSON strings and what only looks like one, whole escapes among them.
TEXTS = b"a| |\xc3\xa9|\xff|\xed\xa0\x80|\x7f|\xe2\x80\xa8|{|:|[DONE]".split(b"|")
ESCAPES = rb"\n \" \\ \/ \u0000 \uD7ff \ue000 \ud83d\ude00 \uDBFF\uDFFF".split()
NONE_AT_ALL = [*rb'\ud83d \ude00 \u12 \x \ "'.split(), b"\n", b"\r", b"\t", b"\0"]
ENDINGS = rb'","finish_reason":"stop "},"finish_reason":"stop","x":{"y":"'.split()
PIECES = st.sampled_from([*TEXTS, *ESCAPES, *NONE_AT_ALL, *ENDINGS])
BODIES = st.lists(PIECES, max_size=4).map(b"".join)


@given(bodies=st.lists(BODIES, max_size=8))
def test_whatever_a_text_is_made_of_it_is_judged_alike(bodies: list[bytes]) -> None:
    counts = watch(OPENAI_CHAT, [*FIRST, *map(chat, bodies)])

    assert len(counts) <= len(FIRST) + len(bodies)


# What must not be learnt


def completion(*members: bytes) -> list[int]:
    return watch(OPENAI_COMPLETIONS, [text(b'"text":"x"'), *map(text, members)])


def test_a_key_is_no_text() -> None:
    # The last of two equal keys counts: the first two say the span, the third finishes the choice.
    one = b'"text":"abc","text":"\\u0074ext"'
    two = b'"text":"abc","abc":"\\u0074ext"'

    assert completion(one, two, b'"text":"abc","finish_reason":"\\u0074ext"') == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("one", "two", "three"),
    [
        ((b'{"k":1}', "k"), (b'{"l":1}', "l"), b'{"m":1}'),  # a key
        ((b'{"k":"v"}', ":"), (b'{"k" : "v"}', " : "), b'{"k"1"v"}'),  # between two strings
        ((b'{"k":"\\"a"}', "a"), (b'{"k":"\\"b"}', "b"), b'{"k":"\\"c"}'),  # the end of a string
        ((b'["a","b"]', 'a","b'), (b'["c","d"]', 'c","d'), b'["e"]'),  # more than a string
        ((b'["a"]}', "a"), (b'["b"]}', "b"), b'["c"]}'),  # in what is no JSON
    ],
)
def test_only_a_whole_string_is_learnt(
    one: tuple[bytes, str], two: tuple[bytes, str], three: bytes
) -> None:
    glance = Glance(MAX_EVENT_BYTES)
    glance.learn(b"data: [DONE]\n\n", [])
    for payload, told in (one, two):
        glance.learn(b"data: %b\n\n" % payload, [Text(told)])

    assert glance.dull(b"data: %b\n\n" % three) == 0


def test_a_text_that_is_not_the_answers_is_not_taken_for_it() -> None:
    reads = [b'"text":"%b","stop_reason":"a"' % body for body in (b"a", b"b", b"c", b"d")]

    assert completion(*reads)[:4] == [0] * 4


def test_a_text_in_two_places_is_not_learnt() -> None:
    reads = [b'"text":"%d","other":"%d"' % (i, i) for i in range(9)]

    assert completion(*reads) == [0] * 10


def test_only_reads_that_are_events_of_their_own_are_learnt_from() -> None:
    begun = [FIRST[0], b": comment\n", *FIRST[1:], chat(b"d"), chat(b"e")]
    two_lines = [chat(b"%d" % i).replace(b"\n\n", b"\ndata: \n\n") for i in range(9)]

    assert watch(OPENAI_CHAT, begun) == [0, 0, 0, 0, 0, 1]
    assert watch(OPENAI_CHAT, two_lines) == [0] * 9


def test_only_two_alike_on_both_sides_are_learnt_from() -> None:
    reads = [chat(b"%d" % i, tail=b',"n":%d' % (i // 2)) for i in range(3, 8)]

    assert watch(OPENAI_CHAT, [FIRST[0], *reads, chat(b"9", tail=b',"n":3')]) == [0] * 6 + [1]


@pytest.mark.parametrize(
    "spoil",
    [
        (b'"a"', b'"\\ud83d"'),  # half a character
        (b'"a"', b'"\xff"'),
        (b'"a"', b'"%b"' % (b"a" * 5000)),
        (b"data:", b"id: 1\ndata:"),
        (b"data:", b"odd: 1\ndata:"),
    ],
)
def test_events_that_are_odd_elsewhere_are_not_learnt(spoil: tuple[bytes, bytes]) -> None:
    reads = [chat(b"%d" % i).replace(*spoil) for i in range(9)]

    assert watch(OPENAI_CHAT, reads) == [0] * 9


def test_after_some_tries_nothing_is_tried_any_more() -> None:
    never_alike = [chat(b"%d" % i, b'"n":%d' % i) for i in range(10)]

    assert sum(watch(OPENAI_CHAT, [*never_alike, *FIRST, *FIRST, *FIRST])) == 0


# What ends it


@pytest.mark.parametrize(
    "other",
    [
        b": keep-alive\n\n",
        b"\n",
        chat(b"e")[:-1],
        chat(b""),
        chat(b"e", tail=b',"finish_reason":"stop"'),
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}\n\n',
        b'data: {"error":{"message":"gone"}}\n\n',
        b'error: {"message":"gone"}\n\n',
        b"data: [DONE]\n\n",
        b"event: error\n",
        chat(b"e") + b"data: [DONE]\n\n",
        b"",
    ],
)
def test_any_other_read_ends_it(other: bytes) -> None:
    counts = watch(OPENAI_CHAT, [*FIRST, chat(b"d"), other, chat(b"e"), chat(b"f"), chat(b"g")])

    assert counts[3:7] == [1, 0, 0, 0]


def test_a_text_over_the_limit_is_the_decoders_to_refuse() -> None:
    room = 10
    reads = [*FIRST, *(chat(b"d" * size) for size in range(1, 3 * room))]

    counts = watch(OPENAI_CHAT, reads, len(chat(b"")) + room)

    assert counts[3 : 3 + room] == [1] * room
    assert len(counts) < len(reads)  # the decoder refused one, and so did both


def test_a_finish_is_seen_though_the_read_is_as_long() -> None:
    reads = [chat(b"%d" % i, tail=b',"finish_reason":null') for i in range(5)]

    counts = watch(OPENAI_CHAT, [*reads, chat(b"x", tail=b',"finish_reason":"st"')])

    assert counts == [0, 0, 0, 1, 1, 0]


@pytest.mark.parametrize("half", [b"\\ud83d", b"\\uDE00", b"\\ude00\\ud83d"])
def test_half_a_character_is_the_decoders_to_repair(half: bytes) -> None:
    assert watch(OPENAI_CHAT, [*FIRST, chat(b"d"), chat(half)]) == [0, 0, 0, 1, 0]


# Streams that were tampered with

ODD_BYTES = st.sampled_from(
    [b'"', b"\\", b"\n", b"\n\n", b"\r", b"{", b"}", b":", b",", b"\xff"]
) | (st.integers(0, 255).map(lambda byte: bytes([byte])))
PLACES = st.integers(0, 10**6)


def _again(stream: list[bytes], at: int, to: int, more: bytes) -> None:
    stream[to % len(stream) : 0] = [stream[at % len(stream)]] * (1 + len(more) * 2)


def _swap(stream: list[bytes], at: int, to: int, more: bytes) -> None:
    at, to = at % len(stream), to % len(stream)
    stream[at], stream[to] = stream[to], stream[at]


def _drop(stream: list[bytes], at: int, to: int, more: bytes) -> None:
    if len(stream) > 1:
        del stream[at % len(stream)]


def _overwrite(stream: list[bytes], at: int, to: int, more: bytes) -> None:
    frame = stream[at % len(stream)]
    to %= len(frame) + 1
    stream[at % len(stream)] = frame[:to] + more + frame[to + len(more) :]


def _insert(stream: list[bytes], at: int, to: int, more: bytes) -> None:
    frame = stream[at % len(stream)]
    to %= len(frame) + 1
    stream[at % len(stream)] = frame[:to] + more + frame[to:]


def _delete(stream: list[bytes], at: int, to: int, more: bytes) -> None:
    frame = stream[at % len(stream)]
    to %= len(frame)
    stream[at % len(stream)] = frame[:to] + frame[to + 1 :] or b"\n"


_TEXT_KEYS = (
    *(b'"content":"', b'"content": "', b'"text":"', b'"text": "'),
    *(b'"reasoning":"', b'"delta":"'),
)


def _reword(stream: list[bytes], at: int, to: int, more: bytes) -> None:
    """Copies of one event with other texts in it, as a model would go on."""
    frame = stream[at % len(stream)]
    for key in _TEXT_KEYS:
        before, found, after = frame.partition(key)
        if found and b'"' in after:
            rest = after[after.index(b'"') :]
            words = [b" w%d" % i for i in range(to % 5)] + [more]
            here = at % len(stream) + 1
            stream[here:here] = [before + key + word + rest for word in words]
            return


CHANGES = st.tuples(
    st.sampled_from([_again, _swap, _drop, _overwrite, _insert, _delete, _reword, _reword]),
    PLACES,
    PLACES,
    ODD_BYTES,
)


@st.composite
def tampered(draw: st.DrawFn) -> tuple[UpstreamDialect, list[bytes]]:
    """A recorded stream with some frames repeated, swapped, dropped, changed; and cut anyhow."""
    case = draw(st.sampled_from(SMALL))
    stream = frames(case.body) or [b"\n"]
    for change, at, to, more in draw(st.lists(CHANGES, max_size=6)):
        change(stream, at, to, more)
    way = draw(st.sampled_from(["frames", "frames", "frames", "joined", "cuts", "bytes"]))
    body = b"".join(stream)
    if way == "frames":
        return DIALECTS[case.dialect], stream
    if way == "bytes":
        return DIALECTS[case.dialect], [body[at : at + 1] for at in range(len(body))]
    if way == "joined":
        size = draw(st.integers(2, 4))
        joined = [b"".join(stream[at : at + size]) for at in range(0, len(stream), size)]
        return DIALECTS[case.dialect], stream[:3] + joined[1:]
    cuts = draw(st.lists(st.integers(0, len(body)), max_size=8).map(sorted))
    return DIALECTS[case.dialect], [
        body[start:end] for start, end in itertools.pairwise([0, *cuts, len(body)])
    ]


@given(stream=tampered(), limit=st.sampled_from([MAX_EVENT_BYTES, MAX_EVENT_BYTES, 300]))
def test_a_tampered_stream_is_judged_alike(
    stream: tuple[UpstreamDialect, list[bytes]], limit: int
) -> None:
    dialect, reads = stream

    assert watch(dialect, reads, limit)[:2] in ([0, 0], [0], [])
