"""Every recorded Responses answer, in every way of cutting it up."""

from __future__ import annotations

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.responses import RESPONSES
from parsers.events import Ended
from tests.fixture_streams import Case, cases, check, check_grammar, play, replay, ways

CASES = cases("openai-responses")
ENDINGS = (b"response.completed", b"response.incomplete")

REPLAYS = [
    pytest.param(case, pieces, id=f"{case.name}-{way.replace(' ', '-')}")
    for case in CASES
    for way, pieces in ways(case)
]


def expected(case: Case) -> Case:
    """The fixture with the message as a client may see it: without the URL."""
    if case.expect.error is not None and case.expect.error.message is not None:
        case.expect.error.message = case.expect.error.message.replace(
            "https://platform.openai.com/docs/guides/error-codes/api-errors.", "[url]"
        )
    return case


def test_all_recordings_are_there() -> None:
    assert len(CASES) == 4


@pytest.mark.parametrize(("case", "pieces"), REPLAYS)
def test_a_recording_means_what_its_fixture_says(case: Case, pieces: list[bytes]) -> None:
    check(expected(case), play(case, RESPONSES, pieces))


@given(case=st.sampled_from(CASES), data=st.data())
def test_a_recording_means_the_same_however_it_is_cut(case: Case, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(case.body)), max_size=6).map(sorted))
    pieces = [case.body[a:b] for a, b in itertools.pairwise([0, *cuts, len(case.body)])]

    assert replay(RESPONSES, pieces) == replay(RESPONSES, [case.body])


@given(case=st.sampled_from(CASES), data=st.data())
def test_a_recording_cut_short_is_never_a_whole_answer(case: Case, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(case.body)))

    events = replay(RESPONSES, [case.body[:end]])

    check_grammar(events)
    told = any(b"event: " + ending in case.body[:end] for ending in ENDINGS)
    assert told or not isinstance(events[-1], Ended)


# Anything that a broken server might put under the keys that are read.
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2), max_leaves=3)


def objects(*keys: str, **nested: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    optional = dict.fromkeys(keys, VALUES) | nested
    return VALUES | st.fixed_dictionaries({}, optional=optional)


PARTS = objects("text", "refusal", "logprobs", type=st.sampled_from(["output_text", "refusal"]))
ITEMS = objects(
    *("id", "call_id", "name", "arguments", "encrypted_content", "extra_content"),
    type=st.sampled_from(["message", "reasoning", "function_call", "custom_tool_call", "other"]),
    content=st.lists(PARTS, max_size=2) | VALUES,
    summary=st.lists(PARTS, max_size=2) | VALUES,
)
STATUSES = st.sampled_from(["completed", "incomplete", "failed", "cancelled", "queued", "odd"])
BODIES = objects(
    *("id", "model", "created_at", "error", "native_finish_reason"),
    status=STATUSES | VALUES,
    output=st.lists(ITEMS, max_size=3),
    usage=objects("input_tokens", "output_tokens"),
    incomplete_details=objects("reason"),
)
TYPES = st.sampled_from(
    [
        *("error", "response.created", "response.completed", "response.incomplete"),
        *("response.failed", "response.output_item.added", "response.output_item.done"),
        *("response.output_text.delta", "response.output_text.done", "response.refusal.delta"),
        *("response.refusal.done", "response.reasoning_text.delta"),
        *("response.reasoning_summary_part.added", "response.reasoning_summary_text.delta"),
        *("response.function_call_arguments.delta", "response.function_call_arguments.done"),
        *("response.web_search_call.searching", "keepalive"),
    ]
)
EVENTS = objects(
    *("delta", "text", "refusal", "arguments", "item_id", "output_index", "content_index"),
    *("summary_index", "logprobs", "message", "code"),
    type=TYPES | VALUES,
    item=ITEMS,
    response=BODIES,
)


@given(payloads=st.lists(EVENTS, max_size=6), done=st.booleans())
def test_whatever_a_server_sends_the_events_are_in_order(
    payloads: list[object], done: bool
) -> None:
    body = b"".join(b"data: %b\n\n" % msgspec.json.encode(payload) for payload in payloads)

    check_grammar(replay(RESPONSES, [body + (b"data: [DONE]\n\n" if done else b"")]))


@given(answer=BODIES)
def test_whatever_a_whole_answer_is_the_events_are_in_order(answer: object) -> None:
    body = msgspec.json.encode(answer)

    check_grammar(RESPONSES.decode_body(body))
    assert RESPONSES.judge_body(body)[-1] == RESPONSES.decode_body(body)[-1]


@given(body=st.binary())
def test_no_bytes_whatever_break_the_decoder(body: bytes) -> None:
    check_grammar(replay(RESPONSES, [body]))
    check_grammar(replay(RESPONSES, [b"data: " + body]))
    check_grammar(RESPONSES.decode_body(body))
    RESPONSES.decode_error(500, body)
