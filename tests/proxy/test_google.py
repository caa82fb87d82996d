"""The provider for Google: its settings, its paths, whose tokens it sends and for how long."""

from __future__ import annotations

import asyncio
import base64
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from parsers.dialects.anthropic import ANTHROPIC, ANTHROPIC_TOKEN_COUNT
from parsers.dialects.base import ClientDialect, Members
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import FaultKind
from proxy.commands.changes import changes
from proxy.config.problems import ConfigError
from proxy.config.schema import Secret
from proxy.endpoints import LiveState
from proxy.errors import RequestFailed
from proxy.providers.access_tokens import NoToken, Token, Tokens
from proxy.providers.base import Route, UpstreamCall
from proxy.providers.google_identity import Fetcher, Identity, json_of
from proxy.registry import Model, Registry, build

Json = dict[str, Any]  # Any: JSON of any shape

PUBLIC = "generativelanguage.googleapis.com"
VERTEX = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4"
ACCOUNT = '{"type":"service_account","client_email":"a@b","private_key":"hunter2"}'
IN_BASE64 = base64.b64encode(ACCOUNT.encode()).decode()


def registry_of(
    settings: Mapping[str, object], live: LiveState | None = None, **model: Any
) -> Registry:
    block = {
        "providerOverrides": [{"id": "p", "serverSideConfig": {"type": "google", **settings}}],
        "modelOverrides": [
            {
                "modelRef": "p::v1::m",
                "capabilities": ["chat", "autocomplete"],
                "category": "balanced",
                **model,
            }
        ],
    }
    body = msgspec.json.encode({"modelConfiguration": block})
    return build(body, 1, LiveState() if live is None else live)


def model_of(settings: Mapping[str, object], **model: Any) -> Model:
    return registry_of(settings, **model).models["p::v1::m"]


def route_of(model: Model, client: ClientDialect = OPENAI_CHAT) -> Route:
    route = model.provider.route_for(client)
    assert route is not None
    return route


async def head_of(model: Model, *, stream: bool = False) -> list[str]:
    (endpoint,) = model.provider.endpoints
    call = UpstreamCall(route_of(model), b"{}", stream, "id-1")
    request = await model.provider.prepare(call, endpoint)
    assert request.head.endswith(b"\r\n\r\n")
    return request.head.decode().split("\r\n")[:-2]


def findings_of(settings: Mapping[str, object]) -> list[tuple[str, str]]:
    try:
        found = registry_of(settings).config.warnings
    except ConfigError as error:
        found = error.problems
    return [(each.path.partition("serverSideConfig")[2], each.message) for each in found]


# Settings

LIBRARY = "access tokens need a library: pip install 'penstock[google]'"


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"accessToken": "AIzaSyX"}, []),
        ({"accessToken": IN_BASE64, "endpoint": VERTEX}, []),
        ({"endpoint": VERTEX}, []),
        (
            {"googleWorkloadIdentityConfig": {"credentialsFile": "/none"}},
            [(".googleWorkloadIdentityConfig", "the credentials cannot be read")],
        ),
        (
            {"accessToken": '{"type":"impersonated_service_account"}'},
            [
                (
                    ".accessToken",
                    "of these credentials only GOOGLE_APPLICATION_CREDENTIALS can make use",
                )
            ],
        ),
        ({"googleWorkloadIdentityConfig": {}}, []),
        ({}, [("", "without an accessToken no key is sent")]),
        ({"accessToken": "é"}, [(".accessToken", "the token cannot stand in a header")]),
        (
            {"googleWorkloadIdentityConfig": {"credentialsJSON": "no"}, "endpoint": VERTEX},
            [
                (
                    ".googleWorkloadIdentityConfig",
                    "neither the JSON of credentials nor its base64",
                )
            ],
        ),
        (
            {"accessToken": "k", "googleWorkloadIdentityConfig": {"credentialsFile": "/x"}},
            [(".googleWorkloadIdentityConfig", "not used, since there is an accessToken")],
        ),
    ],
)
def test_what_is_wrong_with_settings_is_told(
    settings: dict[str, object], found: list[tuple[str, str]]
) -> None:
    assert findings_of(settings) == found


