"""Counts that are none fail no answer, in whichever dialect; nor do details that are none."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from parsers.dialects.anthropic import ANTHROPIC
from parsers.dialects.base import UpstreamDialect
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.responses import RESPONSES
from parsers.events import TERMINAL, Ended, Usage

ODD = [b'"many"', b"7", b"1.5", b"true", b"[1]", b"null"]

OPENAI = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}],"usage":%b}'
MESSAGE = (
    b'{"id":"m","type":"message","role":"assistant","model":"x","stop_reason":"end_turn",'
    b'"content":[{"type":"text","text":"x"}],"usage":%b}'
)
RESPONSE = (
    b'{"id":"r","status":"completed","output":[{"type":"message","content":'
    b'[{"type":"output_text","text":"x"}]}],"usage":%b}'
)
DIALECTS: Mapping[str, UpstreamDialect] = {
    "openai": OPENAI_CHAT,
    "anthropic": ANTHROPIC,
    "responses": RESPONSES,
}
WHOLE = {"openai": OPENAI, "anthropic": MESSAGE, "responses": RESPONSE}
STREAMED = {
    "openai": b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}],'
    b'"usage":%b}\n\ndata: [DONE]\n\n',
    "anthropic": b'data: {"type":"message_start","message":{"id":"m","usage":%b}}\n\n'
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":null}\n\n'
    b'data: {"type":"message_stop"}\n\n',
    "responses": b'data: {"type":"response.completed","response":{"status":"completed",'
    b'"usage":%b}}\n\n',
}
COUNTED = {
    "openai": b'{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":%b,'
    b'"completion_tokens_details":%b}',
    "anthropic": b'{"input_tokens":3,"output_tokens":1,"output_tokens_details":%b,"x":%b}',
    "responses": b'{"input_tokens":3,"output_tokens":1,"input_tokens_details":%b,'
    b'"output_tokens_details":%b}',
}


@pytest.mark.parametrize("usage", ODD)
@pytest.mark.parametrize("name", DIALECTS)
def test_a_whole_answer_ends_well(name: str, usage: bytes) -> None:
    body = WHOLE[name] % usage

    for events in (DIALECTS[name].decode_body(body), DIALECTS[name].judge_body(body)):
        assert isinstance(events[-1], Ended)
        assert not any(isinstance(event, Usage) for event in events)


@pytest.mark.parametrize("usage", ODD)
@pytest.mark.parametrize("name", DIALECTS)
def test_a_stream_ends_well(name: str, usage: bytes) -> None:
    decoder = DIALECTS[name].stream_decoder()

    events = decoder.feed(STREAMED[name] % usage) + decoder.close()

    assert [type(event) for event in events if isinstance(event, TERMINAL)] == [Ended]
    assert not any(isinstance(event, Usage) for event in events)


@pytest.mark.parametrize("details", ODD)
@pytest.mark.parametrize("name", DIALECTS)
def test_counts_stay_without_their_details(name: str, details: bytes) -> None:
    body = WHOLE[name] % (COUNTED[name] % (details, details))

    for events in (DIALECTS[name].decode_body(body), DIALECTS[name].judge_body(body)):
        assert [event for event in events if isinstance(event, Usage)] == [Usage(3, 1)]
