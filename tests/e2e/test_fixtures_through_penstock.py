"""Every recorded answer, served by a scripted upstream and fetched through penstock.

The client speaks the recording's dialect and asks for usage, so that nothing has to change: what
arrives is what was recorded, or it says in one place, loudly, that it is not a whole answer.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import pytest

from parsers.dialects.base import UpstreamDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.tgi import TGI
from parsers.events import Failed, Text
from parsers.sse import frames
from tests.e2e.frames import in_reads
from tests.fixture_streams import Case, cases, fold, replay
from tests.harness import Line, Proxy, chat, config_for, penstock
from tests.scripted import LAST_CHUNK, Conversation, Upstream, response

CASES = cases("openai-chat", "openai-completions", "tgi-native")
DIALECTS: dict[str, UpstreamDialect] = {
    "openai-chat": OPENAI_CHAT,
    "openai-completions": OPENAI_COMPLETIONS,
    "tgi-native": TGI,
}
ASKED: dict[str, tuple[str, dict[str, object]]] = {
    "openai-chat": ("/v1/chat/completions", chat(stream_options={"include_usage": True})),
    "openai-completions": (
        "/v1/completions",
        {"prompt": "a", "stream": True, "stream_options": {"include_usage": True}},
    ),
    "tgi-native": ("/generate_stream", {"inputs": "a", "parameters": {"details": True}}),
}

# upstreams.md 11; an overloaded server may keep its 429.
STATUSES = {
    "invalid_request": {400},
    "context_length_exceeded": {400},
    "content_filter": {400},
    "authentication": {502},
    "not_found": {404},
    "rate_limited": {429},
    "quota_exceeded": {429},
    "overloaded": {429, 503},
    "upstream_error": {502},
    "truncated": {502},
    "protocol_error": {502},
}
REJECTED = {"invalid_request", "context_length_exceeded", "content_filter", "not_found"}
OUTCOMES = {"length": "length", "tool_calls": "tool_calls", "content_filter": "filtered"}

# What is not the recorded bytes although the answer is whole, and why.
OTHERWISE = {
    "quirk-200-nonstream-json",  # a stream was asked for, and becomes one
    "quirk-events-after-done",  # nothing is owed after the end mark
    # OpenAI's SDK fails on these, or loses text, so that their frames are mended:
    "quirk-bom",
    "quirk-concatenated-json",
    "quirk-data-colon-keepalive",
    "quirk-id-retry-empty-events",
    "quirk-invalid-utf8",
}
# Ends with [DONE] and says nothing before it: TGI 2.4 hides an error like this (tgi.md 7).
SILENT = {"tgi-chat-only-done"}


def reads(case: Case) -> Iterator[list[bytes]]:
    """The body as it goes out: whole, in the recorded reads, in some others."""
    body = gzip.compress(case.body) if case.content_encoding == "gzip" else case.body
    yield [body]
    if len(body) < 10_000:
        yield [body[start : start + 61] for start in range(0, len(body), 61)]
    if case.chunk_sizes:
        ends = [sum(case.chunk_sizes[: i + 1]) for i in range(len(case.chunk_sizes))]
        yield [body[start:end] for start, end in zip([0, *ends], [*ends, len(body)], strict=True)]


def head(case: Case) -> bytes:
    lines = [f"{name}: {value}\r\n" for name, value in case.http.headers.items()]
    if case.content_encoding and "content-encoding" not in case.http.headers:
        lines.append(f"content-encoding: {case.content_encoding}\r\n")
    return "".join(lines).encode()


async def serve(up: Conversation, case: Case, pieces: list[bytes]) -> None:
    if not case.streamed:
        up.send(response(b"".join(pieces), status=case.http.status, headers=head(case)))
        return
    start = b"HTTP/1.1 %d Recorded\r\n%b" % (case.http.status, head(case))
    await in_reads(up, filter(None, pieces), start + b"Transfer-Encoding: chunked\r\n\r\n")
    up.send(LAST_CHUNK)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_recording_arrives_whole_or_says_that_it_does_not(case: Case) -> None:
    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            await serve(up, case, next(pieces))

    ways = list(reads(case))
    pieces = iter(ways)
    tgi = case.upstream == "tgi"
    settings = {"dialect": "tgi"} if case.dialect == "tgi-native" else {}
    kind = "huggingface-tgi" if tgi else "openaicompatible"
    async with Upstream(script) as upstream:
        config = config_for(upstream.url, kind=kind, settings=settings)
        async with penstock(config) as proxy:
            for count in range(1, len(ways) + 1):
                await check_one(proxy, case, count)


async def check_one(proxy: Proxy, case: Case, count: int) -> None:
    path, asked = ASKED[case.dialect]
    status, body = await proxy.ask(path, asked)
    line = (await proxy.ended(count))[-1]
    assert (line.exact, line.status) == (True, status)
    error = case.expect.error
    if case.name in SILENT:
        assert (status, line.outcome) == (502, "truncated")
    elif error is None:
        check_whole(case, status, body, line)
    elif error.where in ("before_stream", "first_event"):
        assert status in STATUSES[error.class_]
        check_error_body(case, body)
        assert line.outcome == failed_outcome(error.class_)
    else:
        assert status == 200
        check_broken(case, body)
        assert line.outcome == failed_outcome(error.class_)


def check_whole(case: Case, status: int, body: bytes, line: Line) -> None:
    assert status == 200
    if case.name in OTHERWISE:
        outcome = fold(replay(DIALECTS[case.dialect], [body]))
        assert (outcome.text, outcome.fault) == (case.expect.text, None)
    else:
        assert body.removesuffix(b"\n\n") == case.body.removesuffix(b"\n\n")
        assert body[-2:] == case.body[-2:] or body.endswith(b"\n\n")
    assert line.outcome in finished_outcomes(case)
    assert (line.usage == "reported") is (case.expect.usage is not None)


def check_error_body(case: Case, body: bytes) -> None:
    fault = DIALECTS[case.dialect].decode_error(500, body)
    assert body.startswith(b'{"error":')
    assert fault.message
    error = case.expect.error
    assert error is not None
    if error.message is not None:
        assert fault.message == error.message


def check_broken(case: Case, body: bytes) -> None:
    """The frames before the failure as recorded, then one frame that tells of it, then nothing."""
    *before, told = frames(body)
    assert case.body.startswith(b"".join(before))
    events = replay(DIALECTS[case.dialect], [body])
    assert "".join(each.text for each in events if isinstance(each, Text)) == case.expect.text
    assert isinstance(events[-1], Failed)
    assert told.startswith(b'data: {"error":')
    assert told.endswith(b"\n\n")
    assert all(b'"error":{' not in frame for frame in before)
    assert b"[DONE]" not in body


def finished_outcomes(case: Case) -> set[str]:
    """One, unless several choices ended in several ways."""
    reasons = [choice.finish_reason for choice in case.expect.choices or ()]
    reasons.append("tool_calls" if case.expect.tool_calls else case.expect.finish_reason)
    return {OUTCOMES.get(reason or "", "complete") for reason in reasons}


def failed_outcome(kind: str) -> str:
    if kind in REJECTED:
        return "rejected"
    return "truncated" if kind == "truncated" else "upstream_error"
