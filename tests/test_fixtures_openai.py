"""Every recorded OpenAI chat answer, in every way of cutting it up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import UpstreamDialect
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.tgi_chat import TGI_CHAT
from parsers.events import Ended
from tests.fixture_streams import Case, cases, check, check_grammar, play, ways

CASES = cases("openai-chat")
SMALL = [case for case in CASES if case.streamed and len(case.body) < 10_000]


def _dialect(case: Case) -> UpstreamDialect:
    return TGI_CHAT if case.upstream == "tgi" else OPENAI_CHAT


def test_all_recordings_are_there() -> None:
    assert len(CASES) == 72


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recording_means_what_its_fixture_says(case: Case) -> None:
    for way, pieces in ways(case):
        events = play(case, _dialect(case), pieces)

        check(case, events)
        assert way


@given(case=st.sampled_from(SMALL), data=st.data())
def test_recording_means_the_same_however_it_is_cut(case: Case, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(case.body)), max_size=6).map(sorted))
    bounds = [0, *cuts, len(case.body)]
    pieces = [case.body[a:b] for a, b in itertools.pairwise(bounds)]

    events = play(case, _dialect(case), pieces)

    assert events == play(case, _dialect(case), [case.body])


@given(case=st.sampled_from(SMALL), data=st.data())
def test_recording_cut_short_is_never_a_whole_answer_with_an_end_mark(
    case: Case, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(case.body)))

    events = play(case, _dialect(case), [case.body[:end]])

    check_grammar(events)
    assert b"[DONE]" in case.body[:end] or events[-1] != Ended(marked=True)
