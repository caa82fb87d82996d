"""What two files differ in for those who call, and that nothing else is a difference."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.cli import main

Json = dict[str, Any]  # Any: JSON of any shape

KNOBS = {"stopSequences": ["a", "b"], "chatTemperature": 0.5}
BASE: Json = {
    "modelConfiguration": {
        "providerOverrides": [
            {
                "id": "p",
                "displayName": "P",
                "serverSideConfig": {
                    "type": "openaicompatible",
                    "endpoints": [
                        {"url": "http://a/v1", "accessToken": "hunter2"},
                        {"url": "http://b/v1"},
                    ],
                },
            },
            {"id": "o", "serverSideConfig": {"type": "openai", "accessToken": "hunter2"}},
        ],
        "modelOverrides": [
            {
                "modelRef": "p::v1::m",
                "capabilities": ["chat", "autocomplete"],
                "category": "balanced",
                "clientSideConfig": {"openaicompatible": KNOBS},
                "serverSideConfig": {"type": "openaicompatible", "apiModel": "hunter2"},
            },
            {"modelRef": "o::v1::m", "capabilities": ["chat"], "category": "accuracy"},
        ],
        "defaultModels": {"chat": "p::v1::m"},
    },
    "penstock": {
        "clients": [
            {"name": "one", "key": "hunter2"},
            {"name": "two", "key": "hunter3", "models": ["p::v1::m", "o::v1::m"]},
        ],
    },
}


class Files:
    """The base, and what a test makes of it."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capfd = capfd
        self.new = copy.deepcopy(BASE)

    @property
    def block(self) -> Json:
        block: Json = self.new["modelConfiguration"]
        return block

    def model(self, index: int) -> Json:
        model: Json = self.block["modelOverrides"][index]
        return model

    def server_side(self, index: int) -> Json:
        settings: Json = self.block["providerOverrides"][index]["serverSideConfig"]
        return settings

    def diff(self, *arguments: str, text: bytes | None = None) -> str:
        old, new = self._folder / "old", self._folder / "new"
        old.write_bytes(msgspec.json.encode(BASE))
        new.write_bytes(msgspec.json.encode(self.new) if text is None else text)
        status = main(("diff", str(old), str(new), *arguments))
        out, err = self._capfd.readouterr()
        assert (status, err) == (0, "")
        assert "hunter" not in out
        return out

    def lines(self) -> list[str]:
        return self.diff().splitlines()


@pytest.fixture
def files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Files:
    return Files(tmp_path, capfd)


NOTHING = ["nothing changes for callers"]


def test_the_same_file_is_no_change(files: Files) -> None:
    assert files.lines() == NOTHING
    assert files.diff("--json") == '{"changes":[]}\n'


def test_comments_and_layout_are_no_change(files: Files) -> None:
    text = msgspec.json.format(msgspec.json.encode(BASE)) + b"\n// the end\n"

    assert files.diff(text=b"/* hello */" + text) == f"{NOTHING[0]}\n"


def test_an_order_that_means_nothing_is_no_change(files: Files) -> None:
    files.block["providerOverrides"].reverse()
    for provider in files.block["providerOverrides"]:
        provider["serverSideConfig"].get("endpoints", []).reverse()
    files.model(0)["capabilities"].reverse()
    files.model(0)["clientSideConfig"]["openaicompatible"]["stopSequences"] = ["b", "a"]
    files.new["penstock"]["clients"].reverse()
    files.new["penstock"]["clients"][0]["models"].reverse()

    assert files.lines() == NOTHING


def test_what_is_said_where_it_was_so_before_is_no_change(files: Files) -> None:
    files.new["penstock"]["timeouts"] = {"idleSeconds": 60}
    files.server_side(1)["endpoint"] = "https://api.openai.com/v1"
    files.server_side(0)["debugConnections"] = True
    files.block["sourcegraph"] = {"modelFilters": {"allow": ["*"]}}
    files.block["defaultModels"]["fastChat"] = "p::v1::m"
    files.model(0)["modelName"] = "m"
    files.model(1)["contextWindow"] = {"maxInputTokens": 4000}

    assert files.lines() == NOTHING


def test_models_that_come_and_go(files: Files) -> None:
    files.model(1)["modelRef"] = "o::v1::n"
    files.new["penstock"]["clients"][1]["models"] = ["p::v1::m"]

    assert files.lines() == [
        "- model o::v1::m removed",
        "+ model o::v1::n added",
        '~ client two changed models: ["o::v1::m","p::v1::m"] -> ["p::v1::m"]',
    ]


def test_a_model_on_other_endpoints(files: Files) -> None:
    files.server_side(0)["endpoints"][1]["url"] = "http://c/v1"

    assert files.lines() == [
        '> model p::v1::m rerouted endpoints: ["http://a/v1","http://b/v1"]'
        ' -> ["http://a/v1","http://c/v1"]'
    ]


