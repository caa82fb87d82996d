"""Requests through a running penstock to kinds of provider that differ in more than their name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.e2e.frames import ANSWER, FINISH, USAGE, WHOLE, same
from tests.harness import chat, config_for, penstock
from tests.scripted import Request, Upstream, response


def settings_of(kind: str, url: str, **members: object) -> dict[str, Any]:
    config = config_for(url)
    server = {"type": kind, "endpoint": url, **members}
    config["modelConfiguration"]["providerOverrides"] = [{"id": "lab", "serverSideConfig": server}]
    return config


def body_of(request: Request) -> object:
    return msgspec.json.decode(request.body)


async def test_a_model_that_cannot_be_called_is_a_clear_400() -> None:
    async with penstock(settings_of("sourcegraph", "http://127.0.0.1:9")) as proxy:
        status, body = await proxy.ask("/v1/chat/completions", chat(stream=False))

    assert status == 400
    assert b'the model \\"lab::v1::model\\" does no chat' in body


async def test_azure_is_asked_on_the_path_of_the_deployment() -> None:
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(settings_of("azureOpenAI", upstream.url, accessToken="k", user="u")) as proxy,
    ):
        answer = await proxy.ask("/v1/chat/completions", chat(stream=False))
        (request,) = upstream.requests

    assert answer == (200, WHOLE)
    assert request.target == ("/openai/deployments/model/chat/completions?api-version=2024-10-21")
    assert request.headers["api-key"] == "k"
    assert "authorization" not in request.headers
    assert body_of(request) == {**chat(stream=False), "model": "model", "user": "u"}


CACHED = b"content-type: %b\r\nfireworks-cached-prompt-tokens: 2\r\n"


@pytest.mark.parametrize("stream", [True, False])
async def test_what_fireworks_tells_of_its_cache_in_a_header_is_part_of_the_usage(
    stream: bool,
) -> None:
    body = ANSWER.replace(FINISH, FINISH + USAGE) if stream else WHOLE
    kind = b"text/event-stream" if stream else b"application/json"
    raw = response(body, headers=CACHED % kind)
    async with Upstream(same(raw)) as upstream:
        config = settings_of("fireworks", upstream.url)
        # A hidden name, so that the answer is translated.
        hidden = {"type": "openaicompatible", "apiModel": "accounts/fireworks/models/m"}
        config["modelConfiguration"]["modelOverrides"][0]["serverSideConfig"] = hidden
        async with penstock(config) as proxy:
            usage = {"stream_options": {"include_usage": True}} if stream else {}
            asked = {**chat(stream=stream), **usage}
            async with proxy.post("/v1/chat/completions", asked) as answer:
                told = await answer.read()

    assert answer.headers["fireworks-cached-prompt-tokens"] == "2"
    assert b'"prompt_tokens":3,"completion_tokens":1,"total_tokens":4,' in told
    assert b'"prompt_tokens_details":{"cached_tokens":2}' in told


async def test_a_completion_for_a_server_without_such_a_route_is_one_message() -> None:
    config_settings = {"useLegacyCompletions": False}
    async with (
        Upstream(same(response(WHOLE))) as upstream,
        penstock(config_for(upstream.url, settings=config_settings)) as proxy,
    ):
        prompt = {"model": "model", "prompt": "def f(", "max_tokens": 5}
        status, body = await proxy.ask("/v1/completions", prompt)
        (request,) = upstream.requests

    assert status == 200
    assert msgspec.json.decode(body)["choices"][0]["text"] == "Hi é"
    assert request.target == "/v1/chat/completions"
    assert body_of(request) == {
        "model": "model",
        "messages": [{"role": "user", "content": "def f("}],
        "max_tokens": 5,
    }
