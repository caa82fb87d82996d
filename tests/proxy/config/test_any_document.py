"""Whatever stands in the file: a registry, or problems with their places. Never anything else."""

from __future__ import annotations

import copy
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.problems import ConfigError
from proxy.config.schema import Completions, SelfHostedModel
from proxy.endpoints import LiveState
from proxy.registry import build
from tests.proxy.config.everything import Json, document, full

# One of everything that the structs know, older block and self-hosted models included.
WHOLE = document(set())
WHOLE["modelConfiguration"]["selfHostedModels"] = [
    {**full(SelfHostedModel), "model": "starcoder2-7b@v1", "apiVersion": "v2"}
]
OLDER = {"completions": {**full(Completions), "provider": "fireworks", "accessToken": "k"}}

KEYS = st.sampled_from(["type", "env", "file", "id", "modelRef", "chat", "endpoints", "url", "x"])
TEXTS = st.sampled_from(
    [
        *("", "a", "p0", "p0::v1::m", "::", "a/b", "*", "http://", "http://a b", "http://[::1"),
        *("unix:/x", "http://a:99999/", "http://a?b=c", "us-west-2", "***", "\0", "\ud7ff", "é"),
        *("openai", "huggingface-tgi", "awsBedrock", "arn:aws:x", "a\r\nb", "//", "@v1"),
    ]
) | st.text(max_size=6)
NUMBERS = st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64 - 1, 0.5, -0.0, 1e308]) | st.integers(
    -(2**63), 2**64 - 1
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | TEXTS, inner, max_size=3),
    max_leaves=8,
)


def refused_or_built(data: bytes) -> None:
    try:
        registry = build(data, 1, LiveState())
    except ConfigError as error:
        problems = error.problems
    else:
        assert registry.models
        assert all(model.pool.members for model in registry.models.values())
        return
    assert problems
    assert all(each.line >= 1 and each.column >= 1 for each in problems)
    assert all(each.message for each in problems)


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    refused_or_built(data)


@given(JSON)
def test_any_json(value: object) -> None:
    refused_or_built(msgspec.json.encode(value))


@given(JSON, JSON, JSON)
def test_any_blocks(model_configuration: object, completions: object, penstock: object) -> None:
    blocks = {
        "modelConfiguration": model_configuration,
        "completions": completions,
        "penstock": penstock,
    }
    refused_or_built(msgspec.json.encode(blocks))


@given(st.sampled_from([WHOLE, OLDER]), st.data())
def test_a_whole_file_with_some_things_changed(whole: Json, data: st.DataObject) -> None:
    changed = copy.deepcopy(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        _change_something(changed, data)

    refused_or_built(msgspec.json.encode(changed))


def _change_something(value: Any, data: st.DataObject) -> None:  # Any: JSON, walked into
    """Go down at random, and put something else there, or nothing."""
    while True:
        keys = sorted(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if isinstance(value[key], dict | list) and data.draw(st.booleans()):
            value = value[key]
        elif data.draw(st.integers(0, 4)) == 0:
            del value[key]
            return
        else:
            value[key] = data.draw(JSON)
            return


def test_the_whole_file_is_one_that_serves() -> None:
    registry = build(msgspec.json.encode(WHOLE), 1, LiveState())

    assert len(registry.models) == 4
    assert {provider.kind for provider in registry.config.providers} == {
        *("huggingface-tgi", "openaicompatible", "openai", "azureOpenAI", "fireworks"),
        *("anthropic", "awsBedrock", "google", "sourcegraph"),
    }
