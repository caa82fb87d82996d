"""Each kind of provider: which settings are wrong, what is sent where, what cannot be called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from parsers.chat import ChatRequest, Message, Sampling, TextPart
from parsers.dialects.base import ClientDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.passthrough import DETOKENIZE, EMBEDDINGS, RERANK, TOKENIZE, Passthrough
from proxy import __version__
from proxy.config.modelconfig import ProviderConfig
from proxy.config.problems import ConfigError
from proxy.endpoints import LiveState
from proxy.providers import PROVIDERS
from proxy.providers.base import Route, UpstreamCall
from proxy.registry import Model, Registry, build

Json = dict[str, Any]  # Any: JSON of any shape

HEAD = f"accept-encoding: identity\r\nuser-agent: penstock/{__version__}\r\n"


def registry_of(settings: Mapping[str, object], **model: object) -> Registry:
    block = {
        "providerOverrides": [{"id": "p", "serverSideConfig": settings}],
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


def route_of(model: Model, client: ClientDialect) -> Route:
    route = model.provider.route_for(client)
    assert route is not None
    return route


async def head_of(
    settings: Mapping[str, object],
    client: ClientDialect = OPENAI_CHAT,
    *,
    stream: bool = False,
    **model: object,
) -> str:
    """What a request of this client would begin with, without what all requests have."""
    found = model_of(settings, **model)
    call = UpstreamCall(route_of(found, client), b"{}", stream, "id-1")
    (endpoint,) = found.provider.endpoints
    request = await found.provider.prepare(call, endpoint)
    assert request.body == b"{}"
    head = request.head.decode()
    accept = "text/event-stream" if stream else "application/json"
    common = f"content-type: application/json\r\naccept: {accept}\r\n{HEAD}"
    assert common in head
    end = "x-request-id: id-1\r\ncontent-length: 2\r\n\r\n"
    assert head.endswith(end)
    return head.replace(common, "").removesuffix(end)


def warnings_of(settings: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (warning.path.partition("serverSideConfig")[2], warning.message)
        for warning in registry_of(settings).config.warnings
    ]


def problems_of(settings: Mapping[str, object]) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        registry_of(settings)
    return [
        (problem.path.partition("serverSideConfig")[2], problem.message)
        for problem in error.value.problems
    ]


def hosted(kind: str = "openaicompatible", **endpoint: object) -> Json:
    return {"type": kind, "endpoints": [{"url": "http://a:8000/v1", **endpoint}]}


@pytest.mark.parametrize("kind", ["openaicompatible", "huggingface-tgi"])
async def test_a_hosted_server_is_called_below_its_base_path(kind: str) -> None:
    assert await head_of(hosted(kind)) == "POST /v1/chat/completions HTTP/1.1\r\nhost: a:8000\r\n"
    assert await head_of(hosted(kind), OPENAI_COMPLETIONS, stream=True) == (
        "POST /v1/completions HTTP/1.1\r\nhost: a:8000\r\n"
    )


async def test_a_url_without_a_path_means_v1() -> None:
    settings = {"type": "openaicompatible", "endpoints": [{"url": "http://a"}]}

    assert await head_of(settings) == "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"


async def test_a_token_is_sent_as_a_bearer() -> None:
    head = await head_of(hosted(accessToken="hunter2"))

    assert head.endswith("host: a:8000\r\nauthorization: Bearer hunter2\r\n")


async def test_an_empty_token_is_none() -> None:
    assert "authorization" not in await head_of(hosted(accessToken=""))


async def test_a_token_can_be_sent_in_the_query() -> None:
    head = await head_of(hosted(accessTokenQuery="a+b/c=&d"))

    assert head.startswith("POST /v1/chat/completions?access_token=a%2Bb%2Fc%3D%26d HTTP/1.1\r\n")
    assert "authorization" not in head


async def test_the_query_of_a_url_is_kept() -> None:
    head = await head_of(hosted(url="http://a/v1?version=2&x", accessTokenQuery="t"))

    assert head.startswith("POST /v1/chat/completions?version=2&x&access_token=t HTTP/1.1\r\n")


async def test_headers_take_the_place_of_tokens() -> None:
    headers = {"X-Key": "hunter2", "authorization": "Basic x"}
    head = await head_of(hosted(accessToken="t1", accessTokenQuery="t2", headers=headers))

    assert head == (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a:8000\r\n"
        "X-Key: hunter2\r\nauthorization: Basic x\r\n"
    )


def test_a_token_that_is_not_sent_is_told() -> None:
    warnings = warnings_of(hosted(accessToken="t", headers={"x": "y"}))

    text = "the endpoint's token is not sent, since it has headers of its own"
    assert warnings == [(".endpoints[0].headers", text)]


@pytest.mark.parametrize(
    ("endpoint", "place", "message"),
    [
        ({"url": "a:80"}, ".url", "the URL must begin with http://, https:// or unix:"),
        ({"url": "unix:/s", "resolve": "all"}, ".resolve", "a unix socket has no addresses"),
        ({"url": "http://u:p@a"}, ".url", "the URL must not hold a user or a password"),
        ({"url": "http://a?b c"}, ".url", "the URL's query must be visible ASCII"),
        ({"url": "http://a#b"}, ".url", "the URL must not have a query or a fragment"),
        ({"accessToken": "é"}, ".accessToken", "the token cannot stand in a header"),
        ({"headers": {"a b": "c"}}, '.headers["a b"]', "this is not the name of a header"),
        ({"headers": {"": "c"}}, '.headers[""]', "this is not the name of a header"),
        ({"headers": {"Host": "c"}}, ".headers.Host", "penstock sends this header itself"),
        ({"headers": {"a": "é"}}, ".headers.a", "the value cannot stand in a header"),
        (
            {"headers": {"a": {"env": "PENSTOCK_TEST_UNSET"}}},
            ".headers.a",
            'environment variable "PENSTOCK_TEST_UNSET" is not set',
        ),
    ],
)
def test_a_bad_endpoint(endpoint: Json, place: str, message: str) -> None:
    ((path, text),) = problems_of(hosted(**endpoint))

    assert path == f".endpoints[0]{place}"
    assert text.startswith(message)


def test_no_endpoint_at_all() -> None:
    settings = {"type": "openaicompatible", "endpoints": []}

    assert problems_of(settings) == [(".endpoints", "at least one endpoint is needed")]


def test_an_endpoint_given_twice_but_for_its_query() -> None:
    urls = ["http://a/v1", "http://a/v1?x=1"]
    settings = {"type": "openaicompatible", "endpoints": [{"url": url} for url in urls]}

    text = "this endpoint stands here more than once"
    assert problems_of(settings) == [(f".endpoints[{n}].url", text) for n in (0, 1)]


@pytest.mark.parametrize("key", ["enableVerboseLogs", "debugConnections"])
def test_the_switch_for_logs_has_two_names(key: str) -> None:
    assert model_of({**hosted(), key: True}).provider.verbose
    assert not model_of(hosted()).provider.verbose


@pytest.mark.parametrize("kind", ["openaicompatible", "huggingface-tgi"])
async def test_completions_can_go_to_the_chat_route(kind: str) -> None:
    settings = {**hosted(kind), "useLegacyCompletions": False}

    head = await head_of(settings, OPENAI_COMPLETIONS)

    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\n")
    model = model_of(settings)
    completion = OPENAI_COMPLETIONS.decode_request(b'{"model":"m","prompt":"def f("}')
    body = route_of(model, OPENAI_COMPLETIONS).dialect.encode_request(completion, "m")
    assert msgspec.json.decode(body) == {
        "model": "m",
        "messages": [{"role": "user", "content": "def f("}],
    }
    assert route_of(model, OPENAI_CHAT).dialect.name == OPENAI_CHAT.name  # still exact


async def test_tgi_in_its_own_dialect_is_called_beside_v1() -> None:
    settings = {**hosted("huggingface-tgi", accessToken="t"), "dialect": "tgi"}

    head = await head_of(settings, OPENAI_COMPLETIONS, stream=True)

    assert head.startswith("POST /generate_stream HTTP/1.1\r\nhost: a:8000\r\n")
    assert "authorization: Bearer t\r\n" in head


@pytest.mark.parametrize(
    ("endpoint", "line"),
    [
        ({}, "POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\n"),
        ({"endpoint": ""}, "POST /v1/chat/completions HTTP/1.1\r\nhost: api.openai.com\r\n"),
        ({"endpoint": "http://a"}, "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"),
        # The base path is kept; the original loses it (B-34).
        ({"endpoint": "http://a/x/v1/"}, "POST /x/v1/chat/completions HTTP/1.1\r\nhost: a\r\n"),
        (
            {"endpoint": "http://a/v1/chat/completions"},
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n",
        ),
    ],
)
async def test_openai(endpoint: Json, line: str) -> None:
    head = await head_of({"type": "openai", "accessToken": "k", **endpoint})

    assert head == f"{line}authorization: Bearer k\r\n"
    assert "authorization" not in await head_of({"type": "openai", **endpoint})


@pytest.mark.parametrize(
    ("endpoint", "path", "host"),
    [
        ({}, "/inference/v1", "api.fireworks.ai"),
        (
            {"endpoint": "https://api.fireworks.ai/inference/v1/completions"},
            "/inference/v1",
            "api.fireworks.ai",
        ),
        ({"endpoint": "https://f.example.com"}, "/inference/v1", "f.example.com"),
    ],
)
async def test_fireworks(endpoint: Json, path: str, host: str) -> None:
    settings = {"type": "fireworks", "accessToken": "k", **endpoint}

    for client, route in ((OPENAI_CHAT, "chat/completions"), (OPENAI_COMPLETIONS, "completions")):
        head = await head_of(settings, client)
        assert head == (
            f"POST {path}/{route} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer k\r\n"
        )


AZURE = {"type": "azureOpenAI", "accessToken": "k", "endpoint": "https://x.openai.azure.com"}


async def test_azure_has_a_path_for_each_deployment_and_a_header_of_its_own() -> None:
    head = await head_of(AZURE, modelName="my dep/1")

    assert head == (
        "POST /openai/deployments/my%20dep%2F1/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n"
        "host: x.openai.azure.com\r\napi-key: k\r\n"
    )


@pytest.mark.parametrize(
    ("deprecated", "route"), [(True, "completions"), (False, "chat/completions")]
)
async def test_azure_completions(deprecated: bool, route: str) -> None:
    settings = {
        **AZURE,
        "useDeprecatedCompletionsAPI": deprecated,
        "apiVersion": "2025-01-01-preview",
    }

    head = await head_of(settings, OPENAI_COMPLETIONS)

    path = f"/openai/deployments/m/{route}?api-version=2025-01-01-preview"
    assert head.startswith(f"POST {path} HTTP/1.1\r\n")


async def test_azure_embeds_on_a_path_of_the_deployment() -> None:
    head = await head_of(AZURE, EMBEDDINGS)

    path = "/openai/deployments/m/embeddings?api-version=2024-10-21"
    assert head.startswith(f"POST {path} HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("model", "limit"),
    [
        ({}, "max_tokens"),
        ({"modelName": "o3-mini"}, "max_tokens"),  # a deployment's name says nothing
        ({"displayName": "gpt-5"}, "max_completion_tokens"),
        ({"displayName": "o3-mini"}, "max_completion_tokens"),
        ({"displayName": "o3x"}, "max_tokens"),
        ({"reasoningEffort": "low"}, "max_completion_tokens"),
        ({"capabilities": ["chat", "reasoning"]}, "max_completion_tokens"),
    ],
)
def test_azure_is_told_the_limit_by_the_name_that_the_model_knows(model: Json, limit: str) -> None:
    found = model_of(AZURE, **model)
    request = ChatRequest("m", (), sampling=Sampling(max_tokens=7))

    body = route_of(found, OPENAI_CHAT).dialect.encode_request(request, "m")

    assert msgspec.json.decode(body) == {"model": "m", "messages": [], limit: 7}


@pytest.mark.parametrize(
    ("settings", "client", "path"),
    [
        ({"type": "openai"}, EMBEDDINGS, "/v1/embeddings"),
        ({"type": "fireworks"}, EMBEDDINGS, "/inference/v1/embeddings"),
        ({"type": "fireworks"}, RERANK, "/inference/v1/rerank"),
        (hosted(), EMBEDDINGS, "/v1/embeddings"),
        (hosted(), RERANK, "/v1/rerank"),
        (hosted(), TOKENIZE, "/tokenize"),
        (hosted(), DETOKENIZE, "/detokenize"),
        (hosted(url="http://a:8000/base/v1"), TOKENIZE, "/base/tokenize"),
        (hosted("huggingface-tgi"), TOKENIZE, "/tokenize"),
        ({**hosted("huggingface-tgi"), "dialect": "tgi"}, TOKENIZE, "/tokenize"),
    ],
)
async def test_work_that_is_passed_through_has_its_own_path(
    settings: Json, client: Passthrough, path: str
) -> None:
    assert (await head_of(settings, client)).startswith(f"POST {path} HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("settings", "client"),
    [
        ({"type": "openai"}, RERANK),
        ({"type": "openai"}, TOKENIZE),
        (AZURE, RERANK),
        (hosted("huggingface-tgi"), EMBEDDINGS),
        (hosted("huggingface-tgi"), DETOKENIZE),
    ],
)
def test_work_that_a_service_does_not_do_has_no_path(settings: Json, client: Passthrough) -> None:
    assert model_of(settings).provider.route_for(client) is None


def test_what_is_called_is_all_that_can_be_called() -> None:
    provider = model_of(hosted()).provider

    paths = ["/chat/completions", "/completions", "/detokenize", "/embeddings", "/rerank"]
    assert set(paths) | {"/tokenize"} <= set(provider.paths)
    assert any(head.startswith(b"POST /tokenize ") for head in provider.heads)
    assert any(head.startswith(b"POST /v1/embeddings ") for head in provider.heads)


def test_fireworks_is_not_told_what_it_does_not_know() -> None:
    dialect = route_of(model_of({"type": "fireworks"}), OPENAI_CHAT).dialect

    assert {"seed", "thinking"}.isdisjoint(dialect.spoken)
    assert dialect.name == OPENAI_CHAT.name  # still exact


def test_azure_names_the_configured_user_where_the_request_names_none() -> None:
    model = model_of({**AZURE, "user": "steve holt"})
    dialect = route_of(model, OPENAI_CHAT).dialect

    silent: Json = {}
    named = {"user": msgspec.Raw(b'"me"')}
    dialect.amend(silent)
    dialect.amend(named)

    assert silent == {"user": msgspec.Raw(b'"steve holt"')}
    assert named == {"user": msgspec.Raw(b'"me"')}


def test_azure_names_nobody_where_nobody_is_configured() -> None:
    members: Json = {}

    route_of(model_of(AZURE), OPENAI_CHAT).dialect.amend(members)

    assert members == {}


def test_azure_without_a_key_is_told() -> None:
    text = "with neither accessToken nor entraIdentity no key is sent"

    assert warnings_of({**AZURE, "accessToken": ""}) == [("", text)]
    assert warnings_of(AZURE) == []


async def test_azure_takes_a_token_of_entras_as_a_bearer() -> None:
    head = await head_of({**AZURE, "accessToken": "eyJhbGciOi.x.y"})

    assert "\r\nauthorization: Bearer eyJhbGciOi.x.y\r\n" in head
    assert "api-key" not in head


def test_azure_with_an_identity_needs_no_key() -> None:
    identity = {"entraIdentity": {"tenantId": "t", "clientId": "c"}}

    assert warnings_of({**AZURE, "accessToken": "", **identity}) == []
    assert warnings_of({**AZURE, **identity}) == [
        (".entraIdentity", "not used, since there is an accessToken")
    ]
    bad = {"entraIdentity": {"authority": "login"}}
    assert problems_of({**AZURE, "accessToken": "", **bad}) == [
        (".entraIdentity.authority", "the URL must begin with http://, https:// or unix:")
    ]


def test_azure_without_an_endpoint() -> None:
    assert problems_of({"type": "azureOpenAI"}) == [
        ("", '"endpoint" is missing: the URL of the Azure resource')
    ]


def test_azure_with_a_version_that_is_none() -> None:
    assert problems_of({**AZURE, "apiVersion": "a b"}) == [
        (".apiVersion", "expected a string matching regex '^[0-9A-Za-z.-]+$'")
    ]


GATEWAY: Json = {"type": "sourcegraph", "accessToken": "k"}


@pytest.mark.parametrize(
    ("dialect", "path"),
    [
        ("anthropic", "anthropic-messages"),
        ("openai", "openai"),
        ("fireworks", "fireworks"),
        ("google", "google"),
    ],
)
@pytest.mark.parametrize(
    ("client", "feature"),
    [(OPENAI_CHAT, "chat_completions"), (OPENAI_COMPLETIONS, "code_completions")],
)
async def test_the_gateway_is_called_where_its_upstreams_are_and_told_what_for(
    dialect: str, path: str, client: ClientDialect, feature: str
) -> None:
    settings = {**GATEWAY, "dialect": dialect}

    assert await head_of(settings, client) == (
        f"POST /v1/completions/{path} HTTP/1.1\r\nhost: cody-gateway.sourcegraph.com\r\n"
        f"authorization: Bearer k\r\nx-sourcegraph-feature: {feature}\r\n"
    )
    assert await head_of(settings, client) == await head_of(settings, client, stream=True)
    assert warnings_of(settings) == []


def test_the_gateways_dialect_is_that_of_the_providers_id() -> None:
    config = ProviderConfig("mistral", "", "sourcegraph", msgspec.Raw(b"{}"), ())
    kind = PROVIDERS["sourcegraph"]
    provider = kind.build(config, kind.settings())

    assert "/v1/completions/fireworks" in provider.paths


def test_a_gateway_of_which_nothing_says_whose_models_it_has_loads_with_a_warning() -> None:
    assert model_of(GATEWAY).provider.route_for(OPENAI_CHAT) is None
    assert warnings_of(GATEWAY) == [
        (
            "",
            'its models cannot be called: give it a "dialect", or one of these ids: '
            '"anthropic", "openai", "fireworks", "google", "mistral"',
        )
    ]


def test_the_gateway_finds_gemini_s_model_and_stream_in_the_body() -> None:
    route = route_of(model_of({**GATEWAY, "dialect": "google"}), OPENAI_CHAT)
    request = ChatRequest("m", (Message("user", (TextPart("hi"),)),), stream=True)

    body = msgspec.json.decode(route.dialect.encode_request(request, "gemini-3"))

    assert (body["model"], body["stream"]) == ("gemini-3", True)
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]


@pytest.mark.parametrize("kind", ["openai", "fireworks", "anthropic", "google", "sourcegraph"])
def test_a_service_with_a_bad_address_and_a_bad_key(kind: str) -> None:
    problems = problems_of({"type": kind, "endpoint": "x", "accessToken": "é"})

    assert problems == [
        (".endpoint", "the URL must begin with http://, https:// or unix:"),
        (".accessToken", "the token cannot stand in a header"),
    ]


def test_google_credentials_exclude_each_other() -> None:
    both = {"credentialsFile": "/x", "credentialsJSON": "eA=="}

    assert problems_of({"type": "google", "googleWorkloadIdentityConfig": both}) == [
        (
            ".googleWorkloadIdentityConfig",
            '"credentialsFile" and "credentialsJSON" exclude each other',
        )
    ]
