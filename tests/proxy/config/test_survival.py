"""Every key of every struct survives being loaded, merged, shown, and loaded again.

The original forgot a key in a hand-written conversion, and its requests were refused (B-58). Here
a document that has every key is made by looking at the structs, so that a new key is in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from proxy.commands.show import shown
from proxy.config.load import Config, load
from proxy.config.schema import (
    Block,
    Completions,
    Knobs,
    SelfHostedClientSide,
    SelfHostedModel,
    SelfHostedOverride,
    SelfHostedServerSide,
)
from tests.proxy.config.everything import Json, document, full, sample


def loaded(document: Json) -> Config:
    return load(msgspec.json.encode(document))


def leaves(value: object, path: tuple[object, ...] = ()) -> Iterator[tuple[object, object]]:
    if isinstance(value, dict):
        for key, member in value.items():
            yield from leaves(member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from leaves(member, (*path, index))
    else:
        yield path, "***" if value == "hunter2" else value


def test_every_key_survives() -> None:
    given = document(set())

    first = shown(loaded(given))
    again = shown(loaded(first))

    kept = dict(leaves(first))
    assert {path: kept.get(path) for path, _ in leaves(given)} == dict(leaves(given))
    assert again == first
    assert "hunter2" not in str(first)


def test_every_struct_was_in_it() -> None:
    seen: set[type] = set()
    document(seen)

    def below(struct: type[Block]) -> Iterator[type[Block]]:
        for child in struct.__subclasses__():
            if child.__module__.startswith("proxy."):
                yield child
                yield from below(child)

    bases = {"HostedSettings", "ServiceSettings", "Traffic"}  # in it as what is made of them
    elsewhere = {
        *(Completions, SelfHostedModel, SelfHostedOverride),
        *(SelfHostedClientSide, SelfHostedServerSide),
    }
    missing = {each for each in set(below(Block)) - seen - elsewhere if each.__name__ not in bases}
    assert not missing


def test_every_key_of_a_self_hosted_model_reaches_the_model() -> None:
    given = document(set())
    override = {
        **full(SelfHostedOverride),
        "clientSideConfig": full(Knobs),
        "serverSideConfig": {"apiModel": "hunter2"},
    }
    entry = {"provider": "p0", "model": "starcoder2-7b@v1", "apiVersion": "v2"}
    for named in ("clients", "models"):  # models that are not there
        del given["penstock"][named]
    del given["modelConfiguration"]["defaultModels"]
    given["modelConfiguration"]["modelOverrides"] = []
    given["modelConfiguration"]["selfHostedModels"] = [{**entry, "override": override}]

    site: Any = shown(loaded(given))

    (model,) = site["modelConfiguration"]["modelOverrides"]
    assert model["modelRef"] == "p0::v2::starcoder2-7b"
    assert model["displayName"] == override["displayName"]
    assert model["contextWindow"] == override["contextWindow"]
    assert model["clientSideConfig"]["openaicompatible"] == override["clientSideConfig"]
    assert model["serverSideConfig"] == {"type": "openaicompatible", "apiModel": "***"}


def test_a_credentials_file_survives() -> None:
    given = document(set())
    provider = given["modelConfiguration"]["providerOverrides"][7]
    identity = {"credentialsFile": "/run/key"}
    provider["serverSideConfig"]["googleWorkloadIdentityConfig"] = identity

    site: Any = shown(loaded(given))

    server_side = site["modelConfiguration"]["providerOverrides"][7]["serverSideConfig"]
    assert server_side["type"] == "google"
    assert server_side["googleWorkloadIdentityConfig"] == identity


@pytest.mark.parametrize("value", [0, 0.0, False, ""])
def test_zero_survives_where_it_is_not_the_default(value: object) -> None:
    given = document(set())
    knobs = given["modelConfiguration"]["modelOverrides"][0]["clientSideConfig"]
    kinds = {
        field.encode_name: type(sample(field.type, field.name))
        for field in msgspec.structs.fields(Knobs)
    }
    zeros = {key: value for key, kind in kinds.items() if kind is type(value)}
    knobs["openaicompatible"] = zeros

    site: Any = shown(loaded(given))

    model = site["modelConfiguration"]["modelOverrides"][0]
    assert model["clientSideConfig"]["openaicompatible"] == zeros
