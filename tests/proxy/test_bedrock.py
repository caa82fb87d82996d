"""The provider for AWS Bedrock: what is wrong with its settings, and what it would send."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from parsers.dialects.base import ClientDialect
from parsers.dialects.bedrock import Converse, InvokeAnthropic
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from proxy.commands.changes import changes
from proxy.config.problems import ConfigError
from proxy.endpoints import LiveState
from proxy.providers.base import Route, UpstreamCall
from proxy.registry import Model, Registry, build

STATIC = "AKIDEXAMPLE:hunter2hunter2"
ARN = "arn:aws:bedrock:us-west-2:123456789012:provisioned-model/abc123def456"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


def registry_of(settings: Mapping[str, object], **model: object) -> Registry:
    server = {"type": "awsBedrock", "region": "us-west-2", "accessToken": STATIC, **settings}
    block = {
        "providerOverrides": [
            {
                "id": "p",
                "serverSideConfig": {k: v for k, v in server.items() if v is not None},
            }
        ],
        "modelOverrides": [
            {
                "modelRef": "p::v1::m",
                "capabilities": ["chat", "autocomplete"],
                "category": "balanced",
                **model,
            }
        ],
    }
    return build(msgspec.json.encode({"modelConfiguration": block}), 1, LiveState())


def model_of(settings: Mapping[str, object], **model: object) -> Model:
    return registry_of(settings, **model).models["p::v1::m"]


def route_of(model: Model, client: ClientDialect = OPENAI_CHAT) -> Route:
    route = model.provider.route_for(client)
    assert route is not None
    return route


async def head_of(model: Model, *, stream: bool = False, body: bytes = b"{}") -> list[str]:
    (endpoint,) = model.provider.endpoints
    call = UpstreamCall(route_of(model), body, stream, "id-1")
    request = await model.provider.prepare(call, endpoint)
    assert request.body == body
    assert request.head.endswith(b"\r\n\r\n")
    return request.head.decode().split("\r\n")[:-2]


def findings_of(settings: Mapping[str, object]) -> list[tuple[str, str]]:
    try:
        found = registry_of(settings).config.warnings
    except ConfigError as error:
        found = error.problems
    return [(each.path.partition("serverSideConfig")[2], each.message) for each in found]


# Settings


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "bedrock-runtime.us-west-2.amazonaws.com"),
        (
            {"endpoint": "eu-central-1", "region": None},
            "bedrock-runtime.eu-central-1.amazonaws.com",
        ),
        ({"region": "us-gov-west-1"}, "bedrock-runtime.us-gov-west-1.amazonaws.com"),
        ({"region": "cn-north-1"}, "bedrock-runtime.cn-north-1.amazonaws.com.cn"),
        ({"endpoint": "https://vpce-0-1.b.us-west-2.vpce.amazonaws.com"}, None),
    ],
)
async def test_where_it_is_called(settings: dict[str, object], host: str | None) -> None:
    host = host or "vpce-0-1.b.us-west-2.vpce.amazonaws.com"
    assert findings_of(settings) == []
    assert f"host: {host}" in await head_of(model_of(settings))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"region": None}, ("", '"endpoint" or "region" is missing: one of them says the region')),
        (
            {"region": None, "endpoint": "https://bedrock.example.com"},
            (".endpoint", 'no region in the URL: give it in "region"'),
        ),
        (
            {"region": None, "endpoint": "frankfurt"},
            (
                ".endpoint",
                "neither a region nor a URL: the URL must begin with http://, https:// or unix:",
            ),
        ),
        (
            {"region": "not a region"},
            (
                ".region",
                "neither a region nor a URL: the host must be an ASCII name (punycode)"
                " or an address",
            ),
        ),
        (
            {"region": "x\r\ny: z", "endpoint": "https://bedrock.example.com"},
            (".region", "this is not the name of a region"),
        ),
        (
            {"accessToken": "AKID:schlüssel"},
            (".accessToken", "the token cannot stand in a header"),
        ),
    ],
)
def test_what_is_wrong_with_settings_is_told(
    settings: dict[str, object], problem: tuple[str, str]
) -> None:
    assert findings_of(settings) == [problem]


@pytest.mark.parametrize("token", ["k", "a:b:c:d"])
def test_a_key_of_another_form_is_told_and_ignored(token: str) -> None:
    assert findings_of({"accessToken": token}) == [
        (
            ".accessToken",
            'ignored: neither "KEY:SECRET", "KEY:SECRET:SESSION" nor a Bedrock API key',
        )
    ]


def test_ambient_credentials_without_their_library_are_refused_with_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore", None)
    text = "the ambient AWS credentials need a library: pip install 'penstock[bedrock]'"

    assert findings_of({"accessToken": None}) == [("", text)]
    assert (".accessToken", text) in findings_of({"accessToken": "k"})


@pytest.mark.parametrize("token", [STATIC, f"{STATIC}:session", "ABSKxyz", "bedrock-api-key-xyz"])
def test_keys_of_the_configuration_need_no_library(
    token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "aiobotocore", None)

    assert findings_of({"accessToken": token}) == []


# Paths


@pytest.mark.parametrize(
    ("name", "segment"),
    [
        ("amazon.nova-pro-v1:0", "amazon.nova-pro-v1%3A0"),
        (
            ARN,
            "arn%3Aaws%3Abedrock%3Aus-west-2%3A123456789012%3Aprovisioned-model%2Fabc123def456",
        ),
        ("é %", "%C3%A9%20%25"),
    ],
)
async def test_the_model_is_one_segment_of_the_path(name: str, segment: str) -> None:
    model = model_of({}, modelName=name)

    whole, streamed = await head_of(model), await head_of(model, stream=True)

    assert whole[0] == f"POST /model/{segment}/converse HTTP/1.1"
    assert streamed[0] == f"POST /model/{segment}/converse-stream HTTP/1.1"


async def test_a_stream_is_asked_for_as_aws_calls_it() -> None:
    assert "accept: application/vnd.amazon.eventstream" in await head_of(model_of({}), stream=True)
    assert "accept: application/json" in await head_of(model_of({}))


async def test_a_path_of_the_endpoint_comes_first_and_is_signed_with_the_rest() -> None:
    model = model_of({"endpoint": "https://gateway.example.com/aws/", "region": "us-west-2"})

    head = await head_of(model)

    assert head[0] == "POST /aws/model/m/converse HTTP/1.1"
    assert "/us-west-2/bedrock/aws4_request, SignedHeaders=content-type;host;x-amz-date" in head[-1]


@pytest.mark.parametrize("token", ["ABSKQmVkcm9jaw==", "bedrock-api-key-YmVkcm9jaw=="])
async def test_an_api_key_is_a_bearer_and_nothing_is_signed(token: str) -> None:
    head = await head_of(model_of({"accessToken": token}))

    assert f"authorization: Bearer {token}" in head
    assert not [line for line in head if line.startswith("x-amz-")]


def test_a_secret_name_is_shown_nowhere() -> None:
    server = {"type": "awsBedrockProvisionedThroughput", "arn": ARN}
    model = model_of({}, modelName="anthropic.claude-v2", serverSideConfig=server)

    assert model.provider.paths == ["/model/***/converse", "/model/***/converse-stream"]
    hidden = model.provider.secrets_for(model.provider.endpoints[0])
    assert "arn%3Aaws%3Abedrock%3Aus-west-2%3A123456789012%3Aprovisioned-model%2Fabc123def456" in (
        hidden
    )
    assert {"AKIDEXAMPLE", "hunter2hunter2"} <= set(hidden)


def test_another_key_is_another_way_to_call() -> None:
    def differ(one: Registry, other: Registry) -> bool:
        return bool(changes(one, other))

    assert not differ(registry_of({}), registry_of({}))
    assert differ(registry_of({}), registry_of({"accessToken": STATIC + "3"}))
    assert "hunter2" not in repr(
        changes(registry_of({}), registry_of({"accessToken": STATIC + "3"}))
    )


# Dialects


def dialect_of(settings: Mapping[str, object], **model: object) -> Any:
    return route_of(model_of(settings, **model)).dialect


@pytest.mark.parametrize(
    ("model", "is_anthropic"),
    [
        ({"modelName": CLAUDE}, True),
        ({"modelName": "anthropic.claude-v2"}, True),
        ({"modelName": "amazon.nova-pro-v1:0"}, False),
        ({"modelName": "arn:aws:bedrock:us-west-2:1:application-inference-profile/x"}, False),
        ({"modelName": f"arn:aws:bedrock:us-west-2:1:inference-profile/{CLAUDE}"}, True),
        (
            {
                "modelName": "anthropic.claude-v2",
                "serverSideConfig": {"type": "awsBedrockProvisionedThroughput", "arn": ARN},
            },
            True,
        ),
        ({"modelRef": "p::v1::m", "modelName": "notanthropicatall"}, False),
    ],
)
def test_whose_a_model_is(model: dict[str, object], is_anthropic: bool) -> None:
    names = {
        family: dialect_of({"modelFamily": family}, **model).anthropic
        for family in ("auto", "anthropic", "other")
    }

    assert (names["auto"] is not None) is is_anthropic
    assert names["anthropic"] is not None
    assert names["other"] is None


def test_both_kinds_of_work_are_done() -> None:
    model = model_of({})

    assert isinstance(route_of(model).dialect, Converse)
    assert isinstance(route_of(model, OPENAI_COMPLETIONS).dialect, Converse)


async def test_models_of_anthropic_can_be_invoked_in_their_own_dialect() -> None:
    model = model_of({"api": "invoke"}, modelName=CLAUDE)
    dialect = route_of(model).dialect
    path = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/invoke"

    assert isinstance(dialect, InvokeAnthropic)
    assert route_of(model).needs_limit
    assert (await head_of(model))[0] == f"POST {path} HTTP/1.1"
    assert (await head_of(model, stream=True))[0] == f"POST {path}-with-response-stream HTTP/1.1"


def test_models_of_others_cannot_be_invoked_so() -> None:
    assert isinstance(dialect_of({"api": "invoke"}, modelName="amazon.nova-pro-v1:0"), Converse)
