"""Every list of the reference vectors, and the index of names by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from parsers.chat import Operation
from proxy.config.modelref import (
    BadModelRef,
    Defaults,
    LegacyRef,
    ModelRef,
    UnknownModel,
    choose,
    is_pattern,
    is_resource_id,
    pattern_fits,
    sanitize_resource_name,
    spellings,
)

Vector = dict[str, Any]  # JSON, checked by use

_FILE = Path(__file__).parents[2] / "fixtures" / "vectors" / "modelrefs.json"
VECTORS = msgspec.json.decode(_FILE.read_bytes(), type=dict[str, Any])  # Any: as above


def vectors_of(name: str) -> list[Any]:
    return [pytest.param(vector, id=vector["id"]) for vector in VECTORS[name]]


@pytest.mark.parametrize("vector", vectors_of("validate_model_ref"))
def test_validate_model_ref(vector: Vector) -> None:
    if vector["error"] is None:
        assert str(ModelRef.parse(vector["input"])) == vector["input"]
        return

    with pytest.raises(BadModelRef) as error:
        ModelRef.parse(vector["input"])

    assert str(error.value) == vector["error"]


@pytest.mark.parametrize("vector", vectors_of("accessors"))
def test_accessors(vector: Vector) -> None:
    parts = ModelRef.parts_of(vector["input"])

    assert parts.provider == vector["providerId"]
    assert parts.api_version == vector["apiVersionId"]
    assert parts.model == vector["modelId"]


@pytest.mark.parametrize("vector", vectors_of("parse_legacy"))
def test_parse_legacy(vector: Vector) -> None:
    legacy = LegacyRef.parse(vector["input"])

    assert legacy == LegacyRef(vector["provider"], vector["model"])
    assert str(legacy.guess) == vector["guessedModelRef"]


@pytest.mark.parametrize("vector", vectors_of("legacy_equals_ignoring_api_version"))
def test_legacy_equals_ignoring_api_version(vector: Vector) -> None:
    ref = ModelRef.parse(vector["modelRef"])

    assert LegacyRef.parse(vector["legacy"]).fits(ref) is vector["equal"]


@pytest.mark.parametrize("vector", vectors_of("sanitize_resource_name"))
def test_sanitize_resource_name(vector: Vector) -> None:
    name = sanitize_resource_name(vector["input"])

    assert name == vector["output"]
    assert is_resource_id(name) or not name


@pytest.mark.parametrize("vector", vectors_of("filter_pattern"))
def test_filter_pattern(vector: Vector) -> None:
    ref = ModelRef.parse(vector["modelRef"])

    assert is_pattern(vector["pattern"]) is vector["validRule"]
    wanted = vector.get("betterMatches", vector["matches"])
    assert pattern_fits(vector["pattern"], ref) is wanted


@pytest.mark.parametrize("vector", vectors_of("filter_rule_valid"))
def test_filter_rule_valid(vector: Vector) -> None:
    assert is_pattern(vector["pattern"]) is vector["valid"]


def test_a_lone_star_fits_every_model() -> None:
    assert pattern_fits("*", ModelRef("a", "b", "c"))


@pytest.mark.parametrize("vector", vectors_of("resolve"))
def test_resolve(vector: Vector) -> None:
    config = VECTORS["configs"][vector["config"]]
    refs = [ModelRef.parse(text) for text in config["models"]]
    defaults = defaults_of(config["defaultModels"])
    operation = Operation.CHAT if vector["feature"] == "chat" else Operation.COMPLETION
    asked, fast = vector["requestModel"], vector["fast"]

    if "modelRef" in vector:
        ref = choose(spellings(refs), defaults, asked, operation, fast=fast)
        assert str(ref) == vector["modelRef"]
        return

    with pytest.raises(UnknownModel) as error:
        choose(spellings(refs), defaults, asked, operation, fast=fast)

    assert str(error.value) == vector["error"]


def defaults_of(texts: dict[str, str]) -> Defaults:
    keys = ("chat", "fastChat", "codeCompletion")
    return Defaults(*(ModelRef.parse(texts[key]) if texts.get(key) else None for key in keys))


def test_a_trailing_newline_is_no_part_of_an_id() -> None:
    assert not is_resource_id("a\n")


def test_fast_has_no_effect_on_completions() -> None:
    refs = [ModelRef("p", "v1", "chatty"), ModelRef("p", "v1", "coder")]
    defaults = Defaults(fast_chat=refs[0], code_completion=refs[1])

    ref = choose(spellings(refs), defaults, "", Operation.COMPLETION, fast=True)

    assert ref == refs[1]


def test_every_spelling_of_a_model_is_known() -> None:
    names = spellings([ModelRef("p", "v1", "m")])

    assert list(names.refs) == ["p::v1::m", "p/m", "m", "/m"]
    assert not names.ambiguous


def test_a_model_id_with_a_slash_is_not_taken_for_a_provider() -> None:
    own = ModelRef("fireworks", "v1", "openai/gpt")
    names = spellings([own, ModelRef("openai", "v1", "gpt")])

    assert names.refs["fireworks/openai/gpt"] == own
    assert str(names.refs["openai/gpt"]) == "openai::v1::gpt"


def test_a_provider_id_with_a_slash_has_no_older_spelling() -> None:
    names = spellings([ModelRef("a/b", "v1", "m")])

    assert set(names.refs) == {"a/b::v1::m", "m", "/m"}


def test_the_first_model_listed_wins_and_the_others_are_told() -> None:
    first, second = ModelRef("a", "v1", "m"), ModelRef("b", "v1", "m")

    names = spellings([first, second])

    assert names.refs["m"] == first
    assert dict(names.ambiguous) == {"m": (first, second)}


def test_two_api_versions_are_told_apart_only_in_full() -> None:
    first, second = ModelRef("a", "v1", "m"), ModelRef("a", "v2", "m")

    names = spellings([first, second])

    assert names.refs["a::v2::m"] == second
    assert set(names.ambiguous) == {"a/m", "m"}


def test_the_names_cannot_be_changed() -> None:
    names = spellings([ModelRef("a", "v1", "m")])

    with pytest.raises(TypeError):
        names.refs["m"] = ModelRef("b", "v1", "m")  # type: ignore[index]  # that is the point