@pytest.mark.parametrize(
    ("settings", "place"),
    [
        ({"accessToken": IN_BASE64}, ".accessToken"),
        ({"endpoint": VERTEX}, ""),
        (
            {"googleWorkloadIdentityConfig": {"credentialsJSON": IN_BASE64}},
            ".googleWorkloadIdentityConfig",
        ),
    ],
)
@pytest.mark.parametrize("missing", ["google.auth", "requests"])
def test_tokens_without_their_library_are_refused_with_its_name(
    settings: dict[str, object], place: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    assert findings_of(settings) == [(place, LIBRARY)]


def test_a_key_needs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)

    assert findings_of({"accessToken": "AIzaSyX"}) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ACCOUNT, ACCOUNT),
        (IN_BASE64, ACCOUNT),
        ("AIzaSyX", None),
        ("e30=", None),  # {}
        ("{", None),
        ("", None),
        ("bnVsbA==", None),  # null
    ],
)
def test_credentials_are_told_from_keys(text: str, found: str | None) -> None:
    assert json_of(text) == found


# Paths

KEY = {"accessToken": "AIzaSyEXAMPLE"}


@pytest.mark.parametrize(
    ("endpoint", "host", "path"),
    [
        ("", PUBLIC, "/v1beta/models/m"),
        (f"https://{PUBLIC}", PUBLIC, "/v1beta/models/m"),
        (f"https://{PUBLIC}/v1beta/models", PUBLIC, "/v1beta/models/m"),
        (f"https://{PUBLIC}/v1/", PUBLIC, "/v1/models/m"),
        ("http://gateway:8080/gemini", "gateway:8080", "/gemini/m"),
        (
            VERTEX,
            "europe-west4-aiplatform.googleapis.com",
            "/v1/projects/p/locations/europe-west4/publishers/google/models/m",
        ),
        (
            f"{VERTEX}/publishers/google",
            "europe-west4-aiplatform.googleapis.com",
            "/v1/projects/p/locations/europe-west4/publishers/google/models/m",
        ),
    ],
)
async def test_gemini_is_called_on_the_path_of_its_model(
    endpoint: str, host: str, path: str
) -> None:
    model = model_of({**KEY, "endpoint": endpoint})

    whole, streamed = await head_of(model), await head_of(model, stream=True)

    assert whole[0] == f"POST {path}:generateContent HTTP/1.1"
    assert streamed[0] == f"POST {path}:streamGenerateContent?alt=sse HTTP/1.1"
    assert {f"host: {host}", "x-goog-api-key: AIzaSyEXAMPLE"} <= set(whole)
    assert not [line for line in whole if line.startswith("authorization")]


async def test_a_query_of_the_address_is_kept() -> None:
    model = model_of({"endpoint": "https://gateway/v1beta?team=a"})

    assert (await head_of(model))[0] == "POST /v1beta/models/m:generateContent?team=a HTTP/1.1"
    streamed = await head_of(model, stream=True)
    assert streamed[0].startswith("POST /v1beta/models/m:streamGenerateContent?alt=sse&team=a ")


@pytest.mark.parametrize(
    ("endpoint", "name", "is_claude"),
    [
        (VERTEX, "claude-sonnet-4-5@20250929", True),
        (VERTEX, "gemini-3-pro-preview", False),
        (f"{VERTEX}/publishers/anthropic/models", "m", True),
        (f"{VERTEX}/publishers/google/models", "claude", False),
        ("", "claude", False),
    ],
)
def test_the_address_or_the_name_says_whose_model_it_is(
    endpoint: str, name: str, is_claude: bool
) -> None:
    model = model_of({**KEY, "endpoint": endpoint}, modelName=name)

    route = route_of(model)

    if is_claude:
        assert route.dialect.name == "anthropic-messages"
        assert route.path == route.stream_path.replace("streamRawPredict", "rawPredict")
        assert route.path.endswith(f"/{name}:rawPredict")
        assert route.needs_limit
    else:
        assert route.dialect.name == "gemini"
    assert route_of(model, OPENAI_COMPLETIONS).path == route.path


