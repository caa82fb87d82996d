"""Secrets, and that the file's structs say what they are."""

from __future__ import annotations

from typing import Annotated, get_args, get_origin

import msgspec
import pytest

from proxy.config import schema
from proxy.config.schema import (
    Block,
    EnvSecret,
    FileSecret,
    Limits,
    Listen,
    Penstock,
    Secret,
    SiteConfig,
    Timeouts,
)


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("hunter2")

    assert repr(secret) == str(secret) == f"{secret}" == "***"
    assert secret.reveal() == "hunter2"


def test_a_secret_does_not_leave_by_an_encoder() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode(Secret("hunter2"))


def test_equal_secrets_are_equal() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))


def test_the_defaults_suit_models_one_hosts_oneself() -> None:
    assert Penstock().timeouts == Timeouts(
        connect_seconds=5,
        headers_seconds=300,
        first_token_seconds=300,
        idle_seconds=60,
        total_seconds=3600,
        client_min_seconds=1,
    )
    assert Penstock().limits == Limits(
        max_body_bytes=33_554_432, max_event_bytes=16_777_216, max_concurrent_requests=1024
    )
    assert Penstock().listen == Listen(
        host="127.0.0.1", port=8080, admin_host="127.0.0.1", admin_port=9090
    )
    assert Penstock().clients is None


def structs_of_the_file() -> list[type[msgspec.Struct]]:
    found = (value for value in vars(schema).values() if isinstance(value, type))
    blocks = [kind for kind in found if issubclass(kind, Block) and kind is not Block]
    return [SiteConfig, EnvSecret, FileSecret, *blocks]


@pytest.mark.parametrize("struct", structs_of_the_file())
def test_every_key_is_described(struct: type[msgspec.Struct]) -> None:
    for field in msgspec.structs.fields(struct):
        assert get_origin(field.type) is Annotated, field.encode_name
        metas = [meta for meta in get_args(field.type)[1:] if isinstance(meta, msgspec.Meta)]
        assert any(meta.description for meta in metas), field.encode_name


@pytest.mark.parametrize("struct", structs_of_the_file())
def test_every_struct_is_frozen(struct: type[msgspec.Struct]) -> None:
    assert struct.__struct_config__.frozen
