"""Every recorded answer in a native protocol of Ollama, SGLang and llama.cpp."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import UpstreamDialect
from parsers.dialects.llamacpp import LLAMA_CPP
from parsers.dialects.ollama import OLLAMA
from parsers.dialects.sglang import SGLANG
from parsers.events import Ended
from tests.fixture_streams import Case, cases, check, check_grammar, play, ways

DIALECTS: dict[str, UpstreamDialect] = {
    "ollama-native": OLLAMA,
    "sglang-native": SGLANG,
    "llamacpp-native": LLAMA_CPP,
}
CASES = cases(*DIALECTS)


def test_all_recordings_are_there() -> None:
    assert len(CASES) == 6


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recording_means_what_its_fixture_says(case: Case) -> None:
    for way, pieces in ways(case):
        events = play(case, DIALECTS[case.dialect], pieces)

        check(case, events)
        assert way


@given(case=st.sampled_from(CASES), data=st.data())
def test_recording_means_the_same_however_it_is_cut(case: Case, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(case.body)), max_size=6).map(sorted))
    bounds = [0, *cuts, len(case.body)]
    pieces = [case.body[a:b] for a, b in itertools.pairwise(bounds)]

    events = play(case, DIALECTS[case.dialect], pieces)

    assert events == play(case, DIALECTS[case.dialect], [case.body])


@given(case=st.sampled_from(CASES), data=st.data())
def test_recording_cut_short_is_never_a_whole_answer(case: Case, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(case.body.rstrip()) - 1))

    events = play(case, DIALECTS[case.dialect], [case.body[:end]])

    check_grammar(events)
    assert events[-1] != Ended()
