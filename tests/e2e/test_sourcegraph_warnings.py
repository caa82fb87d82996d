"""What is odd in a site configuration: `check` says it, `/status` says it, a metric counts it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.cli import main
from tests.e2e.watched import value_of, watched
from tests.harness import config_for

Json = dict[str, Any]  # Any: JSON of any shape


def site(members: Json | None = None, *models: Json) -> Json:
    """A site with one model that can do everything, more models, and these members beside them."""
    config = config_for("http://127.0.0.1:9")
    block = config["modelConfiguration"]
    (provider,), (model,) = block["providerOverrides"], block["modelOverrides"]
    block["providerOverrides"] += [{**provider, "id": "other"}]
    block["modelOverrides"] += [{**model, **each} for each in models]
    block.update(members or {})
    return config


AZURE = {
    "provider": "azure-openai",
    "accessToken": "k",
    "endpoint": "http://127.0.0.1:9",
    "chatModel": "a",
    "completionModel": "b",
}

ODD: dict[str, tuple[Json, list[str]]] = {
    "nothing": (site(), []),
    "an unknown default": (
        site({"defaultModels": {"chat": "lab::v1::gone"}}),
        ['unknown chat model "lab::v1::gone"; using "lab::v1::model"'],
    ),
    "no default that fits": (
        site(
            {
                "modelOverrides": [{"modelRef": "lab::v1::model", "capabilities": ["chat"]}],
                "defaultModels": {},
            }
        ),
        ["no suitable model found for CodeCompletion (1 candidates)"],
    ),
    "an empty filter": (
        site({"sourcegraph": {"modelFilters": {"statusFilter": []}}}),
        ["penstock has no built-in models", "an empty list leaves no built-in model at all"],
    ),
    "an ambiguous bare id": (
        site({}, {"modelRef": "other::v1::model"}),
        ['ambiguous: "model" means "lab::v1::model", listed first'],
    ),
    "a shadowed model": (
        site({}, {"modelRef": "lab::v2::model"}),
        ["only its full reference means this model: "],
    ),
    "a word of a later release": (
        site({}, {"modelRef": "lab::v1::n", "capabilities": ["chat", "autocomplete", "sing"]}),
        ['unknown capability "sing"'],
    ),
    "a key of a later release": (
        site({"defaultModels": {"unlimitedChat": "lab::v1::model"}}),
        ["ignored: not supported by this version"],
    ),
    "an older block": ({"completions": AZURE}, ["not given, so completions go to Azure's chat"]),
    "both blocks": (
        {**site(), "completions": AZURE},
        ["ignored: modelConfiguration takes its place"],
    ),
}


@pytest.mark.parametrize("odd", ODD)
async def test_each_warning_is_told_in_three_places(
    odd: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config, texts = ODD[odd]
    path = tmp_path / "config.jsonc"
    path.write_bytes(msgspec.json.encode(config))

    status = main(("check", str(path), "--json"))
    verdict = msgspec.json.decode(capfd.readouterr().out)
    async with watched(config) as proxy:
        told = (await proxy.described()).warnings
        counted = value_of(await proxy.metrics(), "penstock_config_warnings")

    messages = [warning["message"] for warning in verdict["warnings"]]
    assert (status, verdict["ok"], verdict["problems"]) == (0, True, [])
    assert len(messages) == len(told) == counted == len(texts)
    for text in texts:
        assert any(text in message for message in messages), messages
    for message, line in zip(messages, told, strict=True):
        assert line.startswith("line 1, column ")
        assert line.endswith(message)
