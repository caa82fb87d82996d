"""check, resolve, show, convert and schema, by the function that the command line calls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.cli import main
from proxy.commands.files import EX_CONFIG
from proxy.commands.reference import reference
from proxy.config.jsonschema import json_schema
from proxy.config.load import load
from proxy.providers import PROVIDERS

Json = dict[str, Any]  # Any: JSON of any shape

FIXTURES = Path(__file__).parents[2] / "fixtures" / "vectors"
SEED = FIXTURES / "seed_site_config.jsonc"
ROOT = Path(__file__).parents[3]
MIXTRAL = "mistral::v1::mixtral-8x7b-instruct"
STARCODER = "bigcode::v1::starcoder2-7b"

BAD = b"""{
  "modelConfiguration": {
    "providerOverrides": [{"id": "a b"}],
    "modelOverrides": [{"modelRef": "x"}]
  }
}"""


class Command:
    """Runs one command and reads what it said."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._folder = folder
        self._capfd = capfd
        self.out = self.err = ""

    def file(self, content: bytes | Json, name: str = "config.jsonc") -> str:
        path = self._folder / name
        path.write_bytes(content if isinstance(content, bytes) else msgspec.json.encode(content))
        return str(path)

    def __call__(self, *arguments: str) -> int:
        status = main(arguments)
        self.out, self.err = self._capfd.readouterr()
        return status

    @property
    def json(self) -> Any:
        """What it wrote, decoded; there is nothing beside it."""
        return msgspec.json.decode(self.out)


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(tmp_path, capfd)


# check


def test_a_good_file_passes(run: Command) -> None:
    assert run("check", str(SEED)) == 0

    assert (run.out, run.err) == (f"{SEED}: ok\n", "")


def test_every_problem_is_told_with_its_place(run: Command) -> None:
    path = run.file(BAD)

    assert run("check", path) == EX_CONFIG == 78

    no_server = "nothing is sent to a host that nobody configured"
    assert run.out.splitlines() == [
        f"{path}:3:27: error: modelConfiguration.providerOverrides[0].serverSideConfig:"
        f' provider "a b" has no serverSideConfig; {no_server}',
        f"{path}:3:34: error: modelConfiguration.providerOverrides[0].id:"
        ' provider overrides: invalid provider ID "a b"',
        f"{path}:4:37: error: modelConfiguration.modelOverrides[0].modelRef:"
        ' model overrides: validating model ref "x": modelRef syntax error',
    ]


def test_a_check_as_json(run: Command) -> None:
    assert run("check", run.file(BAD), "--json") == 78

    assert run.json["ok"] is False
    assert run.json["warnings"] == []
    assert {
        "path": "modelConfiguration.providerOverrides[0].id",
        "line": 3,
        "column": 34,
        "message": 'provider overrides: invalid provider ID "a b"',
    } in run.json["problems"]
    assert len(run.json["problems"]) == 3


def test_warnings_do_not_fail_a_check(run: Command) -> None:
    document = b'{"x": 1, "penstock": {},' + SEED.read_bytes().strip()[1:]
    path = run.file(document)

    assert run("check", path) == 0
    assert run.out == f'{path}:1:2: warning: x: ignored: "x"\n{path}: ok\n'

    assert run("check", "--json", path) == 0
    assert run.json == {
        "ok": True,
        "problems": [],
        "warnings": [{"path": "x", "line": 1, "column": 2, "message": 'ignored: "x"'}],
    }


@pytest.mark.parametrize("command", [("check",), ("show",), ("convert",), ("resolve", "m")])
def test_a_file_that_is_not_there(run: Command, tmp_path: Path, command: tuple[str, ...]) -> None:
    path = str(tmp_path / "none")

    assert run(command[0], path, *command[1:]) == 78

    said = f"{path}:1:1: error: cannot be read: no such file or directory\n"
    assert run.out + run.err == said


def test_a_directory_is_no_file(run: Command, tmp_path: Path) -> None:
    assert run("check", str(tmp_path)) == 78

    assert "cannot be read: is a directory" in run.out


# resolve


@pytest.mark.parametrize(
    ("arguments", "ref"),
    [
        ((MIXTRAL,), MIXTRAL),
        (("mistral/mixtral-8x7b-instruct",), MIXTRAL),
        (("",), MIXTRAL),
        (("", "--feature", "code"), STARCODER),
        (("starcoder2-7b", "--feature", "code"), STARCODER),
        (("nobody", "--fast"), MIXTRAL),
        (("", "--feature", "code", "--fast"), STARCODER),
    ],
)
def test_a_name_that_means_a_model(run: Command, arguments: tuple[str, ...], ref: str) -> None:
    assert run("resolve", str(SEED), *arguments) == 0

    assert run.json == {"modelRef": ref}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("x",), f'unsupported chat model "x" (default "{MIXTRAL}")'),
        (
            ("x", "--feature", "code"),
            f'unsupported code completion model "x" (default "{STARCODER}")',
        ),
    ],
)
def test_a_name_that_means_none(run: Command, arguments: tuple[str, ...], error: str) -> None:
    assert run("resolve", str(SEED), *arguments) == 1

    assert run.json == {"error": error, "status": 400}


