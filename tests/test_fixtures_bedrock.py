"""Every recorded Bedrock answer, in every way of cutting it up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import UpstreamDialect
from parsers.dialects.bedrock import CONVERSE, InvokeAnthropic
from parsers.events import Ended
from tests.fixture_streams import Case, cases, check, check_grammar, play, ways

CASES = cases("bedrock-converse", "bedrock-invoke-anthropic")
STREAMED = [case for case in CASES if case.streamed]
DIALECTS: dict[str, UpstreamDialect] = {
    "bedrock-converse": CONVERSE,
    "bedrock-invoke-anthropic": InvokeAnthropic(),
}


def dialect_of(case: Case) -> UpstreamDialect:
    return DIALECTS[case.dialect]


def test_all_recordings_are_there() -> None:
    assert len(CASES) == 13


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recording_means_what_its_fixture_says(case: Case) -> None:
    for way, pieces in ways(case):
        events = play(case, dialect_of(case), pieces)

        check(case, events)
        assert way


@given(case=st.sampled_from(STREAMED), data=st.data())
def test_recording_means_the_same_however_it_is_cut(case: Case, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(case.body)), max_size=6).map(sorted))
    bounds = [0, *cuts, len(case.body)]
    pieces = [case.body[a:b] for a, b in itertools.pairwise(bounds)]

    events = play(case, dialect_of(case), pieces)

    assert events == play(case, dialect_of(case), [case.body])


@given(case=st.sampled_from(STREAMED), data=st.data())
def test_recording_cut_short_is_never_a_whole_answer_without_its_end_mark(
    case: Case, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(case.body)))
    converse = case.dialect == "bedrock-converse"
    mark = (
        case.body.find(b"stopReason") if converse else case.body.rfind(b"eyJ0eXBlIjoibWVzc2FnZV9z")
    )

    events = play(case, dialect_of(case), [case.body[:end]])

    check_grammar(events)
    assert events[-1] != Ended() or 0 <= mark < end
