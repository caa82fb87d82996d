"""The hook for built-in models: what a file makes of a list that is not empty (spec 1.3, 1.12)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from parsers.jsonc import Positions
from proxy.config.builtin import BUILT_IN
from proxy.config.decoder import decode_strict
from proxy.config.load import load
from proxy.config.merge import merge
from proxy.config.modelconfig import Merged
from proxy.config.problems import Problem, Problems, Source
from proxy.config.schema import (
    PROVIDER_KINDS,
    ContextWindow,
    DefaultModels,
    ModelConfiguration,
    ModelOverride,
    ModelSettings,
    ProviderOverride,
)
from proxy.config.secrets import read_secret

SEED = (Path(__file__).parents[2] / "fixtures" / "vectors" / "seed_site_config.jsonc").read_bytes()
SERVER = {"type": msgspec.Raw(b'"openai"')}


def model(name: str, status: str = "stable") -> ModelOverride:
    return ModelOverride(
        model_ref=f"acme::v1::{name}",
        display_name=name.upper(),
        model_name=f"{name}-upstream",
        capabilities=("chat", "autocomplete"),
        category="balanced",
        status=status,
        context_window=ContextWindow(max_input_tokens=100, max_output_tokens=50),
    )


BASE = ModelConfiguration(
    provider_overrides=(
        ProviderOverride(id="acme", display_name="Acme", server_side_config=SERVER),
    ),
    model_overrides=(model("a"), model("b", "beta"), model("old", "deprecated")),
    default_models=DefaultModels(chat="acme::v1::b"),
)


def merged(**block: object) -> tuple[Merged, Problems]:
    text = msgspec.json.encode({"modelConfiguration": block}).decode()
    problems = Problems(Source(Positions(text), read_secret))
    decoded = decode_strict(block, ModelConfiguration, ("modelConfiguration",), problems)
    problems.raise_any()
    assert decoded is not None
    return merge(decoded, PROVIDER_KINDS, problems, BASE), problems


def models_of(**block: object) -> list[str]:
    found, problems = merged(**block)
    problems.raise_any()
    return [each.ref.model for each in found.models]


def with_filters(**filters: object) -> list[str]:
    own = {"modelRef": "acme::v1::own", "capabilities": ["chat"]}
    return models_of(sourcegraph={"modelFilters": filters}, modelOverrides=[own])


def test_there_are_no_built_in_models() -> None:
    assert ModelConfiguration() == BUILT_IN


def test_null_means_no_built_in_model_and_no_provider() -> None:
    found, problems = merged(sourcegraph=None)

    assert (found.models, found.providers) == ((), ())
    assert len(problems) == 1


def test_an_object_means_all_that_are_not_deprecated() -> None:
    found, problems = merged(sourcegraph={})

    problems.raise_any()
    assert [str(each.ref) for each in found.models] == ["acme::v1::a", "acme::v1::b"]
    assert [(each.id, each.display_name, each.kind) for each in found.providers] == [
        ("acme", "Acme", "openai")
    ]
    assert str(found.defaults.chat) == "acme::v1::b"
    assert found.models[0].settings.display_name == "A"
    assert found.models[0].upstream_name == "a-upstream"


@pytest.mark.parametrize(
    ("filters", "models"),
    [
        ({"statusFilter": ["stable"]}, ["a", "own"]),
        ({"statusFilter": ["beta", "deprecated"]}, ["b", "own"]),
        ({"statusFilter": []}, ["own"]),
        ({"allow": ["*::b"]}, ["b", "own"]),
        ({"allow": ["a*"], "deny": ["*::b"]}, ["a", "own"]),
        ({"allow": []}, ["a", "b", "own"]),
        ({"allow": ["*b"]}, ["b", "own"]),  # shorter than three: the original never matches it
        ({"deny": ["*"]}, ["own"]),
        ({"deny": ["*own"]}, ["a", "b", "own"]),  # never the file's own
    ],
)
def test_filters_choose_among_built_in_models_alone(
    filters: dict[str, object], models: list[str]
) -> None:
    assert with_filters(**filters) == models


def test_an_override_changes_a_built_in_model_in_its_place() -> None:
    found, problems = merged(
        sourcegraph={},
        modelOverrides=[
            {"modelRef": "acme::v1::new"},
            {"modelRef": "acme::v1::a", "status": "beta", "contextWindow": {"maxInputTokens": 7}},
        ],
    )

    problems.raise_any()
    assert [each.ref.model for each in found.models] == ["a", "b", "new"]
    settings = found.models[0].settings
    assert (settings.status, settings.display_name, settings.category) == ("beta", "A", "balanced")
    assert (found.models[0].limits.max_input_tokens, found.models[0].limits.max_output_tokens) == (
        7,
        50,
    )
    assert found.models[0].path[1:] == ("modelOverrides", 1, "modelRef")
    assert found.models[2].limits.max_input_tokens == 4000


def test_what_a_provider_says_of_all_models_reaches_the_built_in_and_the_new_ones() -> None:
    found, problems = merged(
        sourcegraph={},
        providerOverrides=[
            {
                "id": "acme",
                "displayName": "Ours",
                "defaultModelConfig": {
                    "status": "experimental",
                    "clientSideConfig": {"openaicompatible": {"endOfText": "<EOT>"}},
                },
            }
        ],
        modelOverrides=[
            {"modelRef": "acme::v1::b", "status": "stable"},
            {"modelRef": "acme::v1::new"},
        ],
    )

    problems.raise_any()
    assert [each.display_name for each in found.providers] == ["Ours"]  # B-02
    assert [each.settings.status for each in found.models] == [
        "experimental",
        "stable",
        "experimental",
    ]
    ends = [each.knobs.end_of_text for each in found.models if each.knobs is not None]  # B-03
    assert ends == ["<EOT>"] * 3


def test_the_list_itself_is_never_changed() -> None:
    before = msgspec.json.encode(BASE)

    merged(
        sourcegraph={},
        providerOverrides=[{"id": "acme", "defaultModelConfig": {"status": "x"}}],
        modelOverrides=[{"modelRef": "acme::v1::a", "status": "beta"}],
    )

    assert msgspec.json.encode(BASE) == before
    assert BASE.provider_overrides[0].default_model_config in (None, ModelSettings())


def problems_of(sourcegraph: object) -> tuple[tuple[str, str], ...]:
    _, problems = merged(sourcegraph=sourcegraph)
    return _pairs(problems.warnings)


def _pairs(problems: tuple[Problem, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((each.path.rpartition("sourcegraph")[2], each.message) for each in problems)


NONE_BUILT_IN = ("", "penstock has no built-in models: only those of this file are there")


def test_an_empty_status_filter_is_told() -> None:
    text = "an empty list leaves no built-in model at all"
    warnings = problems_of({"modelFilters": {"statusFilter": []}})

    assert {NONE_BUILT_IN, (".modelFilters.statusFilter", text)} <= set(warnings)


@pytest.mark.parametrize(
    ("given", "place", "message"),
    [
        ({"endpoint": "gateway"}, ".endpoint", "invalid endpoint URL"),
        ({"modelFilters": {"allow": ["a*b"]}}, ".modelFilters.allow[0]", "allow"),
        ({"modelFilters": {"deny": ["*", ""]}}, ".modelFilters.deny[1]", "deny"),
    ],
)
def test_what_is_wrong_with_the_gateway_or_the_filters(
    given: dict[str, object], place: str, message: str
) -> None:
    _, problems = merged(sourcegraph={"accessToken": "k", **given})

    with pytest.raises(ValueError, match=r"sourcegraph config: ") as error:
        problems.raise_any()

    assert f"modelConfiguration.sourcegraph{place}" in str(error.value)
    assert message in str(error.value)


def test_the_gateway_of_a_site_is_taken_as_it_stands() -> None:
    data = SEED.replace(
        b'"sourcegraph": null',
        b'"sourcegraph": {"endpoint": "https://gw.example.com", "accessToken": "hunter2",'
        b' "modelFilters": {"allow": ["*"], "deny": ["a::*"], "statusFilter": ["stable"]}}',
    )

    config = load(data)

    assert len(config.models) == 2
    assert _pairs(config.warnings) == (NONE_BUILT_IN,)
    assert "hunter2" not in repr(config)
