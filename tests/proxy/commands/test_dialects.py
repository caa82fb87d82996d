"""The tables of dialects: true, whole and up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from parsers.dialects.policy import FIELDS
from proxy.api.listeners import client_routes
from proxy.commands.dialects import CLIENTS, filled, losses, main, matrix, servers, summary
from proxy.providers import PROVIDERS
from tests.harness import config_for, penstock

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("page", ["README.md", "docs/dialects.md"])
def test_a_page_is_up_to_date(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")

    assert text == filled(text), "run `make docs`"
    assert ":begin -->\n| " in text


async def test_every_route_that_asks_a_model_is_in_the_table() -> None:
    async with penstock(config_for("http://127.0.0.1:9")) as proxy:
        routes = client_routes(proxy.service)

    asked = {route.path for route in routes if route.method == "POST" and "{ref}" not in route.path}
    assert asked == {path for client in CLIENTS for path in client.paths}


def test_every_kind_of_provider_is_in_both_tables() -> None:
    table = matrix()

    assert all(f"`{kind}`" in table and f"`{kind}`" in summary() for kind in PROVIDERS)
    assert '`openaicompatible`, `"dialect": "ollama"`' in table


def test_the_table_says_what_a_request_would_meet() -> None:
    ways = {
        (client.paths[0], server.label): server.way_of(client)
        for client in CLIENTS
        for server in servers()
    }

    assert ways["/v1/chat/completions", "`openaicompatible`"] == "exact"
    assert ways["/generate", "`openaicompatible`"] == "translated"
    assert ways["/generate", '`huggingface-tgi`, `"dialect": "tgi"`'] == "exact"
    assert ways["/.api/llm/chat/completions", "`openai`"] == "translated"
    assert ways["/v1/embeddings", "`openai`"] == "exact"
    assert ways["/v1/embeddings", "`huggingface-tgi`"] == "\N{EN DASH}"


def test_what_is_lost_are_fields() -> None:
    names = {word for line in losses().splitlines()[2:] for word in line.split("|")[4].split(", ")}

    assert {name.strip(" `") for name in names} - {""} <= FIELDS.keys()


def test_sections_of_others_stay_as_they_are(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- bench:begin -->\nb\n<!-- bench:end -->\n<!-- fields:begin -->\n")

    main([str(page)])

    assert page.read_text() == (
        "a\n<!-- bench:begin -->\nb\n<!-- bench:end -->\n<!-- fields:begin -->\n"
    )
