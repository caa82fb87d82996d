"""Anthropic as a provider: where its routes are, and what every call to them carries."""

from __future__ import annotations

import msgspec
import pytest

from parsers.dialects.anthropic import ANTHROPIC, ANTHROPIC_TOKEN_COUNT
from parsers.dialects.base import ClientDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from proxy.config.modelconfig import ProviderConfig
from proxy.config.schema import Secret
from proxy.providers.anthropic import ANTHROPIC as KIND
from proxy.providers.anthropic import Settings
from proxy.providers.base import Provider, UpstreamCall

KEY = Secret("key")


def provider_at(endpoint: str = "", key: Secret | None = KEY) -> Provider:
    config = ProviderConfig("a", "", "anthropic", msgspec.Raw(b"{}"), ())
    return KIND.build(config, Settings(access_token=key, endpoint=endpoint))


async def head_of(provider: Provider, headers: bytes = b"", *, stream: bool = False) -> list[bytes]:
    """The lines of a call's head."""
    route = provider.route_for(ANTHROPIC)
    assert route is not None
    call = UpstreamCall(route, b"{}", stream, "r-1", headers)
    (endpoint,) = provider.endpoints
    return (await provider.prepare(call, endpoint)).head.split(b"\r\n")


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ("", b"POST /v1/messages HTTP/1.1"),
        ("https://a", b"POST /v1/messages HTTP/1.1"),
        ("https://a/v1", b"POST /v1/messages HTTP/1.1"),
        ("https://a/v1/messages", b"POST /v1/messages HTTP/1.1"),
        ("https://a/x/anthropic/v1/messages", b"POST /x/anthropic/v1/messages HTTP/1.1"),
    ],
)
async def test_the_address_is_that_of_the_messages_route_or_of_what_it_stands_under(
    endpoint: str, line: bytes
) -> None:
    assert (await head_of(provider_at(endpoint)))[0] == line


async def test_a_key_and_a_version_go_with_every_call() -> None:
    lines = await head_of(provider_at(), stream=True)

    assert b"x-api-key: key" in lines
    assert b"anthropic-version: 2023-06-01" in lines
    assert b"accept: text/event-stream" in lines


async def test_a_version_that_the_client_named_goes_in_place_of_ours() -> None:
    lines = await head_of(provider_at(), b"anthropic-version: 2030-01-01\r\n")

    assert [each for each in lines if b"version" in each] == [b"anthropic-version: 2030-01-01"]


@pytest.mark.parametrize("key", [None, Secret("")])
async def test_without_a_key_none_is_sent(key: Secret | None) -> None:
    lines = await head_of(provider_at(key=key))

    assert not [each for each in lines if each.startswith((b"x-api-key", b"authorization"))]


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (ANTHROPIC, "anthropic-messages"),
        (OPENAI_CHAT, "anthropic-messages"),
        (OPENAI_COMPLETIONS, "anthropic-messages-of-prompts"),
        (ANTHROPIC_TOKEN_COUNT, "anthropic-count-tokens"),
    ],
)
def test_chats_raw_text_and_counts_have_routes(client: ClientDialect, name: str) -> None:
    route = provider_at().route_for(client)

    assert route is not None
    assert route.dialect.name == name
