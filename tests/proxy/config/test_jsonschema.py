"""The generated schema, before the tool that everybody uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from parsers.jsonc import loads
from proxy.config.jsonschema import json_schema
from proxy.config.schema import Block, Secret

SEED = Path(__file__).parents[2] / "fixtures" / "vectors" / "seed_site_config.jsonc"


class Settings(Block, frozen=True):
    endpoint: str
    access_token: Secret | None = None


SETTINGS = {"huggingface-tgi": Settings, "openaicompatible": Settings}


def validator(settings: dict[str, type[msgspec.Struct]] | None = None) -> Any:  # no stubs
    schema = msgspec.json.decode(json_schema(settings))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def seed(**members: object) -> dict[str, object]:
    document = loads(SEED.read_text())
    assert isinstance(document, dict)
    return {**document, **members}


def with_server_side(settings: object) -> dict[str, object]:
    provider = {"id": "p", "serverSideConfig": settings}
    return {"modelConfiguration": {"providerOverrides": [provider]}}


def with_model(settings: dict[str, object]) -> dict[str, object]:
    return {"modelConfiguration": {"modelOverrides": [{"modelRef": "p::v1::m", **settings}]}}


@pytest.mark.parametrize(
    "document",
    [
        {"completions": {"provider": "openai", "accessToken": {"env": "A"}}},
        {"modelConfiguration": None, "completions": {}},
        with_model({"serverSideConfig": {"type": "awsBedrock"}}),
        with_model({"clientSideConfig": {"openaicompatible": {"chatTemperature": 0}}}),
    ],
)
def test_what_is_right_is_valid(document: object) -> None:
    validator().validate(document)


def test_the_seed_is_valid() -> None:
    validator().validate(seed())


def test_a_full_penstock_block_is_valid() -> None:
    validator().validate(
        seed(
            penstock={
                "clients": [
                    {"name": "a", "key": "k", "models": ["m"]},
                    {"name": "b", "key": {"env": "KEY"}},
                    {"name": "c", "key": {"file": "/key"}},
                ],
                "timeouts": {"idleSeconds": 0.5},
                "limits": {"maxBodyBytes": 1024},
                "listen": {"host": "::", "port": 0},
            },
            other={"ignored": True},
        )
    )


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"modelConfiguration": None},
        {"completions": None},
        {"completions": {"provider": 5}},
        {"completions": {"chatModl": "x"}},
        {"modelConfiguration": {"sourcegraph": {"modelFilters": {"allow": "x"}}}},
        {"modelConfiguration": {"selfHostedModels": [{"provider": "p"}]}},
        with_model({"serverSideConfig": {"type": "huggingface-tgi"}}),
        with_model({"serverSideConfig": {"type": "awsBedrockProvisionedThroughput"}}),
        with_model({"clientSideConfig": {"openaicompatible": {"chatMaxTokens": -1}}}),
        {"modelConfiguration": {"providerOverride": []}},
        {"modelConfiguration": {"providerOverrides": {}}},
        {"modelConfiguration": {"providerOverrides": [{"id": "a"}]}},
        {"modelConfiguration": {"modelOverrides": [{"modelRef": "p/m"}]}},
        {"modelConfiguration": {"modelOverrides": [{"displayName": "m"}]}},
        {"modelConfiguration": {"modelOverridesRecommendedSettings": ["m"]}},
        {"modelConfiguration": {"defaultModels": {"chat": "m"}}},
        with_server_side(None),
        with_server_side({}),
        with_server_side({"type": "cohere"}),
        seed(penstock={"clients": []}),
        seed(penstock={"clients": [{"name": "a"}]}),
        seed(penstock={"clients": [{"name": "a", "key": {"env": "A", "file": "b"}}]}),
        seed(penstock={"timeouts": {"idleSeconds": 0}}),
        seed(penstock={"listen": {"port": 65_536}}),
        seed(penstock={"limits": {"maxBodyBites": 1024}}),
    ],
)
def test_what_is_wrong_is_invalid(document: object) -> None:
    assert not validator().is_valid(document)


@pytest.mark.parametrize(
    ("settings", "is_valid"),
    [
        ({"type": "huggingface-tgi", "endpoint": "http://a"}, True),
        ({"type": "openaicompatible", "endpoint": "x", "accessToken": {"env": "A"}}, True),
        ({"endpoint": "http://a"}, False),
        ({"type": "openai", "endpoint": "http://a"}, False),
        ({"type": "huggingface-tgi"}, False),
        ({"type": "huggingface-tgi", "endpoint": "http://a", "more": 1}, False),
    ],
)
def test_the_settings_of_providers_are_described_if_given(
    settings: object, *, is_valid: bool
) -> None:
    assert validator(dict(SETTINGS)).is_valid(with_server_side(settings)) is is_valid


def test_every_key_is_explained() -> None:
    schema = msgspec.json.decode(json_schema())

    for name, definition in schema["$defs"].items():
        for key, member in definition["properties"].items():
            assert member.get("description"), f"{name}.{key}"


def test_a_type_that_has_no_schema_is_an_error() -> None:
    class Odd(Block, frozen=True):
        path: Path

    with pytest.raises(TypeError, match="is not supported"):
        json_schema({"odd": Odd})


def test_it_is_readable() -> None:
    text = json_schema().decode()

    assert text.startswith('{\n  "$schema": "https://json-schema.org/draft/2020-12/schema",\n')
    assert text.endswith("}\n")
