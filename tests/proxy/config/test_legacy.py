"""The older block against the published conversions, without the original's defects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from parsers.chat import Operation
from parsers.jsonc import Positions
from proxy.config.decoder import decode_strict
from proxy.config.legacy import convert
from proxy.config.legacy_defaults import LEGACY_PROVIDERS, Unavailable
from proxy.config.legacy_limits import max_input_tokens
from proxy.config.load import Config, converted, load
from proxy.config.problems import ConfigError, Problem, Problems, Source
from proxy.config.schema import Completions, DailyLimits, ModelConfiguration, Secret
from proxy.config.secrets import read_secret
from tests.proxy.config.everything import full

Json = dict[str, Any]  # Any: checked by use

_FILE = Path(__file__).parents[2] / "fixtures" / "vectors" / "legacy_completions.json"
VECTORS: list[Json] = msgspec.json.decode(_FILE.read_bytes())["vectors"]

FROM_LICENCE = "<derived from licenseKey>"
DEFAULTS = {
    "capabilities": ["autocomplete", "chat"],
    "category": "balanced",
    "status": "stable",
    "tier": "enterprise",
}


def block_of(vector: Json) -> Completions:
    """The block of a vector. penstock has no licence: its token must be written down."""
    members = dict(vector["siteConfig"].get("completions", {}))
    if members.get("provider", "sourcegraph") == "sourcegraph" and vector["expected"]:
        members.setdefault("accessToken", FROM_LICENCE)
    problems = Problems(Source(Positions("{}"), read_secret))
    block = decode_strict(members, Completions, ("completions",), problems)
    problems.raise_any()
    assert block is not None
    return block


def written(block: ModelConfiguration) -> Json:
    """The block as JSON, secrets in the plain."""
    encoded = msgspec.json.encode(block, enc_hook=Secret.reveal)
    decoded: Json = msgspec.json.decode(encoded)
    return decoded


def in_our_words(expected: Json) -> Json:
    """An expected block as a file would say it."""
    return {
        "providerOverrides": [
            {
                "id": provider["id"],
                "serverSideConfig": _settings(provider["serverSideConfig"]),
                "defaultModelConfig": DEFAULTS,
            }
            for provider in expected["providerOverrides"]
        ],
        "modelOverrides": [
            {
                **model,
                **({"serverSideConfig": _arn(model)} if "serverSideConfig" in model else {}),
            }
            for model in expected["modelOverrides"]
        ],
        "defaultModels": expected["defaultModels"],
    }


def _settings(internal: Json) -> Json:
    ((kind, members),) = internal.items()
    given = {key: value for key, value in members.items() if value not in ("", False)}
    service = given.pop("serviceName", None)
    names = {"awsBedrock": "awsBedrock", "azureOpenAi": "azureOpenAI"}
    return {"type": service or names.get(kind, "sourcegraph"), **given}


def _arn(model: Json) -> Json:
    ((kind, members),) = model["serverSideConfig"].items()
    return {"type": kind, **members}


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_block_means_what_is_published(vector: Json) -> None:
    expected = vector.get("expectedBetter", vector["expected"])
    block = block_of(vector)

    if expected is None:
        with pytest.raises(Unavailable):
            convert(block)
        return

    assert written(convert(block).block) == in_our_words(expected)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_a_block_is_not_changed_by_its_conversion(vector: Json) -> None:
    block = block_of(vector)
    before = msgspec.json.encode(block)

    if vector["expected"] is not None:
        assert convert(block) == convert(block)

    assert msgspec.json.encode(block) == before


def loaded(**completions: object) -> Config:
    return load(msgspec.json.encode({"completions": completions}))


def problems_of(**completions: object) -> list[Problem]:
    with pytest.raises(ConfigError) as error:
        loaded(**completions)
    return list(error.value.problems)


def test_a_block_serves() -> None:
    config = loaded(provider="openai", accessToken="k", smartContextWindow="disabled")

    assert [provider.kind for provider in config.providers] == ["openai"]
    assert str(config.defaults.chat) == "openai::unknown::gpt-4"
    assert str(config.names.refs["gpt-4"]) == "openai::unknown::gpt-4"
    assert str(config.names.refs["openai/gpt-4"]) == "openai::unknown::gpt-4"
    assert config.is_legacy
    assert not config.smart_context_window
    assert config.warnings == ()


def test_null_is_as_good_as_nothing() -> None:
    keys = [field.encode_name for field in msgspec.structs.fields(Completions)]
    silent = dict.fromkeys(keys, None)

    config = loaded(**{**silent, "provider": "openai", "accessToken": "k"})

    assert config.site == loaded(provider="openai", accessToken="k").site


def test_an_empty_block_means_the_vendors_gateway_and_needs_its_key() -> None:
    (problem,) = problems_of()

    text = 'no models: provider "sourcegraph" needs "accessToken"'
    assert (problem.path, problem.message) == ("completions", text)


@pytest.mark.parametrize("token", ["", None])
def test_an_empty_token_is_none(token: str | None) -> None:
    (problem,) = problems_of(provider="anthropic", accessToken=token)

    assert problem.message == 'no models: provider "anthropic" needs "accessToken"'


def test_what_a_provider_needs_is_told_at_once() -> None:
    (problem,) = problems_of(provider="azure-openai")

    text = 'provider "azure-openai" needs "endpoint" and "chatModel" and "completionModel"'
    assert problem.message == f"no models: {text}"


def test_a_provider_that_no_release_knew() -> None:
    (problem,) = problems_of(provider="acmeco", endpoint="https://x", chatModel="a")

    known = ", ".join(f'"{name}"' for name in LEGACY_PROVIDERS)
    assert problem.path == "completions.provider"
    assert problem.message == f'unknown provider "acmeco"; known: {known}'


def test_an_arn_alone_is_refused_with_the_right_form() -> None:
    arn = "arn:aws:bedrock:us-west-2:1:provisioned-model/x"

    (problem,) = problems_of(provider="aws-bedrock", endpoint="us-west-2", completionModel=arn)

    text = 'an ARN alone does not say which model it is: write "<model id>/<ARN>"'
    assert (problem.path, problem.message) == ("completions.completionModel", text)


def test_problems_of_what_was_made_of_a_block_are_told_where_it_stands() -> None:
    data = b"""{"completions": {
      "provider": "azure-openai", "endpoint": "https://x", "accessToken": "k",
      "chatModel": "%s",
      "completionModel": "b"
    }}""" % (b"x" * 129)

    with pytest.raises(ConfigError) as error:
        load(data)

    refused = {(problem.path, problem.line, problem.column) for problem in error.value.problems}
    assert refused == {("completions.chatModel", 3, 20)}


def test_a_token_that_is_not_there_is_told_where_it_stands() -> None:
    data = b'{"completions": {"provider": "openai",\n "accessToken": {"env": "NO_SUCH"}}}'

    (provider,) = load(data).providers  # its settings are decoded later

    assert provider.settings == msgspec.Raw(
        b'{"accessToken":{"env":"NO_SUCH"},"endpoint":"https://api.openai.com"}'
    )
    problems = load(data).problems()
    problems.add((*provider.path, "accessToken"), "x")
    assert [str(each) for each in found(problems)] == [
        "line 2, column 17: completions.accessToken: x"
    ]


def found(problems: Problems) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as error:
        problems.raise_any()
    return error.value.problems


AZURE = {
    "provider": "azure-openai",
    "accessToken": "k",
    "endpoint": "https://x.openai.azure.com",
    "chatModel": "chat",
    "completionModel": "code",
}
OLDER_ROUTE = "azureUseDeprecatedCompletionsAPIForOldModels"


def test_azures_older_route_is_for_those_who_ask_and_the_others_are_told() -> None:
    config = loaded(**AZURE)

    assert b"useDeprecatedCompletionsAPI" not in bytes(config.providers[0].settings)
    (warning,) = config.warnings
    assert warning.path == f"completions.{OLDER_ROUTE}"
    assert warning.message == (
        "not given, so completions go to Azure's chat route; Sourcegraph 5.6 and later take the"
        " older one: say true for that, or false"
    )


@pytest.mark.parametrize("older", [True, False])
def test_azures_route_is_as_written(older: bool) -> None:
    config = loaded(**AZURE, **{OLDER_ROUTE: older})

    assert (b'"useDeprecatedCompletionsAPI":true' in bytes(config.providers[0].settings)) is older
    assert config.warnings == ()


EVERY_KEY = {**full(Completions), "provider": "anthropic", "enabled": False}


@pytest.mark.parametrize("key", EVERY_KEY)
def test_every_key_means_something(key: str) -> None:
    azure = {**AZURE, OLDER_ROUTE: False}
    base = azure if "azure" in key or key == "user" else {"provider": "openai", "accessToken": "k"}

    try:
        changed = meaning(loaded(**{**base, key: EVERY_KEY[key]}))
    except ConfigError:
        changed = None

    assert changed != meaning(loaded(**base))
    assert (changed is None) == (key == "enabled")


def meaning(config: Config) -> tuple[object, ...]:
    switches = (config.smart_context_window, config.disables_client_config)
    return (config.site, config.defaults, config.daily, switches)


def test_limits_that_nobody_enforces_are_told() -> None:
    config = loaded(provider="openai", accessToken="k", perProUserChatDailyInteractionLimit=5)

    (warning,) = config.warnings
    assert warning.path == "completions.perProUserChatDailyInteractionLimit"
    assert warning.message == "ignored: not supported by this version"


@pytest.mark.parametrize("newer", [True, False])
def test_the_newer_word_for_being_enabled_counts(newer: bool) -> None:
    block = {"provider": "openai", "accessToken": "k", "enabled": not newer}

    config = load(msgspec.json.encode({"completions": block, "cody.enabled": newer}))

    assert config.models
    assert config.serves_cody is newer


def test_daily_limits_are_those_of_the_penstock_block() -> None:
    config = loaded(
        provider="openai",
        accessToken="k",
        perUserDailyLimit=5,
        perUserCodeCompletionsDailyLimit=6,
    )

    assert config.warnings == ()
    assert config.site.penstock.daily_limits == DailyLimits(chat_requests=5, code_requests=6)
    assert config.daily.limit("anybody", Operation.CHAT) == 5
    assert config.daily.limit("anybody", Operation.COMPLETION) == 6


def test_three_models_that_differ_have_three_references() -> None:
    config = loaded(
        provider="openai",
        accessToken="k",
        **dict.fromkeys(("chatModel", "completionModel", "fastChatModel"), "m"),
        chatModelMaxTokens=1,
        completionModelMaxTokens=2,
        fastChatModelMaxTokens=3,
    )

    assert [(str(model.ref), model.limits.max_input_tokens) for model in config.models] == [
        ("openai::unknown::m", 3),
        ("openai::unknown::m_chat", 1),
        ("openai::unknown::m_completion", 2),
    ]
    assert str(config.defaults.chat) == "openai::unknown::m_chat"
    assert str(config.defaults.code_completion) == "openai::unknown::m_completion"
    assert str(config.defaults.fast_chat) == "openai::unknown::m"


def test_models_with_two_arns_are_two_models() -> None:
    config = loaded(
        provider="aws-bedrock",
        endpoint="us-west-2",
        chatModel="anthropic.claude-v2/arn:aws:A",
        completionModel="anthropic.claude-v2/arn:aws:B",
        fastChatModel="anthropic.claude-v2/arn:aws:B",
    )

    assert [(model.ref.model, model.upstream_name) for model in config.models] == [
        ("anthropic.claude-v2", "arn:aws:B"),
        ("anthropic.claude-v2_chat", "arn:aws:A"),
    ]


def test_an_alias_is_for_azure_alone() -> None:
    config = loaded(provider="openai", accessToken="k", chatModel="a", azureChatModel="b")

    assert str(config.defaults.chat) == "openai::unknown::a"


@pytest.mark.parametrize(
    ("provider", "model", "tokens"),
    [
        ("openai", "gpt-4-32k", 32_000),
        ("openai", "gpt-4-turbo", 16_000),
        ("openai", "davinci", 4000),
        ("anthropic", "claude-instant-100k", 100_000),
        ("anthropic", "claude-2.1", 12_000),
        ("anthropic", "claude-3-5-sonnet-20240620", 12_000),
        ("anthropic", "claude-instant-1", 9000),
        ("fireworks", "accounts/fireworks/models/llama-v2-70b", 3000),
        ("fireworks", "accounts/fireworks/models/starcoder-16b", 6000),
        ("fireworks", "starcoder2-7b", 6000),
        ("fireworks", "mixtral", 4000),
        ("azure-openai", "gpt-4-32k", 7000),
        ("aws-bedrock", "anthropic.claude-v2", 12_000),
        ("aws-bedrock", "anthropic.claude-v2/arn:x", 12_000),
        ("aws-bedrock", "anthropic.claude-instant-v1", 9000),
        ("sourcegraph", "openai/gpt-4", 7000),
        ("sourcegraph", "anthropic/claude-2", 12_000),
        ("sourcegraph", "mistral/x", 9000),
        ("google", "gemini-1.5-pro", 9000),
        ("acmeco", "gpt-4", 9000),
    ],
)
def test_a_limit_that_is_not_given_goes_by_the_name(provider: str, model: str, tokens: int) -> None:
    assert max_input_tokens(provider, model) == tokens


def test_converting_reads_no_secret_and_keeps_tokens_as_written() -> None:
    data = b'{"completions": {"provider": "openai", "accessToken": {"env": "NO_SUCH"}}}'

    (provider,) = converted(data).provider_overrides

    assert provider.server_side_config is not None
    assert provider.server_side_config["accessToken"] == msgspec.Raw(b'{"env":"NO_SUCH"}')


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        (
            b'{"modelConfiguration": {}, "completions": {}}',
            "modelConfiguration",
            "it is there already, and takes the place of a completions block",
        ),
        (b"{}", "", '"modelConfiguration" is missing'),
        (b'{"completions": {"provider": "x"}}', "completions.provider", 'unknown provider "x"'),
        (b'{"completions": 5}', "completions", "expected an object, got an integer"),
    ],
)
def test_what_cannot_be_converted(data: bytes, path: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        converted(data)

    problem = error.value.problems[0]
    assert problem.path == path
    assert problem.message.startswith(message)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["id"])
def test_what_was_converted_means_the_same_as_the_block(vector: Json) -> None:
    block = block_of(vector)
    provider = vector["siteConfig"].get("completions", {}).get("provider", "")
    if vector["expected"] is None or provider not in ("", *LEGACY_PROVIDERS):
        return
    data = msgspec.json.encode({"completions": block})

    new = load(msgspec.json.encode({"modelConfiguration": written(converted(data))}))

    old = load(data)
    assert new.site == old.site
    assert (new.defaults, new.names) == (old.defaults, old.names)
