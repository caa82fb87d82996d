"""The page on debugging shows the log's line of a request as it is."""

from __future__ import annotations

import re

import msgspec

from proxy.request_line import RequestLine, Spent
from tests.e2e.demo_server import demo_server
from tests.harness import config_for, penstock
from tests.pages import ROOT, Page

PAGE = Page(ROOT / "docs/debugging.md")
PROMPT = "canary0prompt"
IN_THE_TABLE = re.compile(r"^\| (`.*?`) \| (.*) \|$", re.MULTILINE)


def names(kind: type[msgspec.Struct]) -> set[str]:
    """The fields of a struct."""
    return {field.encode_name for field in msgspec.structs.fields(kind)}


async def test_a_broken_stream_leaves_the_line_that_is_shown() -> None:
    turn = {"role": "user", "content": f"[[cut]] {PROMPT}"}
    body = {"model": "lab/model", "stream": True, "max_tokens": 50, "messages": [turn]}
    async with (
        demo_server() as demo,
        penstock(config_for(demo.url, kind="huggingface-tgi")) as proxy,
    ):
        _, answer = await proxy.ask("/v1/messages", body)
        await proxy.ended()
        written = proxy.written().decode()
    (shown,) = (msgspec.json.decode(block.text) for block in PAGE.blocks("json"))

    (line,) = (each for each in map(msgspec.json.decode, written.splitlines()) if "client" in each)

    assert b"text_delta" in answer
    assert PROMPT not in written
    assert line.keys() == shown.keys()
    assert shown["spent"].keys() <= names(Spent)
    for field in ("event", "dialect", "exact", "outcome", "status", "phase", "attempts", "fault"):
        assert line[field] == shown[field]


def test_every_field_is_in_the_table() -> None:
    rows = dict(IN_THE_TABLE.findall(PAGE.text))

    assert {each for row in rows for each in re.findall(r"`(\w+)`", row)} == {
        *("time", "event"),
        *names(RequestLine),
    }
    assert set(re.findall(r"`(\w+)`", rows["`spent`"])) == names(Spent)
