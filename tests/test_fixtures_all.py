"""No recording is forgotten: each is read by the tests of some dialect, in every way."""

from __future__ import annotations

from tests import (
    test_fixtures_anthropic,
    test_fixtures_bedrock,
    test_fixtures_gemini,
    test_fixtures_native,
    test_fixtures_openai,
    test_fixtures_responses,
)
from tests.fixture_streams import STREAMS, cases, ways

TESTED = [
    *test_fixtures_anthropic.CASES,
    *test_fixtures_bedrock.CASES,
    *test_fixtures_gemini.CASES,
    *test_fixtures_native.CASES,
    *test_fixtures_openai.CASES,
    *test_fixtures_responses.CASES,
    *cases("openai-completions", "tgi-native"),  # test_fixtures_tgi makes its own list of these
]


def test_each_recording_is_read_by_the_tests_of_one_dialect() -> None:
    files = sorted(f"{path.parent.name}-{path.stem}" for path in STREAMS.glob("*/*.json"))

    assert len(files) == 129
    assert sorted(case.name for case in TESTED) == files


def test_each_recording_is_read_whole_and_byte_by_byte_and_as_it_came() -> None:
    for case in TESTED:
        read = {way: b"".join(pieces) for way, pieces in ways(case)}

        assert {*read.values()} == {case.body}
        assert "bytewise" in read or len(case.body) > 50_000
        assert "recorded reads" in read or not case.chunk_sizes or case.content_encoding
