"""The seed's own configuration, as it stands but for its hosts, with requests that say little."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from parsers.jsonc import loads
from tests.e2e.frames import DONE, FINISH, TOKEN, same, stream
from tests.e2e.test_sourcegraph_api import CODE, STREAM, asking, at, listened
from tests.harness import penstock
from tests.scripted import Upstream, response

SEED = Path(__file__).parents[1] / "fixtures" / "vectors" / "seed_site_config.jsonc"
CHAT_HOST, CODE_HOST = "https://mistral.example.com", "http://starcoder.example.com"


def seed(chat: Upstream, code: Upstream) -> Any:  # Any: JSON, as a file has it
    """The file, its two hosts on loopback."""
    text = SEED.read_text()
    assert text.count(CHAT_HOST) == text.count(CODE_HOST) == 1
    return loads(text.replace(CHAT_HOST, chat.url).replace(CODE_HOST, code.url))


async def test_a_chat_and_a_completion_without_a_model_go_where_the_seed_promises() -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as chat,
        Upstream(same(response(b'{"choices":[{"index":0,"text":"x"}]}'))) as code,
        penstock(seed(chat, code)) as proxy,
    ):
        heard = await listened(proxy, STREAM, None)
        status, _ = await proxy.ask(at(CODE, None), asking("def f("))

    (talked,) = (each for each in chat.requests if each.method == "POST")  # others ask how it is
    (completed,) = (each for each in code.requests if each.method == "POST")
    talk, completion = msgspec.json.decode(talked.body), msgspec.json.decode(completed.body)
    assert (heard.text, heard.error, status) == ("Hi", None, 200)
    assert (talked.target, talk["model"]) == ("/v1/chat/completions", "mixtral-8x7b-instruct")
    assert (completed.target, completion["model"]) == ("/v1/completions", "starcoder2-7b")
    assert completion["prompt"] == "def f("
    assert completion["stop"] == ["<|endoftext|>", "<file_sep>"]
    assert all("authorization" not in each.headers for each in (talked, completed))
