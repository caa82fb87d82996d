"""Every recorded Anthropic answer, in every way of cutting it up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.anthropic import ANTHROPIC
from parsers.dialects.base import ClientDialect, Identity, UpstreamDialect
from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import Ended, Failed, RedactedThinking, StreamEvent, Thinking
from tests.fixture_streams import Case, Outcome, cases, check, check_grammar, fold, play, ways

CASES = cases("anthropic-messages")
STREAMED = [case for case in CASES if case.streamed]
# A message is one answer.
OPENAI_CASES = [
    case for case in cases("openai-chat") if case.streamed and len(case.expect.choices or ()) < 2
]
IDENTITY = Identity("r-1", 1767225600, "m")


def test_all_recordings_are_there() -> None:
    assert len(CASES) == 12


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_recording_means_what_its_fixture_says(case: Case) -> None:
    for way, pieces in ways(case):
        events = play(case, ANTHROPIC, pieces)

        check(case, events)
        assert way


def test_recorded_thoughts_keep_their_signature_and_their_order() -> None:
    case = next(case for case in CASES if case.name == "anthropic-thinking")

    events = play(case, ANTHROPIC, [case.body])

    assert [event for event in events if isinstance(event, Thinking | RedactedThinking)] == [
        Thinking("Simple"),
        Thinking(" sum."),
        Thinking("", signature="c3ludGhldGlj"),
        RedactedThinking("ZW5j"),
    ]


@given(case=st.sampled_from(STREAMED), data=st.data())
def test_recording_means_the_same_however_it_is_cut(case: Case, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(case.body)), max_size=6).map(sorted))
    bounds = [0, *cuts, len(case.body)]
    pieces = [case.body[a:b] for a, b in itertools.pairwise(bounds)]

    events = play(case, ANTHROPIC, pieces)

    assert events == play(case, ANTHROPIC, [case.body])


@given(case=st.sampled_from(STREAMED), data=st.data())
def test_recording_cut_short_is_never_a_whole_answer_with_an_end_mark(
    case: Case, data: st.DataObject
) -> None:
    end = data.draw(st.integers(0, len(case.body)))

    events = play(case, ANTHROPIC, [case.body[:end]])

    check_grammar(events)
    assert b'{"type":"message_stop"' in case.body[:end] or events[-1] != Ended(marked=True)


def translated(
    events: list[StreamEvent], client: ClientDialect, reader: UpstreamDialect
) -> list[StreamEvent]:
    """The events, having been written for a client and read by one."""
    encoder = client.stream_encoder(IDENTITY, include_usage=True)
    decoder = reader.stream_decoder()
    return decoder.feed(b"".join(encoder.encode(each) for each in events)) + decoder.close()


def means_the_same(before: Outcome, after: Outcome) -> None:
    assert after.text == before.text + before.refusal
    assert after.reasoning == before.reasoning
    assert [(each.id, each.name) for each in after.tool_calls] == [
        (each.id, each.name) for each in before.tool_calls
    ]
    assert [each.arguments for each in after.tool_calls] == [
        each.arguments or "{}" for each in before.tool_calls
    ]
    assert after.ended in (before.ended, "clean", "error")


@pytest.mark.parametrize("case", STREAMED, ids=lambda case: case.name)
def test_recording_means_the_same_to_an_openai_client(case: Case) -> None:
    events = play(case, ANTHROPIC, [case.body])

    before, after = fold(events), fold(translated(events, OPENAI_CHAT, OPENAI_CHAT))

    means_the_same(before, after)
    assert after.finish_reason == before.finish_reason
    assert after.usage == (None if before.fault else before.usage)


@pytest.mark.parametrize("case", OPENAI_CASES, ids=lambda case: case.name)
def test_openais_recordings_mean_the_same_to_an_anthropic_client(case: Case) -> None:
    events = play(case, OPENAI_CHAT, [case.body])

    before, after = fold(events), fold(translated(events, ANTHROPIC, ANTHROPIC))

    if isinstance(events[-1], Failed):
        assert after.fault is not None
        assert after.fault.message == events[-1].fault.message
        assert after.text == before.text
        return
    means_the_same(before, after)
    if before.finish_reason is not None and not before.refusal:
        assert after.finish_reason == before.finish_reason
    if before.usage is not None:
        assert after.usage is not None
        assert after.usage.prompt_tokens == before.usage.prompt_tokens
        assert after.usage.completion_tokens == before.usage.completion_tokens