def test_a_model_of_another_kind_of_provider(files: Files) -> None:
    files.server_side(0)["type"] = "huggingface-tgi"

    assert files.lines() == [
        '> model p::v1::m rerouted provider: "openaicompatible" -> "huggingface-tgi"',
        '> model p::v1::m rerouted routes: ["/chat/completions","/completions","/detokenize",'
        '"/embeddings","/rerank","/tokenize"] -> ["/chat/completions","/completions","/tokenize"]',
    ]


def test_a_model_on_other_paths(files: Files) -> None:
    files.server_side(0)["useLegacyCompletions"] = False

    assert files.lines() == [
        '> model p::v1::m rerouted routes: ["/chat/completions","/completions","/detokenize",'
        '"/embeddings","/rerank","/tokenize"] -> ["/chat/completions","/detokenize",'
        '"/embeddings","/rerank","/tokenize"]'
    ]


def test_another_key_for_the_same_endpoint(files: Files) -> None:
    files.server_side(0)["endpoints"][0]["accessToken"] = "hunter4"

    assert files.lines() == ['> model p::v1::m rerouted headers: "***" -> "***"']


def test_another_name_upstream_that_is_secret(files: Files) -> None:
    files.model(0)["serverSideConfig"]["apiModel"] = "hunter4"

    assert files.lines() == ['> model p::v1::m rerouted headers: "***" -> "***"']


def test_another_name_upstream(files: Files) -> None:
    files.model(1)["modelName"] = "n"

    assert files.lines() == [
        '> model o::v1::m rerouted upstreamName: "m" -> "n"',
        '~ model o::v1::m changed modelName: "m" -> "n"',
    ]


def test_limits_and_what_clients_are_told(files: Files) -> None:
    files.model(0)["contextWindow"] = {"maxInputTokens": 8000}
    files.model(0)["status"] = "beta"
    files.model(0)["clientSideConfig"]["openaicompatible"] = {"chatTemperature": 0}

    assert files.lines() == [
        "~ model p::v1::m changed contextWindow.maxInputTokens: 4000 -> 8000",
        '~ model p::v1::m changed clientSideConfig.openaicompatible.stopSequences: ["a","b"]'
        " -> (none)",
        "~ model p::v1::m changed clientSideConfig.openaicompatible.chatTemperature: 0.5 -> 0.0",
        '~ model p::v1::m changed status: (none) -> "beta"',
    ]


def test_other_defaults(files: Files) -> None:
    files.block["defaultModels"] = {"chat": "o::v1::m"}
    files.model(0)["capabilities"] = ["chat"]

    assert files.lines() == [
        '~ model p::v1::m changed capabilities: ["autocomplete","chat"] -> ["chat"]',
        '~ default chat changed: "p::v1::m" -> "o::v1::m"',
        '~ default codeCompletion changed: "p::v1::m" -> (none)',
    ]


def test_an_order_that_gives_a_name_another_meaning(files: Files) -> None:
    files.block["modelOverrides"].reverse()

    assert files.lines() == ['~ name m changed: "p::v1::m" -> "o::v1::m"']


def test_clients_and_their_keys(files: Files) -> None:
    one, two = files.new["penstock"]["clients"]
    one["name"] = "three"
    two["key"] = "hunter4"
    del two["models"]

    assert files.lines() == [
        "- client one removed",
        "+ client three added",
        '~ client two changed key: "***" -> "***"',
        '~ client two changed models: ["o::v1::m","p::v1::m"] -> "all"',
    ]


def test_settings_of_all_requests(files: Files) -> None:
    files.new["penstock"]["timeouts"] = {"idleSeconds": 5}
    files.new["penstock"]["listen"] = {"port": 80}
    files.new["configFeatures"] = {"chat": True, "autoComplete": True}
    files.block["systemPreInstruction"] = "Be brief."
    files.block["providerOverrides"][0]["displayName"] = "Q"

    assert files.lines() == [
        "~ setting timeouts.idleSeconds changed: 60.0 -> 5.0",
        "~ setting listen.port changed: 8080 -> 80",
        "~ setting configFeatures.commands changed: true -> false",
        '~ setting systemPreInstruction changed: "" -> "Be brief."',
        '~ setting providers.p changed: "P" -> "Q"',
    ]


def test_the_same_as_json(files: Files) -> None:
    files.block["defaultModels"] = {"chat": "o::v1::m"}
    files.model(1)["contextWindow"] = {"maxInputTokens": 1}

    assert msgspec.json.decode(files.diff("--json")) == {
        "changes": [
            {
                "kind": "changed",
                "what": "model",
                "name": "o::v1::m",
                "field": "contextWindow.maxInputTokens",
                "old": 4000,
                "new": 1,
            },
            {
                "kind": "changed",
                "what": "default",
                "name": "chat",
                "old": "p::v1::m",
                "new": "o::v1::m",
            },
        ]
    }


def test_a_file_that_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(msgspec.json.encode(BASE))
    bad.write_bytes(b"{}")

    for old, new in ((good, bad), (bad, good)):
        assert main(("diff", str(old), str(new))) == 78
        out, err = capfd.readouterr()
        assert out == ""
        assert err == f'{bad}:1:1: error: "modelConfiguration" is missing\n'