def test_claude_is_sent_a_version_and_no_model() -> None:
    model = model_of({**KEY, "endpoint": VERTEX}, modelName="claude-x")
    members: Members = {"model": msgspec.Raw(b'"m"'), "stream": msgspec.Raw(b"true")}

    route_of(model, ANTHROPIC).dialect.amend(members)

    assert msgspec.json.encode(members) == (
        b'{"stream":true,"anthropic_version":"vertex-2023-10-16"}'
    )


def test_claudes_tokens_are_counted_on_a_path_of_their_own() -> None:
    model = model_of({**KEY, "endpoint": VERTEX}, modelName="claude-x")
    route = route_of(model, ANTHROPIC_TOKEN_COUNT)
    members: Members = {"model": msgspec.Raw(b'"m"')}

    route.dialect.amend(members)

    assert route.path == "/publishers/anthropic/models/count-tokens:rawPredict"
    assert members["model"] == msgspec.Raw(b'"m"')


def test_googles_own_way_to_name_a_model_is_understood() -> None:
    model = model_of(KEY, modelName="models/gemini-3-pro-preview")

    assert route_of(model).path == "/gemini-3-pro-preview:generateContent"


def test_a_secret_name_is_shown_nowhere() -> None:
    server = {"type": "openaicompatible", "apiModel": "tuned/hunter2"}
    model = model_of(KEY, serverSideConfig=server)

    assert set(model.provider.paths) == {
        "/***:generateContent",
        "/***:streamGenerateContent?alt=sse",
    }
    hidden = model.provider.secrets_for(model.provider.endpoints[0])
    assert {"tuned%2Fhunter2", "AIzaSyEXAMPLE"} <= set(hidden)


