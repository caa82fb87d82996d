"""Frames that official clients fail on, and what is made of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.anthropic import ANTHROPIC
from parsers.dialects.base import ExactDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.mending import mended
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.responses import RESPONSES
from parsers.dialects.tgi import TGI
from parsers.sse import SSEParser
from tests.fixture_streams import Case, cases

PLAIN = b'data: {"choices":[]}\n\n'
TWO = b'data: {"choices":[]}{"choices":[]}\n\n'
ODD = {
    "byte order mark": b"\xef\xbb\xbf" + PLAIN,
    "not UTF-8": b'data: {"choices":[],"a":"\xff"}\n\n',
    "id": b"id: 1\n" + PLAIN,
    "retry": b"retry: 5\n\n" + PLAIN,
    "name without data": b"event: ping\n\n" + PLAIN,
    "empty data": b"data:\n\n" + PLAIN,
    "keep-alive as data": b"data: : keepalive\n\n" + PLAIN,
    "two values": TWO,
}


@pytest.mark.parametrize("frames", ODD.values(), ids=ODD)
def test_what_clients_fail_on_is_odd_from_its_first_read_on(frames: bytes) -> None:
    for cut in range(len(frames)):
        decoder = OPENAI_CHAT.stream_decoder()
        decoder.feed(frames[:cut])
        decoder.feed(frames[cut:])

        assert decoder.odd

        decoder.feed(PLAIN)

        assert decoder.odd


@pytest.mark.parametrize("frames", ODD.values(), ids=ODD)
def test_what_is_mended_is_no_longer_odd(frames: bytes) -> None:
    after = OPENAI_CHAT.mended(frames)

    decoder = OPENAI_CHAT.stream_decoder()
    decoder.feed(after)
    assert not decoder.odd
    assert after in (PLAIN, PLAIN * 2, b'data: {"choices":[],"a":"\xef\xbf\xbd"}\n\n')


@pytest.mark.parametrize(
    "frames",
    [PLAIN * 3, b": still here\n\n" + PLAIN, PLAIN.replace(b"\n", b"\r\n"), b"data:[DONE]\n\n"],
)
def test_what_clients_can_read_is_not_odd(frames: bytes) -> None:
    decoder = OPENAI_COMPLETIONS.stream_decoder()
    for byte in frames:
        decoder.feed(bytes([byte]))

    assert not decoder.odd


@pytest.mark.parametrize("dialect", [ANTHROPIC, RESPONSES])
def test_events_get_the_name_that_stands_in_them(dialect: ExactDialect) -> None:
    frame = b'data: {"type":"response.created"}\n\n'

    assert dialect.mended(frame) == b"event: response.created\n" + frame
    assert TGI.mended(frame) == frame


@pytest.mark.parametrize("payload", [b"[]", b"{}", b'{"type":7}', b'{"type":"a\\nb"}', b"x"])
def test_an_event_that_names_nothing_keeps_its_data(payload: bytes) -> None:
    assert ANTHROPIC.mended(b"data: %b\n\n" % payload) == b"data: %b\n\n" % payload


@given(
    st.lists(st.sampled_from([*ODD.values(), b": x\n\n", b"data: a\ndata: b\n\n"])).map(b"".join)
)
def test_mending_twice_is_mending_once(frames: bytes) -> None:
    once = mended(frames)

    assert mended(once) == once


@pytest.mark.parametrize(
    "case",
    [case for case in cases("openai-chat") if case.framing == "sse"],
    ids=lambda case: case.name,
)
def test_every_event_keeps_its_data(case: Case) -> None:
    kept = [event.data for event in SSEParser().feed(mended(case.body))]

    said = [event.data for event in SSEParser().feed(case.body)]
    assert kept == [data for data in said if data.strip() and not data.startswith(b":")]
