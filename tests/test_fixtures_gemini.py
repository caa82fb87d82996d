"""Every recorded Gemini answer, in every way of cutting it up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.gemini import GEMINI
from parsers.events import Failed, ToolCall
from tests.fixture_streams import Case, cases, check, check_grammar, play, replay, ways

CASES = cases("gemini")
STREAMED = [case for case in CASES if case.streamed]


def test_all_recordings_are_there() -> None:
    assert len(CASES) == 8


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recording_means_what_its_fixture_says(case: Case) -> None:
    for way, pieces in ways(case):
        events = play(case, GEMINI, pieces)

        check(case, events)
        assert way


@given(case=st.sampled_from(STREAMED), data=st.data())
def test_recording_means_the_same_however_it_is_cut(case: Case, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(case.body)), max_size=6).map(sorted))
    bounds = [0, *cuts, len(case.body)]
    pieces = [case.body[a:b] for a, b in itertools.pairwise(bounds)]

    assert replay(GEMINI, pieces) == replay(GEMINI, [case.body])


@given(case=st.sampled_from(STREAMED), data=st.data())
def test_recording_cut_before_its_finish_reason_is_no_whole_answer(
    case: Case, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(case.body)))
    body = case.body[:end]

    events = replay(GEMINI, [body])

    check_grammar(events)
    said_why = b'"finishReason"' in body or b'"blockReason"' in body
    assert isinstance(events[-1], Failed) or said_why


def test_the_signature_of_a_call_is_told_with_it() -> None:
    (case,) = [case for case in CASES if case.name == "gemini-tool-calls-parallel"]

    events = play(case, GEMINI, [case.body])

    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [(call.name, call.signature) for call in calls] == [
        ("weather", "c2ln"),
        ("list_all", None),
    ]