def test_another_identity_is_another_way_to_call(tmp_path: Path) -> None:
    def differ(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
        found = changes(registry_of(one), registry_of(other))
        assert "hunter" not in repr(found)
        return bool(found)

    file = tmp_path / "account.json"
    file.write_text(ACCOUNT)
    another = base64.b64encode(ACCOUNT.replace("hunter2", "hunter3").encode()).decode()
    given: Json = {"accessToken": IN_BASE64, "endpoint": VERTEX}
    stored: Json = {
        "googleWorkloadIdentityConfig": {"credentialsFile": str(file)},
        "endpoint": VERTEX,
    }

    assert not differ(given, given)
    assert differ(given, {**given, "accessToken": another})
    assert differ(given, stored)
    before = registry_of(stored)
    file.write_text(ACCOUNT.replace("hunter2", "hunter3"))
    assert changes(before, registry_of(stored))


# Tokens


class Google:
    """Gives out tokens when told to; each call of it is in a thread."""

    def __init__(self) -> None:
        self.asked = 0
        self.seconds = 3600.0
        self.error: Exception | None = None
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self) -> Token:
        self.asked += 1
        name = f"token-{self.asked}"
        assert self.may_answer.wait(10)
        if self.error is not None:
            raise self.error
        line = f"authorization: Bearer {name}\r\n".encode()
        return Token(Secret(name), line, self.seconds)


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does."""
    while not condition():  # noqa: ASYNC110 - the thread has no event for it
        await asyncio.sleep(0.001)


@pytest.fixture
def google() -> Google:
    return Google()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def tokens(google: Google, time: Time) -> Tokens:
    return Tokens(google, "google", clock=time)


async def value_of(tokens: Tokens) -> str:
    return (await tokens.token()).value.reveal()


async def test_many_that_come_at_once_share_one_token(google: Google, tokens: Tokens) -> None:
    found = await asyncio.gather(*(value_of(tokens) for _ in range(20)))

    assert set(found) == {"token-1"}
    assert google.asked == 1


async def test_a_token_serves_until_googles_margin(
    google: Google, tokens: Tokens, time: Time
) -> None:
    await value_of(tokens)
    time.now += 3600 - 226

    assert await value_of(tokens) == "token-1"
    assert google.asked == 1


async def test_within_the_margin_the_old_one_serves_while_a_new_one_is_fetched(
    google: Google, tokens: Tokens, time: Time
) -> None:
    await value_of(tokens)
    google.may_answer.clear()
    time.now += 3600 - 200

    assert [await value_of(tokens) for _ in range(3)] == ["token-1"] * 3
    await until(lambda: google.asked == 2)
    google.may_answer.set()
    await until(lambda: len(tokens.secrets) == 2)
    assert await value_of(tokens) == "token-2"
    assert tokens.secrets == ("token-2", "token-1")


async def test_a_token_about_to_expire_is_waited_for(
    google: Google, tokens: Tokens, time: Time
) -> None:
    await value_of(tokens)
    time.now += 3600 - 9

    assert await value_of(tokens) == "token-2"


async def test_a_failed_renewal_is_tried_again_and_the_old_token_serves(
    google: Google, tokens: Tokens, time: Time
) -> None:
    await value_of(tokens)
    google.error = NoToken(FaultKind.UNREACHABLE)
    time.now += 3600 - 200

    assert await value_of(tokens) == "token-1"
    await until(lambda: google.asked == 2)
    google.error = None
    time.now += 3
    await until_new(tokens)


async def until_new(tokens: Tokens) -> None:
    while await value_of(tokens) == "token-1":  # noqa: ASYNC110 - as in `until`
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (NoToken(), FaultKind.UNAUTHENTICATED, "google gives penstock no access token"),
        (
            NoToken(FaultKind.UNREACHABLE),
            FaultKind.UNREACHABLE,
            "google's token server cannot be reached",
        ),
    ],
)
async def test_a_refusal_is_told_to_all_and_stands_for_a_while(
    error: NoToken, kind: FaultKind, message: str, google: Google, tokens: Tokens, time: Time
) -> None:
    google.error = error

    async def refused() -> None:
        with pytest.raises(RequestFailed) as failed:
            await tokens.token()
        fault = failed.value.fault
        assert (fault.kind, fault.origin, fault.message) == (kind, "upstream", message)

    await asyncio.gather(*(refused() for _ in range(5)))
    await refused()
    assert google.asked == 1
    time.now += 3
    google.error = None
    assert await value_of(tokens) == "token-2"


async def test_who_goes_away_spoils_nothing_for_the_others(google: Google, tokens: Tokens) -> None:
    google.may_answer.clear()
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(value_of(tokens))
        staying = group.create_task(value_of(tokens))
        await until(lambda: google.asked == 1)
        leaving.cancel()
        await asyncio.sleep(0)
        google.may_answer.set()

    assert staying.result() == "token-1"
    assert leaving.cancelled()


async def test_nobody_waits_for_ever(google: Google) -> None:
    tokens = Tokens(google, "google", patience_seconds=0.01)
    google.may_answer.clear()

    with pytest.raises(RequestFailed) as failed:
        await tokens.token()
    google.may_answer.set()

    assert failed.value.fault.kind is FaultKind.TIMEOUT
    assert await value_of(tokens) == "token-1"


async def test_a_token_of_short_life_is_renewed_halfway(
    google: Google, tokens: Tokens, time: Time
) -> None:
    google.seconds = 100.0
    await value_of(tokens)
    time.now += 49
    await value_of(tokens)
    assert google.asked == 1

    time.now += 2
    assert await value_of(tokens) == "token-1"
    await until_new(tokens)


# What Google's library is asked, without a server


@pytest.mark.parametrize(
    "identity",
    [
        Identity(json=Secret(ACCOUNT)),  # its key is none
        Identity(json=Secret('{"type":"never heard of"}')),
        Identity(json=Secret("7")),
        Identity(json=Secret('{"type":"external_account"}')),
        Identity(json=Secret('{"type":"authorized_user"}')),
        Identity(file="/there/is/no/such/file"),
    ],
)
def test_credentials_that_are_none_give_no_token(identity: Identity) -> None:
    with pytest.raises(NoToken, match="unauthenticated"):
        Fetcher(identity)()


def test_generations_share_the_tokens_of_an_identity() -> None:
    def made() -> Tokens:
        pytest.fail("there are tokens already")

    live, settings = LiveState(), {"accessToken": IN_BASE64, "endpoint": VERTEX}
    first = registry_of(settings, live)
    shared = live.shared(Identity(json=Secret(ACCOUNT)).key, made)

    second = registry_of(settings, live, displayName="Another")
    del first

    assert live.shared(Identity(json=Secret(ACCOUNT)).key, made) is shared
    assert second.models
