"""Azure with Entra's tokens, from a token server on loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from tests.e2e.frames import ANSWER, stream
from tests.harness import chat, config_for, penstock
from tests.scripted import Conversation, Request, Upstream, response

SECRET = "a-client-secret-of-some-length"
JSON = b"content-type: application/json\r\n"


class Cloud:
    """Entra, the metadata server of a machine, and a resource, at one address."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.asked: list[Request] = []  # of those who give out tokens
        self.called: list[Request] = []
        self.expires_in: object = 3599
        self.refuses = False
        self.upstream = Upstream(self._serve)

    async def _serve(self, up: Conversation) -> None:
        async for request in up.requests():
            if "/oauth2/" in request.target:
                self.asked.append(request)
                up.send(self._token())
            else:
                self._call(up, request)

    def _token(self) -> bytes:
        if self.refuses:
            return response(b'{"error":"invalid_client"}', status=401, headers=JSON)
        self.tokens.append(f"eyJ0.{'t' * 30}.{len(self.tokens)}")
        answer = {"access_token": self.tokens[-1], "expires_in": self.expires_in}
        return response(msgspec.json.encode(answer), headers=JSON)

    def _call(self, up: Conversation, request: Request) -> None:
        self.called.append(request)
        _, _, token = request.headers.get("authorization", "").partition(" ")
        if token in self.tokens:
            up.send(stream(ANSWER))
        else:
            up.send(response(b'{"error":{"message":"not %b"}}' % token.encode(), status=401))


def config_of(cloud: Cloud, **identity: object) -> dict[str, Any]:
    config = config_for(cloud.upstream.url)
    (provider,) = config["modelConfiguration"]["providerOverrides"]
    provider["serverSideConfig"] = {
        "type": "azureOpenAI",
        "endpoint": cloud.upstream.url,
        "entraIdentity": identity,
    }
    return config


def form(request: Request) -> dict[str, str]:
    return {name: value for name, (value,) in parse_qs(request.body.decode()).items()}


async def test_a_client_with_a_secret_gets_a_token_and_uses_it_again() -> None:
    cloud = Cloud()
    async with cloud.upstream:
        config = config_of(
            cloud,
            tenantId="a-tenant",
            clientId="a-client",
            clientSecret=SECRET,
            authority=cloud.upstream.url,
        )
        async with penstock(config) as proxy:
            statuses = [(await proxy.ask("/v1/chat/completions", chat()))[0] for _ in range(3)]
            assert await proxy.reload(config) == 200
            statuses.append((await proxy.ask("/v1/chat/completions", chat()))[0])

    assert statuses == [200] * 4
    (asked,) = cloud.asked
    assert asked.target == "/a-tenant/oauth2/v2.0/token"
    assert form(asked) == {
        "grant_type": "client_credentials",
        "client_id": "a-client",
        "client_secret": SECRET,
        "scope": "https://cognitiveservices.azure.com/.default",
    }
    assert {each.headers["authorization"] for each in cloud.called} == {f"Bearer {cloud.tokens[0]}"}
    assert "api-key" not in cloud.called[0].headers


async def test_a_pod_shows_the_token_that_its_cluster_gave_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud, file = Cloud(), tmp_path / "token"
    file.write_text("a.cluster.token\n")
    async with cloud.upstream:
        monkeypatch.setenv("AZURE_TENANT_ID", "a-tenant")
        monkeypatch.setenv("AZURE_CLIENT_ID", "a-client")
        monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
        monkeypatch.setenv("AZURE_AUTHORITY_HOST", f"{cloud.upstream.url}/")
        async with penstock(config_of(cloud)) as proxy:
            status, _ = await proxy.ask("/v1/chat/completions", chat())

    assert status == 200
    assert cloud.asked[0].target == "/a-tenant/oauth2/v2.0/token"
    asked = form(cloud.asked[0])
    assert (asked["client_id"], asked["client_assertion"]) == ("a-client", "a.cluster.token")
    assert asked["client_assertion_type"].endswith(":jwt-bearer")


async def test_a_machine_asks_its_metadata_server(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud()
    cloud.expires_in = "86399"
    async with cloud.upstream:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", cloud.upstream.url)
        async with penstock(config_of(cloud, clientId="mine")) as proxy:
            status, _ = await proxy.ask("/v1/chat/completions", chat())

    (asked,) = cloud.asked
    assert status == 200
    assert asked.method == "GET"
    assert asked.headers["metadata"] == "true"
    assert parse_qs(asked.target.partition("?")[2]) == {
        "api-version": ["2018-02-01"],
        "resource": ["https://cognitiveservices.azure.com"],
        "client_id": ["mine"],
    }


@pytest.mark.parametrize(
    ("identity", "said"),
    [
        ({"clientSecret": SECRET}, "entra gives penstock no access token"),
        ({"federatedTokenFile": "/there/is/none"}, "entra gives penstock no access token"),
        (
            {"clientSecret": SECRET, "authority": "http://127.0.0.1:9"},
            "entra's token server cannot be reached",
        ),
    ],
)
async def test_without_a_token_nothing_is_asked_and_nothing_told(
    identity: dict[str, str], said: str
) -> None:
    cloud = Cloud()
    cloud.refuses = True
    async with cloud.upstream:
        config = config_of(cloud, **{"authority": cloud.upstream.url, **identity})
        async with penstock(config) as proxy:
            status, body = await proxy.ask("/v1/chat/completions", chat())
            written = proxy.written()

    assert (status, cloud.called) == (502, [])
    assert msgspec.json.decode(body)["error"]["message"] == said
    assert SECRET.encode() not in written + body


async def test_a_token_that_is_quoted_in_a_refusal_is_hidden() -> None:
    cloud = Cloud()
    async with cloud.upstream:
        config = config_of(cloud, clientSecret=SECRET, authority=cloud.upstream.url)
        async with penstock(config) as proxy:
            await proxy.ask("/v1/chat/completions", chat())
            token, cloud.tokens = cloud.tokens[0], []
            status, body = await proxy.ask("/v1/chat/completions", chat())

    assert status == 502
    assert token.encode() not in body
