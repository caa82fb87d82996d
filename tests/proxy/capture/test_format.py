"""The file of a capture: what is written is read again, and what is not one is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.capture import BadCapture, Event, read_capture
from proxy.capture.format import FORMAT, Header, written

HEADER = Header(format=FORMAT, time="2026-01-01T00:00:00+00:00", reason="debug", request={})
FIRST = b'{"format":"penstock-capture/1","time":"","reason":"debug","request":{}}\n'


def test_a_file_is_a_line_of_json_and_markers_with_exact_bytes() -> None:
    events = [
        Event(0.00031, "client", "received", b"POST / HTTP/1.1\r\n\r\n{}"),
        Event(1.5, "upstream-1", "ended", b"reset"),
    ]

    header, _, rest = written(HEADER, events).partition(b"\n")

    assert header.startswith(b'{"format":"penstock-capture/1",')
    assert rest == (
        b"#### 0.000310 client received 21\nPOST / HTTP/1.1\r\n\r\n{}\n"
        b"#### 1.500000 upstream-1 ended 5\nreset\n"
    )


events = st.builds(
    Event,
    at=st.integers(0, 10**9).map(lambda micros: micros / 10**6),
    party=st.sampled_from(["client", "upstream-1", "upstream-12"]),
    act=st.sampled_from(["received", "sent", "ended"]),
    data=st.binary() | st.just(b"\n#### 0.000000 client sent 3\nabc\n"),
)


@given(st.lists(events))
def test_what_was_written_is_read_again(events: list[Any]) -> None:
    capture = read_capture(written(HEADER, events))

    assert capture.header == HEADER
    assert list(capture.events) == events


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "first line"),
        (b"\xff\n", "first line"),
        (b"[]\n", "first line"),
        (FIRST.replace(b"/1", b"/2"), "format"),
        (FIRST + b"#### 0.000000 client sent 3\nabc", "ends early"),
        (FIRST + b"#### 0.000000 client sent 3\nabcd\n", "ends early"),
        (FIRST + b"#### 0.000000 client sent 99\nabc\n", "ends early"),
        (FIRST + b"#### 0.000000 nobody sent 3\nabc\n", f"no marker at byte {len(FIRST)}"),
        (FIRST + b"#### 0.000000 client sent 3 \nabc\n", f"no marker at byte {len(FIRST)}"),
    ],
)
def test_what_is_no_capture_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(BadCapture, match=said):
        read_capture(content)


def test_the_calls_of_a_capture_are_in_their_order() -> None:
    parties = ["client", "upstream-1", "upstream-2", "upstream-1", "client"]
    found = read_capture(written(HEADER, [Event(0.0, party, "sent", b"x") for party in parties]))

    assert found.upstreams == ["upstream-1", "upstream-2"]
    assert len(found.of("upstream-1", "sent")) == 2
