"""A file's bytes in, a configuration out, or everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from parsers.chat import Operation
from parsers.jsonc import loads
from proxy.commands.plain import plain
from proxy.config.clients import Client
from proxy.config.decoder import decode_strict
from proxy.config.document import MAX_CONFIG_BYTES
from proxy.config.load import Config, load
from proxy.config.modelconfig import ContextLimits, ProviderConfig
from proxy.config.modelref import Defaults, ModelRef
from proxy.config.problems import ConfigError, Problem, Problems
from proxy.config.schema import Block, EnvSecret, FileSecret, Limits, Listen, Secret, Timeouts
from proxy.config.secrets import MAX_SECRET_BYTES

SEED = (Path(__file__).parents[2] / "fixtures" / "vectors" / "seed_site_config.jsonc").read_bytes()

MIXTRAL = ModelRef("mistral", "v1", "mixtral-8x7b-instruct")
STARCODER = ModelRef("bigcode", "v1", "starcoder2-7b")


def seed_with(penstock: object) -> bytes:
    document = loads(SEED.decode())
    assert isinstance(document, dict)
    return msgspec.json.encode({**document, "penstock": penstock})


def problems_of(data: bytes) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as error:
        load(data)
    return error.value.problems


def penstock_problems(**penstock: object) -> list[tuple[str, str]]:
    return [
        (problem.path.removeprefix("penstock."), problem.message)
        for problem in problems_of(seed_with(penstock))
    ]


def test_the_seed_gives_what_it_promises() -> None:
    config = load(SEED)

    assert [(one.id, one.display_name, one.kind) for one in config.providers] == [
        ("mistral", "Mistral", "huggingface-tgi"),
        ("bigcode", "Bigcode", "huggingface-tgi"),
    ]
    assert [one.settings for one in config.providers] == [
        msgspec.Raw(b'{"endpoints":[{"url":"https://mistral.example.com/v1"}]}'),
        msgspec.Raw(b'{"endpoints":[{"url":"http://starcoder.example.com/v1"}]}'),
    ]
    assert [model.ref for model in config.models] == [MIXTRAL, STARCODER]
    assert [model.settings.display_name for model in config.models] == [
        "Mixtral 8x7B Instruct",
        "Starcoder2 7B",
    ]
    assert [model.upstream_name for model in config.models] == [
        "mixtral-8x7b-instruct",
        "starcoder2-7b",
    ]
    assert [model.settings.capabilities for model in config.models] == [
        ("chat", "autocomplete"),
        ("autocomplete",),
    ]
    for model in config.models:
        assert model.limits == ContextLimits(8192, 4096)
        settings = model.settings
        assert (settings.status, settings.category) == ("stable", "balanced")
        assert settings.tier == "enterprise"
    assert config.defaults == Defaults(MIXTRAL, MIXTRAL, STARCODER)
    assert config.names.refs["starcoder2-7b"] == STARCODER
    assert config.clients == ()
    assert (config.timeouts, config.limits, config.listen) == (Timeouts(), Limits(), Listen())
    assert config.warnings == ()


def test_the_penstock_block() -> None:
    config = load(
        seed_with(
            {
                "clients": [
                    {"name": "ci", "key": "k1"},
                    {"name": "ide", "key": "k2", "models": ["mistral/mixtral-8x7b-instruct"]},
                ],
                "timeouts": {"connectSeconds": 1, "idleSeconds": 0.5},
                "limits": {"maxBodyBytes": 2048},
                "listen": {"host": "0.0.0.0", "port": 0, "adminPort": 0},
            }
        )
    )

    assert config.clients == (
        Client("ci", Secret("k1")),
        Client("ide", Secret("k2"), frozenset({MIXTRAL})),
    )
    assert config.timeouts == Timeouts(connect_seconds=1, idle_seconds=0.5)
    assert config.limits == Limits(max_body_bytes=2048)
    assert config.listen == Listen(host="0.0.0.0", port=0, admin_port=0)


def test_daily_limits_are_the_clients_own_else_everybodys_else_the_older_ones() -> None:
    penstock = {
        "dailyLimits": {"chatRequests": 10},
        "clients": [
            {"name": "ci", "key": "k1", "dailyLimits": {"chatRequests": 0}},
            {"name": "ide", "key": "k2", "dailyLimits": {"codeRequests": 3}},
            {"name": "cody", "key": "k3"},
        ],
    }
    older = b'{"completions": {"perUserDailyLimit": 7, "perUserCodeCompletionsDailyLimit": 8},'
    daily = load(older + seed_with(penstock).strip()[1:]).daily

    assert {
        name: [daily.limit(name, each) for each in (Operation.CHAT, Operation.COMPLETION)]
        for name in ("ci", "ide", "cody", "anonymous")
    } == {"ci": [0, 8], "ide": [10, 3], "cody": [10, 8], "anonymous": [10, 8]}


@pytest.mark.parametrize("limit", [-1, 1.5, "5", True])
def test_a_daily_limit_is_a_whole_number(limit: object) -> None:
    ((place, _),) = penstock_problems(dailyLimits={"chatRequests": limit})

    assert place == "dailyLimits.chatRequests"


def test_cody_is_served_unless_the_file_says_otherwise() -> None:
    assert load(SEED).serves_cody
    assert load(b'{"cody.enabled": true,' + SEED.strip()[1:]).serves_cody
    off = load(b'{"cody.enabled": false,' + SEED.strip()[1:])
    assert not off.serves_cody
    assert off.warnings == ()


@pytest.mark.parametrize(
    ("filters", "wants"), [(b"null", False), (b"{}", True), (b'{"exclude": [{"x": 1}]}', True)]
)
def test_context_filters_want_clients_that_know_of_them(filters: bytes, wants: bool) -> None:
    config = load(b'{"cody.contextFilters": ' + filters + b"," + SEED.strip()[1:])

    assert config.wants_recent_clients is wants
    assert config.warnings == ()
    assert plain(config.site)["cody.contextFilters"] == msgspec.json.decode(filters)


EVERYTHING_WRONG = b"""{
  // Each line below has its mistake.
  "modelConfiguration": {
    "providerOverrides": [
      {"id": "tgi", "displayNam": "TGI", "serverSideConfig": {"type": "huggingface-tgi"}},
      {"id": "aws", "serverSideConfig": {"type": "awsBedrok"}},
      {"id": "tgi", "serverSideConfig": {"type": "openai"}},
      {"displayName": "nameless"},
    ],
    "modelOverrides": [
      {"modelRef": "tgi::v1::m", "contextWindow": {"maxInputTokens": 0}},
      {"modelRef": "tgi::v1::m"},
      {"modelRef": "tgj::v1::m"}, /* one line, two mistakes */ {"modelRef": 5},
    ],
    "modelOverridesRecommendedSettings": ["llama"],
    "defaultModels": {"chat": "tgi/m"},
    "selfHostedModel": [],
  },
  "penstock": {
    "clients": [{"name": "a", "key": {"env": "PENSTOCK_TEST_UNSET"}}],
    "timeouts": {"idleSeconds": -1},
    "listen": {"port": 70000}
  }
}"""


def test_all_problems_come_at_once_each_with_its_place() -> None:
    problems = problems_of(EVERYTHING_WRONG)

    assert [str(problem) for problem in problems] == [
        "line 5, column 21: modelConfiguration.providerOverrides[0].displayNam:"
        ' unknown key "displayNam"; did you mean "displayName"?',
        "line 6, column 50: modelConfiguration.providerOverrides[1].serverSideConfig.type:"
        ' "awsBedrok" is not supported by this version; did you mean "awsBedrock"?',
        "line 7, column 14: modelConfiguration.providerOverrides[2].id:"
        ' provider overrides: provider "tgi" specified twice',
        'line 8, column 7: modelConfiguration.providerOverrides[3]: "id" is missing',
        "line 11, column 70: modelConfiguration.modelOverrides[0].contextWindow.maxInputTokens:"
        ' validating model "tgi::v1::m": invalid max input tokens',
        "line 12, column 20: modelConfiguration.modelOverrides[1].modelRef:"
        ' model overrides: model "tgi::v1::m" specified twice',
        "line 13, column 20: modelConfiguration.modelOverrides[2].modelRef:"
        ' model "tgj::v1::m" does not match a known provider; did you mean "tgi"?',
        "line 13, column 77: modelConfiguration.modelOverrides[3].modelRef:"
        " expected a string, got an integer",
        "line 15, column 43: modelConfiguration.modelOverridesRecommendedSettings[0]:"
        ' no recommended settings for "llama"; known: "bigcode::v1::starcoder2-7b",'
        ' "bigcode::v1::starcoder2-15b", "mistral::v1::mistral-7b-instruct",'
        ' "mistral::v1::mixtral-8x7b-instruct", "mistral::v1::mixtral-8x22b-instruct"',
        "line 16, column 31: modelConfiguration.defaultModels.chat:"
        " default chat model: modelRef syntax error",
        "line 17, column 5: modelConfiguration.selfHostedModel:"
        ' unknown key "selfHostedModel"; did you mean "selfHostedModels"?',
        "line 20, column 38: penstock.clients[0].key:"
        ' environment variable "PENSTOCK_TEST_UNSET" is not set',
        "line 21, column 33: penstock.timeouts.idleSeconds: expected a number > 0.0",
        "line 22, column 24: penstock.listen.port: expected an integer <= 65535",
    ]


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", Problem("", 1, 1, "expected a value")),
        (b"// nothing here\n", Problem("", 2, 1, "expected a value")),
        (b"[]", Problem("", 1, 1, "expected an object, got an array")),
        (b" null", Problem("", 1, 2, "expected an object, got null")),
        (b'{\n  "a": 1\n  "b": 2\n}', Problem("", 3, 3, "expected ',' or '}'")),
        (b'{"a":\0}', Problem("", 1, 6, "expected a value")),
        (b"\0", Problem("", 1, 1, "expected a value")),
        (
            b"\xef\xbb\xbf{}",
            Problem("", 1, 1, "begins with a byte order mark; save it as UTF-8 without one"),
        ),
        (b"\xff\xfe{\0}\0", Problem("", 1, 1, "not UTF-8")),
        (b'{\r\n\r"\xc3\xa9": "\xe9"}', Problem("", 3, 7, "not UTF-8")),
        (b"[" * 100_000, Problem("", 1, 129, "more than 128 brackets are open")),
        (b" " * 50_000_000, Problem("", 1, 1, f"larger than {MAX_CONFIG_BYTES} bytes")),
        (b"{}", Problem("", 1, 1, '"modelConfiguration" is missing')),
        (
            b'{"modelConfiguration": []}',
            Problem("modelConfiguration", 1, 24, "expected an object, got an array"),
        ),
        (
            b'{"modelConfiguration": null,\n "completions": {"provider": "openai"}}',
            Problem("completions", 2, 17, 'no models: provider "openai" needs "accessToken"'),
        ),
        (
            b'{"completions": {"chatModel": 5}}',
            Problem("completions.chatModel", 1, 31, "expected a string, got an integer"),
        ),
        (
            b'{"completions": {"enabled": false}}',
            Problem("completions.enabled", 1, 29, "completions are switched off"),
        ),
        (
            b'{"completions": {"provider": "openaj"}}',
            Problem(
                "completions.provider", 1, 30, 'unknown provider "openaj"; did you mean "openai"?'
            ),
        ),
        (
            b'{"modelConfiguration": {}}',
            Problem(
                "modelConfiguration",
                1,
                2,
                "no models: name one in modelOverrides, modelOverridesRecommendedSettings"
                " or selfHostedModels",
            ),
        ),
    ],
)
def test_what_is_no_configuration_at_all(data: bytes, problem: Problem) -> None:
    assert problems_of(data) == (problem,)


def test_an_error_does_not_carry_the_file_along() -> None:
    with pytest.raises(ConfigError) as error:
        load(b'{"key": "hunter2\xff"}')

    assert error.value.__context__ is None


def test_other_keys_of_a_site_configuration_are_told_once() -> None:
    config = load(b'{"auth.providers": [],\n "search": {}, ' + SEED.strip()[1:])

    assert config.warnings == (
        Problem('["auth.providers"]', 1, 2, 'ignored: "auth.providers", "search"'),
    )


@pytest.mark.parametrize("block", [b'{"provider": "x", "y": 1}', b"7", b"{}"])
def test_a_completions_block_beside_the_newer_one_is_not_read(block: bytes) -> None:
    config = load(b'{"completions": ' + block + b"," + SEED.strip()[1:])

    text = "ignored: modelConfiguration takes its place"
    assert config.warnings == (Problem("completions", 1, 2, text),)
    assert not config.is_legacy
    assert config.smart_context_window


def test_the_daily_limits_of_a_completions_block_count_beside_the_newer_one() -> None:
    block = b'{"completions": {"provider": "x", "perUserDailyLimit": 7, "y": 1},'

    config = load(block + SEED.strip()[1:])

    text = 'ignored but for "perUserDailyLimit": modelConfiguration takes its place'
    assert config.warnings == (Problem("completions", 1, 2, text),)
    assert config.daily.limit("anybody", Operation.CHAT) == 7
    assert config.daily.limit("anybody", Operation.COMPLETION) == 0


def test_a_completions_block_of_null_beside_the_newer_one_is_nothing() -> None:
    assert load(b'{"completions": null,' + SEED.strip()[1:]).warnings == ()


@pytest.mark.parametrize("slip", ["penstok", "Penstock", "penstocks"])
def test_a_slip_does_not_leave_the_door_open(slip: str) -> None:
    data = f'{{"{slip}": {{"clients": []}},'.encode() + SEED.strip()[1:]

    (problem,) = problems_of(data)

    text = f'unknown key "{slip}"; did you mean "penstock"?'
    assert problem == Problem(slip, 1, 2, text)


def test_a_slip_in_the_name_of_the_other_block() -> None:
    data = SEED.replace(b'"modelConfiguration"', b'"modelconfiguration"')

    messages = [problem.message for problem in problems_of(data)]

    assert messages == [
        '"modelConfiguration" is missing',
        'unknown key "modelconfiguration"; did you mean "modelConfiguration"?',
    ]


def test_a_key_that_stands_twice_is_told() -> None:
    data = b'{"x": 1, "x": 2, "penstock": {}, "penstock": {"limits": {}},' + SEED.strip()[1:]

    warnings = load(data).warnings

    assert Problem("penstock", 1, 34, "this key stands here twice; the last one counts") in warnings
    assert len(warnings) == 2  # the other is about "x", which is ignored altogether


def test_a_name_that_fits_two_models_is_told() -> None:
    data = b"""{"modelConfiguration": {
      "providerOverrides": [
        {"id": "a", "serverSideConfig": {"type": "openai"}},
        {"id": "b", "serverSideConfig": {"type": "openai"}}
      ],
      "modelOverrides": [
        {"modelRef": "a::v1::m", "capabilities": ["chat", "autocomplete"], "category": "speed"},
        {"modelRef": "b::v1::m", "category": "balanced", "capabilities": ["chat"]}
      ]
    }}"""

    config = load(data)

    path = "modelConfiguration.modelOverrides[1].modelRef"
    text = 'ambiguous: "m" means "a::v1::m", listed first'
    assert config.warnings == (Problem(path, 8, 22, text),)


def test_a_model_that_only_its_full_reference_reaches_is_told() -> None:
    document = loads(SEED.decode())
    assert isinstance(document, dict)
    models = ("bigcode::v1::m", "bigcode::v2::m", "mistral::v1::m")
    document["modelConfiguration"]["modelOverrides"] = [{"modelRef": ref} for ref in models]

    warnings = load(msgspec.json.encode(document)).warnings

    assert [warning.message for warning in warnings] == [
        'only its full reference means this model: "bigcode/m" means "bigcode::v1::m",'
        ' "m" means "bigcode::v1::m", listed first',
        'ambiguous: "m" means "bigcode::v1::m", listed first',
    ]


@pytest.mark.parametrize(
    ("clients", "place", "message"),
    [
        ([], "", "expected at least 1 item"),
        ([{"name": "", "key": "k"}], "[0].name", "expected a string of length >= 1"),
        ([{"name": "a"}], "[0]", '"key" is missing'),
        (
            [{"name": "a", "key": ""}],
            "[0].key",
            "a key must not be empty, nor begin or end with a space",
        ),
        (
            [{"name": "a", "key": " hunter2"}],
            "[0].key",
            "a key must not be empty, nor begin or end with a space",
        ),
        (
            [{"name": "a", "key": "hunter2\n"}],
            "[0].key",
            "a secret must be one line without control characters",
        ),
        (
            [{"name": "a", "key": "hunter2"}, {"name": "a", "key": "k2"}],
            "[1].name",
            'client "a" specified twice',
        ),
        (
            [{"name": "a", "key": "hunter2"}, {"name": "b", "key": "hunter2"}],
            "[1].key",
            'client "a" has the same key',
        ),
        ([{"name": "a", "key": "k", "models": []}], "[0].models", "expected at least 1 item"),
        (
            [{"name": "a", "key": "k", "models": ["starcoder2-7b", "starcoder"]}],
            "[0].models[1]",
            'unknown model "starcoder"; did you mean "starcoder2-7b"?',
        ),
        (
            [{"name": "a", "key": {"env": "hunter2!"}}],
            "[0].key",
            "this is not the name of an environment variable",
        ),
    ],
)
def test_clients_that_are_wrong(clients: object, place: str, message: str) -> None:
    problems = penstock_problems(clients=clients)

    assert problems == [(f"clients{place}", message)]
    assert "hunter2" not in str(problems)


@pytest.mark.parametrize(
    ("listen", "problems"),
    [
        (
            {"port": 9090},
            [("listen.adminPort", "port 9090 is also that for clients")],
        ),
        ({"host": ""}, [("listen.host", "expected a string of length >= 1")]),
        ({"adminPort": 1.5}, [("listen.adminPort", "expected an integer, got a number")]),
        (
            {"trustedProxies": ["10.0.0.1", "10.0.0.1/8", "nginx", "::/0"]},
            [
                ("listen.trustedProxies[1]", '"10.0.0.1/8" is no network, as 10.0.0.0/8 is one'),
                ("listen.trustedProxies[2]", '"nginx" is no network, as 10.0.0.0/8 is one'),
            ],
        ),
    ],
)
def test_listeners_that_are_wrong(listen: object, problems: list[tuple[str, str]]) -> None:
    assert penstock_problems(listen=listen) == problems


def test_two_listeners_may_have_one_port_on_two_addresses() -> None:
    config = load(seed_with({"listen": {"port": 9090, "host": "192.0.2.1"}}))

    assert config.listen.port == config.listen.admin_port == 9090


@pytest.mark.parametrize("seconds", [0, -1, 86_401, "5", True])
def test_a_timeout_is_a_sensible_number_of_seconds(seconds: object) -> None:
    (problem,) = penstock_problems(timeouts={"totalSeconds": seconds})

    assert problem[0] == "timeouts.totalSeconds"


def client_key(reference: object) -> str:
    config = load(seed_with({"clients": [{"name": "a", "key": reference}]}))
    return config.clients[0].key.reveal()


def test_a_secret_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_KEY", "hunter2")

    assert client_key({"env": "PENSTOCK_TEST_KEY"}) == "hunter2"


def test_a_secret_from_an_environment_variable_that_is_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_TEST_KEY", "")

    problems = penstock_problems(clients=[{"name": "a", "key": {"env": "PENSTOCK_TEST_KEY"}}])

    assert problems == [("clients[0].key", 'environment variable "PENSTOCK_TEST_KEY" is empty')]


@pytest.mark.parametrize("content", [b"hunter2", b"hunter2\n", b"hunter2\r\n"])
def test_a_secret_from_a_file(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)

    assert client_key({"file": str(file)}) == "hunter2"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"hunter2\xff", "not UTF-8"),
        (b"x" * (MAX_SECRET_BYTES + 1), "larger than 65536 bytes"),
        (None, "there is no such file"),
    ],
)
def test_a_secret_from_a_file_that_is_wrong(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "key"
    if content is not None:
        file.write_bytes(content)

    problems = penstock_problems(clients=[{"name": "a", "key": {"file": str(file)}}])

    assert problems == [("clients[0].key", f'file "{file}": {reason}')]


@pytest.mark.parametrize("name", ["", "/", "a\0b", "x" * 5000])
def test_a_secret_from_what_can_be_no_file(name: str) -> None:
    (problem,) = penstock_problems(clients=[{"name": "a", "key": {"file": name}}])

    assert problem[1].startswith("file ")


def secret_everywhere(secret: str) -> bytes:
    return msgspec.json.encode(
        {
            "modelConfiguration": {
                "providerOverrides": [
                    {
                        "id": "p",
                        "serverSideConfig": {
                            "type": "openaicompatible",
                            "endpoints": [{"url": "http://a", "accessToken": secret}],
                        },
                    }
                ],
                "modelOverrides": [
                    {
                        "modelRef": "p::v1::m",
                        "serverSideConfig": {"type": "openaicompatible", "apiModel": secret},
                    }
                ],
            },
            "penstock": {"clients": [{"name": "a", "key": secret}]},
        }
    )


def test_no_secret_is_shown_by_a_configuration() -> None:
    config = load(secret_everywhere("hunter2"))

    assert "hunter2" not in repr(config)
    assert "hunter2" not in str(config.warnings)
    assert config.models[0].upstream_name == "hunter2"


def test_no_secret_is_shown_by_an_error() -> None:
    data = secret_everywhere("hunter2").replace(b'"type"', b'"typ"').replace(b'"key"', b'"kee"')

    with pytest.raises(ConfigError) as error:
        load(data)

    assert "hunter2" not in f"{error.value} {error.value!r} {error.value.problems}"


class EndpointSettings(Block, frozen=True):
    url: Annotated[str, Meta(pattern="^https?://")]
    access_token: Secret | None = None


class Settings(Block, frozen=True):
    endpoints: tuple[EndpointSettings, ...]


def check_provider(provider: ProviderConfig, problems: Problems) -> None:
    decode_strict(provider.settings, Settings, provider.path, problems)


def test_what_is_wrong_with_settings_is_told_together_with_the_rest() -> None:
    data = SEED.replace(b"https://", b"ftp://").replace(b'"displayName"', b'"display"', 1)

    with pytest.raises(ConfigError) as error:
        load(data, check_provider=check_provider)

    assert [str(problem) for problem in error.value.problems] == [
        "line 13, column 9: modelConfiguration.providerOverrides[0].display:"
        ' unknown key "display"; did you mean "displayName"?',
        "line 16, column 33: modelConfiguration.providerOverrides[0].serverSideConfig"
        ".endpoints[0].url: expected a string matching regex '^https?://'",
    ]


def test_settings_can_be_decoded_after_the_configuration_is_loaded() -> None:
    def secrets(ref: EnvSecret | FileSecret) -> str:
        assert ref == EnvSecret("TGI_TOKEN")
        return "hunter2"

    token = b'"accessToken": {"env": "TGI_TOKEN"}, "url": "https:'
    config = load(SEED.replace(b'"url": "https:', token), read_secret=secrets)
    problems = config.problems()
    provider = config.providers[0]

    settings = decode_strict(provider.settings, Settings, provider.path, problems)

    problems.raise_any()
    assert settings is not None
    assert settings.endpoints[0].access_token == Secret("hunter2")


# What can become of a file under somebody's fingers.
_PUNCTUATION = [bytes([byte]) for byte in b'{}[]",:/*\\\n\0\xff']
_VALUES = [b"null", b"0", b"-1", b"1e400", b"true", b'""', b"{}", b"[]", b'"id"', b"\\ud800"]
_WORDS = [b'{"env": "PENSTOCK_TEST_UNSET"}', b'{"file": ""}', b'"penstock"', b'"type"', b"::"]
SCRAPS = st.sampled_from([*_PUNCTUATION, *_VALUES, *_WORDS])
FULL = seed_with(
    {
        "clients": [{"name": "a", "key": "k", "models": ["starcoder2-7b"]}],
        "timeouts": {"idleSeconds": 5},
        "limits": {"maxBodyBytes": 4096},
        "listen": {"port": 1},
    }
)


@given(
    base=st.sampled_from([SEED, FULL, EVERYTHING_WRONG]),
    edits=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 40), SCRAPS | st.binary(max_size=3)), max_size=4
    ),
)
def test_a_mutated_file_is_loaded_or_refused_cleanly(
    base: bytes, edits: list[tuple[float, int, bytes]]
) -> None:
    for where, dropped, put in edits:
        start = int(where * len(base))
        base = base[:start] + put + base[start + dropped :]

    assert_loads_or_refuses(lambda: load(base, check_provider=check_provider))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "type", "env", "chat", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(data=st.data())
def test_a_file_with_other_values_is_loaded_or_refused_cleanly(data: st.DataObject) -> None:
    document = loads(FULL.decode())

    def changed(value: object) -> object:
        if data.draw(st.integers(0, 9)) == 0:
            return data.draw(JSON)
        if isinstance(value, dict):
            return {key: changed(value[key]) for key in value}
        return [changed(item) for item in value] if isinstance(value, list) else value

    encoded = msgspec.json.encode(changed(document))

    assert_loads_or_refuses(lambda: load(encoded, check_provider=check_provider))


def assert_loads_or_refuses(attempt: Callable[[], Config]) -> None:
    try:
        assert attempt().models
    except ConfigError as error:
        refused = error
    else:
        return
    places = [(problem.line, problem.column) for problem in refused.problems]
    assert places == sorted(places)
    assert min(places) >= (1, 1)
    assert all(problem.message for problem in refused.problems)
