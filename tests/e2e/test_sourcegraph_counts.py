"""Tokens that cannot be counted fail no request (B-31)."""

from __future__ import annotations

import msgspec
import pytest

from tests.e2e.frames import DONE, FINISH, TOKEN, same, stream
from tests.e2e.test_sourcegraph_api import CODE, LLM, STREAM, asking, at, listened, llm
from tests.harness import config_for, penstock
from tests.scripted import Upstream, response

ODD = [
    *(b'"many"', b"[]", b"7", b"true", b"null", b"{}"),
    *(b'{"prompt_tokens":"3"}', b'{"prompt_tokens":-1,"completion_tokens":1.5}'),
    b'{"prompt_tokens":null,"completion_tokens":[]}',
    b'{"prompt_tokens":3,"completion_tokens":1,"prompt_tokens_details":"x"}',
    b'{"prompt_tokens":3,"completion_tokens":%b}' % (b"9" * 40),
]
WORD = b'data: {"choices":[{"index":0,"text":"Hi","finish_reason":"stop"}]}\n\n'


@pytest.mark.parametrize("usage", ODD)
@pytest.mark.parametrize("path", [STREAM, CODE])
async def test_a_stream_with_odd_counts_is_whole(path: str, usage: bytes) -> None:
    counts = b'data: {"choices":[],"usage":%b}\n\n' % usage
    frames = (TOKEN, FINISH) if path == STREAM else (WORD,)
    async with (
        Upstream(same(stream(*frames, counts, DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        got = await listened(proxy, path, 9)
        (line,) = await proxy.ended()

    assert (got.text, got.stop_reason, got.error) == ("Hi", "stop", None)
    assert line.outcome == "complete"


@pytest.mark.parametrize("usage", ODD)
@pytest.mark.parametrize("path", [STREAM, CODE, LLM])
async def test_a_whole_answer_with_odd_counts_is_whole(path: str, usage: bytes) -> None:
    said = b'"text":"Hi"' if path == CODE else b'"message":{"role":"assistant","content":"Hi"}'
    answer = b'{"choices":[{"index":0,%b,"finish_reason":"stop"}],"usage":%b}' % (said, usage)
    body = llm() if path == LLM else asking(stream=False)
    async with (
        Upstream(same(response(answer))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        status, got = await proxy.ask(path if path == LLM else at(path, 9), body)
        (line,) = await proxy.ended()

    whole = msgspec.json.decode(got)
    text = whole["choices"][0]["message"]["content"] if path == LLM else whole["completion"]
    assert (status, text, line.outcome) == (200, "Hi", "complete")
