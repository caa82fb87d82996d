"""The frozen table against the published one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.config.recommended import RECOMMENDED, SELF_HOSTED
from proxy.config.schema import OpenAICompatibleModel

_FILE = Path(__file__).parents[2] / "fixtures" / "vectors" / "recommended_models.json"
VECTORS = msgspec.json.decode(_FILE.read_bytes(), type=dict[str, Any])  # Any: checked by use
TABLE = VECTORS["modelOverridesRecommendedSettings"]


def test_the_table_has_the_same_models() -> None:
    assert list(RECOMMENDED) == list(TABLE)


@pytest.mark.parametrize("key", list(TABLE))
def test_a_model_has_the_published_settings(key: str) -> None:
    published = TABLE[key]
    model = RECOMMENDED[key]

    assert model.model_ref == published.get("betterModelRef", published["modelRef"]) == key
    assert model.display_name == published["displayName"]
    assert model.model_name == published["modelName"]
    assert list(model.capabilities) == published["capabilities"]
    assert model.category == published["category"]
    assert model.status == published["status"]
    assert model.tier == published["tier"]
    assert msgspec.to_builtins(model.context_window) == published["contextWindow"]
    assert model.client_side_config is not None
    knobs = msgspec.json.encode(model.client_side_config.openaicompatible)
    assert msgspec.json.decode(knobs) == published["clientSideConfig"]["openAICompatible"]
    assert model.server_side_config == OpenAICompatibleModel()
    assert SELF_HOSTED[f"{model.model_name}@v1"] is model


def test_self_hosted_models_are_the_same_by_another_name() -> None:
    assert sorted(SELF_HOSTED) == sorted(VECTORS["selfHostedModels"])


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        del RECOMMENDED["bigcode::v1::starcoder2-7b"]  # type: ignore[attr-defined]  # the point