def test_a_name_in_a_file_that_is_refused(run: Command) -> None:
    assert run("resolve", run.file(BAD), "m") == 78

    assert run.out == ""
    assert "invalid provider ID" in run.err


# show


def test_show_prints_a_file_that_means_the_same(run: Command) -> None:
    assert run("show", str(SEED)) == 0
    shown, first = run.out.encode(), run.json

    assert run("show", run.file(shown)) == 0
    assert run.json == first
    assert load(shown).defaults == load(SEED.read_bytes()).defaults
    block = first["modelConfiguration"]
    assert [model["modelRef"] for model in block["modelOverrides"]] == [MIXTRAL, STARCODER]
    assert "modelOverridesRecommendedSettings" not in block
    assert first["penstock"]["timeouts"]["idleSeconds"] == 60


def test_show_prints_no_secret(run: Command) -> None:
    server = {
        "type": "openaicompatible",
        "endpoints": [
            {"url": "http://a", "accessToken": "hunter2"},
            {"url": "http://b", "headers": {"x": "hunter2"}},
        ],
    }
    model = {
        "modelRef": "p::v1::m",
        "serverSideConfig": {"type": "openaicompatible", "apiModel": "hunter2"},
    }
    path = run.file(
        {
            "modelConfiguration": {
                "sourcegraph": {"accessToken": "hunter2"},
                "providerOverrides": [{"id": "p", "serverSideConfig": server}],
                "modelOverrides": [model],
            },
            "penstock": {"clients": [{"name": "a", "key": "hunter2"}]},
        }
    )

    assert run("show", path) == 0

    assert "hunter2" not in run.out + run.err
    assert run.out.count('"***"') == 5


def test_what_is_shown_of_two_clients_needs_its_keys_put_back(run: Command) -> None:
    clients = [{"name": "a", "key": "hunter2"}, {"name": "b", "key": "hunter3"}]
    assert run("show", str(SEED)) == 0
    assert run("show", run.file({**run.json, "penstock": {"clients": clients}})) == 0
    shown = run.json

    assert run("check", run.file(shown)) == 78
    assert 'client "a" has the same key' in run.out + run.err

    for client, given in zip(shown["penstock"]["clients"], clients, strict=True):
        client["key"] = given["key"]
    assert run("check", run.file(shown)) == 0


def test_show_of_an_older_block(run: Command) -> None:
    path = run.file({"completions": {"provider": "openai", "accessToken": "hunter2"}})

    assert run("show", path) == 0

    assert "completions" not in run.json
    (provider,) = run.json["modelConfiguration"]["providerOverrides"]
    assert provider["serverSideConfig"]["accessToken"] == "***"


def test_show_of_a_bad_file(run: Command) -> None:
    assert run("show", run.file(BAD)) == 78

    assert (run.out, run.err.count("error: ")) == ("", 3)


# convert


def test_convert_prints_a_file_that_means_the_same(run: Command) -> None:
    completions = {"provider": "openai", "accessToken": "hunter2", "chatModel": "GPT-4o"}
    older = run.file({"completions": completions})

    assert run("convert", older) == 0

    block = run.json["modelConfiguration"]
    assert block["sourcegraph"] is None
    assert block["defaultModels"]["chat"] == "openai::unknown::gpt-4o"
    assert block["providerOverrides"][0]["serverSideConfig"] == {
        "type": "openai",
        "accessToken": "hunter2",
        "endpoint": "https://api.openai.com",
    }
    newer = run.file(run.out.encode(), "newer")
    assert run("diff", older, newer) == 0
    assert run.out == "nothing changes for callers\n"


def test_convert_keeps_an_arn(run: Command) -> None:
    model = "anthropic.claude-v2/arn:aws:bedrock:us-west-2:1:provisioned-model/x"
    block = {"provider": "aws-bedrock", "endpoint": "us-west-2", "chatModel": model}

    assert run("convert", run.file({"completions": block})) == 0

    assert "arn:aws:bedrock:us-west-2:1:provisioned-model/x" in run.out
    assert run("check", run.file(run.out.encode())) == 0


def test_convert_of_a_file_that_is_new_already(run: Command) -> None:
    assert run("convert", str(SEED)) == 78

    assert "it is there already" in run.err


# schema


def test_schema_is_json(run: Command) -> None:
    assert run("schema") == 0

    assert run.json["title"] == "penstock configuration"
    assert set(PROVIDERS) <= set(run.json["$defs"])


def test_the_reference_is_up_to_date() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    kinds = {name: kind.settings for name, kind in PROVIDERS.items()}

    assert page == reference(json_schema(kinds)), "run `make docs`"


def test_the_reference_names_every_key(run: Command) -> None:
    assert run("schema", "--markdown") == 0

    schema = msgspec.json.decode(json_schema({n: k.settings for n, k in PROVIDERS.items()}))
    for name, definition in schema["$defs"].items():
        if name not in ("EnvSecret", "FileSecret"):
            assert f"\n## {name}\n" in run.out
        for key in definition["properties"]:
            assert f"`{key}`" in run.out or f'"{key}"' in run.out
