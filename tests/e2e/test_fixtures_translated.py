"""Every recorded answer before every client that may get it, in the client's own dialect.

What a client reads is compared with what the recording says, less what its dialect has no word for.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest

from parsers.dialects.anthropic import ANTHROPIC
from parsers.dialects.base import UpstreamDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.responses import RESPONSES
from parsers.dialects.tgi import TGI
from tests.e2e.actors import KINDS, Kind
from tests.e2e.test_fixtures_through_penstock import (
    SILENT,
    STATUSES,
    failed_outcome,
    reads,
    serve,
)
from tests.e2e.test_sourcegraph_api import heard
from tests.fixture_streams import STREAMS, Case, Choice, cases, fold, replay
from tests.harness import Proxy, penstock
from tests.scripted import Conversation, Upstream


class Client(msgspec.Struct, frozen=True):
    """A client, how it asks, and what its dialect has no word for."""

    name: str
    path: str
    asked: dict[str, Any]
    dialect: UpstreamDialect | None  # None: Cody's
    is_chat: bool = True
    lacks: tuple[str, ...] = ()  # of `Told`


class Told(msgspec.Struct):
    """What a client made of an answer."""

    text: str
    reasoning: str = ""
    refusal: str = ""
    calls: list[tuple[str, str]] = []
    finish: str | None = None
    usage: tuple[int | None, int | None] | None = None
    failure: str = ""


_TURNS = [{"role": "user", "content": "a"}]
_USAGE = {"stream": True, "stream_options": {"include_usage": True}}
_CODY = {"messages": [{"speaker": "human", "text": "a"}], "maxTokensToSample": 9}
_PROMPTS = ("reasoning", "refusal", "calls")
CLIENTS = (
    Client("chat", "/v1/chat/completions", {"messages": _TURNS, **_USAGE}, OPENAI_CHAT),
    Client("responses", "/v1/responses", {"input": "a", "stream": True}, RESPONSES),
    Client(
        "messages",
        "/v1/messages",
        {"messages": _TURNS, "max_tokens": 9, "stream": True},
        ANTHROPIC,
    ),
    Client("cody", "/.api/completions/stream?api-version=9", _CODY, None),
    Client(
        "completions",
        "/v1/completions",
        {"prompt": "a", **_USAGE},
        OPENAI_COMPLETIONS,
        False,
        _PROMPTS,
    ),
    Client(
        "generate",
        "/generate_stream",
        {"inputs": "a", "parameters": {"details": True}},
        TGI,
        False,
        _PROMPTS,
    ),
)
_BY_NAME = {kind.name: kind for kind in KINDS}
# The servers of each dialect of the recordings; those of text completions serve prompts only.
SERVERS = {
    "openai-chat": Kind("chat", "openaicompatible", {"useLegacyCompletions": False}),
    "openai-completions": _BY_NAME["compatible"],
    "tgi-native": _BY_NAME["tgi-native"],
    "openai-responses": _BY_NAME["openai"],
    "anthropic-messages": _BY_NAME["anthropic"],
    "bedrock-converse": _BY_NAME["converse"],
    "bedrock-invoke-anthropic": _BY_NAME["invoke"],
    "gemini": _BY_NAME["gemini"],
    "ollama-native": Kind(
        "ollama", "openaicompatible", {"dialect": "ollama", "useLegacyCompletions": False}
    ),
    "sglang-native": _BY_NAME["sglang"],
    "llamacpp-native": _BY_NAME["llamacpp"],
}
_OF_PROMPTS = ("openai-completions", "sglang-native", "llamacpp-native")


def asks(client: Client, dialect: str) -> bool:
    """Whether the client's requests go where such answers come from."""
    if dialect == "openai-responses":
        return client.name == "responses"
    return not (client.is_chat and dialect in _OF_PROMPTS)


def test_no_recording_is_forgotten() -> None:
    assert len([*STREAMS.glob("*/*.json")]) == 129
    assert len(cases(*SERVERS)) == 129


@pytest.mark.parametrize(
    ("dialect", "client"),
    [
        pytest.param(dialect, client, id=f"{dialect}-{client.name}")
        for dialect in SERVERS
        for client in CLIENTS
        if asks(client, dialect)
    ],
)
async def test_each_recording_is_told_to_each_client(dialect: str, client: Client) -> None:
    recorded, wrong = cases(dialect), []
    played = iter(recorded)

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            case = next(played)
            await serve(up, case, next(reads(case)))

    config = SERVERS[dialect].config
    async with Upstream(script) as upstream, penstock(config(upstream.url)) as proxy:
        for count, case in enumerate(recorded, 1):
            status, told = await ask(proxy, client)
            line = (await proxy.ended(count))[-1]
            try:
                check(case, client, status, told, line.outcome)
            except AssertionError as error:
                wrong.append((case.name, status, told, line.outcome, str(error)))

    assert not wrong, "\n".join(map(str, wrong))


async def ask(proxy: Proxy, client: Client) -> tuple[int, Told]:
    """The answer, by a decoder of the client's dialect."""
    status, body = await proxy.ask(client.path, client.asked)
    if client.dialect is None:
        return status, _cody(status, body)
    if status != 200:
        return status, Told("", failure=client.dialect.decode_error(status, body).message)
    got = fold(replay(client.dialect, [body]))
    first = got.choices[0] if got.choices else Choice(0, "", None)
    return status, Told(
        text=first.text,
        reasoning=got.reasoning,
        refusal=got.refusal,
        calls=[(call.name, call.arguments or "") for call in got.tool_calls],
        finish=first.finish_reason,
        usage=(got.usage.prompt_tokens, got.usage.completion_tokens) if got.usage else None,
        failure=got.fault.message if got.fault else "",
    )


def _cody(status: int, body: bytes) -> Told:
    if status != 200:
        return Told("", failure=body.decode().strip())
    got = heard(body, 9)
    calls = [("", "".join(parts)) for parts in got.calls.values()]
    usage = (got.usage["prompt_tokens"], got.usage["completion_tokens"]) if got.usage else None
    return Told(got.text, got.thinking, "", calls, got.stop_reason, usage, got.error or "")


def check(case: Case, client: Client, status: int, told: Told, outcome: str) -> None:
    """Assert that the client was told what was recorded."""
    expect, error = case.expect, case.expect.error
    first = expect.choices[0] if expect.choices else Choice(0, expect.text, expect.finish_reason)
    refusal = expect.refusal or ""
    assert told.text + told.refusal == first.text + refusal
    assert told.reasoning == ("" if "reasoning" in client.lacks else expect.reasoning)
    if error is not None or case.name in SILENT:
        assert told.failure
        assert outcome == (failed_outcome(error.class_) if error else "truncated")
        if error is not None:
            assert _URL.sub("[url]", error.message or "") in told.failure
            assert status in STATUSES[error.class_] | BESIDE[client.name] | _ONCE_BEGUN[error.where]
        return
    assert told.failure == ""
    _check_calls(case, client, told)
    if expect.usage is not None and not (expect.tool_calls and client.name == "generate"):
        assert told.usage == (expect.usage.prompt_tokens, expect.usage.completion_tokens)


def _check_calls(case: Case, client: Client, told: Told) -> None:
    """The calls, and the reason of the end, which they are themselves where none was named."""
    expect = case.expect
    if "calls" in client.lacks and expect.tool_calls:
        return  # it could not have offered a tool
    assert len(told.calls) == len(expect.tool_calls)
    for (name, arguments), wanted in zip(told.calls, expect.tool_calls, strict=True):
        assert name in (wanted.name, "")
        assert arguments == wanted.arguments or wanted.arguments is None
    first = expect.choices[0].finish_reason if expect.choices else expect.finish_reason
    is_exact = case.dialect == "openai-chat" and client.name == "chat"
    if first is None and not is_exact:
        first = "tool_calls" if expect.tool_calls else _UNNAMED.get(client.name)
    refused = (expect.refusal and client.name == "messages") or None
    assert told.finish == ("content_filter" if refused else first)


# What a client is told where the server ended its answer without a reason.
_UNNAMED = {"responses": "stop", "cody": "stop_sequence"}
# The statuses that a dialect has beside those of upstreams.md 11.
BESIDE = {"messages": {529}, "cody": {200, 503}} | {
    key: set[int]() for key in ("chat", "responses", "completions", "generate")
}
_ONCE_BEGUN = {
    "before_stream": set[int](),
    "first_event": set[int](),
    "mid_stream": {200},
    "after_finish": {200},
}
_URL = re.compile(r"https://\S+")
