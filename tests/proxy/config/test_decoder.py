"""Strict decoding that finds every mistake, on structs such as a provider's own."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import msgspec
import pytest
from msgspec import Meta, Raw

from parsers.jsonc import Positions, loads
from proxy.config.decoder import decode_partly, decode_strict, items_of
from proxy.config.problems import ConfigError, Problem, Problems, Source
from proxy.config.schema import Block, EnvSecret, FileSecret, Secret, SecretUnavailable

BASE = ("settings",)


class Endpoint(Block, frozen=True):
    url: Annotated[str, Meta(pattern="^https?://", description="Where.")]
    access_token: Secret | None = None
    headers: dict[str, Secret] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.url.endswith("#"):
            raise ValueError("a URL must have no fragment")


class Settings(Block, frozen=True):
    LATER: ClassVar[frozenset[str]] = frozenset({"useLegacyCompletions"})

    endpoints: Annotated[tuple[Endpoint, ...], Meta(min_length=1)]
    usage: Literal["on", "off"] = "on"
    weight: Annotated[int, Meta(ge=1)] | None = None
    extra: Raw | None = None
    either: int | str | None = None
    pair: Annotated[tuple[str, ...], Meta(min_length=2)] = ("a", "b")


class Open(msgspec.Struct, frozen=True):
    id: str = ""


def secrets_for_tests(ref: EnvSecret | FileSecret) -> str:
    known = {EnvSecret("TOKEN"): "from env", FileSecret("/token"): "from file"}
    if ref not in known:
        raise SecretUnavailable("there is no such place")
    return known.get(ref, "")


def problems_in(text: str) -> Problems:
    return Problems(Source(Positions(text), secrets_for_tests))


def decoded(text: str) -> Settings:
    document = loads(text)
    assert isinstance(document, dict)
    problems = problems_in(text)
    settings = decode_strict(document["settings"], Settings, BASE, problems)
    problems.raise_any()
    assert settings is not None
    return settings


def problems_of(text: str) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        decoded(text)
    return [(problem.path.removeprefix("settings"), problem.message) for problem in found(error)]


def found(error: pytest.ExceptionInfo[ConfigError]) -> tuple[Problem, ...]:
    return error.value.problems


def test_what_is_right_becomes_the_struct() -> None:
    settings = decoded(
        """{"settings": {
          "endpoints": [
            {"url": "http://a", "accessToken": "plain"},
            {"url": "http://b", "accessToken": {"env": "TOKEN"}, "headers": {"x": "y"}},
            {"url": "http://c", "accessToken": {"file": "/token"}},
            {"url": "http://d", "accessToken": null}
          ],
          "usage": "off", "weight": 3, "extra": {"a": [1, null]}, "either": "x"
        }}"""
    )

    assert [endpoint.url for endpoint in settings.endpoints] == [
        "http://a",
        "http://b",
        "http://c",
        "http://d",
    ]
    tokens = [endpoint.access_token for endpoint in settings.endpoints]
    assert tokens == [Secret("plain"), Secret("from env"), Secret("from file"), None]
    assert settings.endpoints[1].headers == {"x": Secret("y")}
    assert (settings.usage, settings.weight, settings.either) == ("off", 3, "x")
    assert settings.extra == Raw(b'{"a":[1,null]}')


def test_every_mistake_is_found_at_once() -> None:
    problems = problems_of(
        """{"settings": {
          "endpoints": [
            {"url": "ftp://a"},
            {"uri": "http://b"},
            {"url": "http://c#"},
            "http://d",
            {"url": "http://e", "accessToken": 7, "headers": {"x": 1, "y": "z"}}
          ],
          "usage": "maybe",
          "weight": 0,
          "either": [],
          "pair": ["only"],
          "color": "red"
        }}"""
    )

    text = 'expected a text, {"env": "NAME"} or {"file": "/path"}'
    assert problems == [
        (".endpoints[0].url", "expected a string matching regex '^https?://'"),
        (".endpoints[1]", '"url" is missing'),
        (
            ".endpoints[1].uri",
            'unknown key "uri"; did you mean "url"?',
        ),
        (".endpoints[2]", "a URL must have no fragment"),
        (".endpoints[3]", "expected an object, got a string"),
        (".endpoints[4].accessToken", text),
        (".endpoints[4].headers.x", text),
        (".usage", 'expected "on" or "off"'),
        (".weight", "expected an integer >= 1"),
        (".either", "expected `int | str | null`, got an array"),
        (".pair", "expected at least 2 items"),
        (
            ".color",
            'unknown key "color"; known: "endpoints", "usage", "weight", "extra", "either", "pair"',
        ),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"settings": []}', "expected an object, got an array"),
        ('{"settings": {}}', '"endpoints" is missing'),
        ('{"settings": null}', "expected an object, got null"),
    ],
)
def test_what_is_no_such_struct_at_all(text: str, message: str) -> None:
    assert problems_of(text) == [("", message)]


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ("[]", "expected at least 1 item"),
        ("{}", "expected an array, got an object"),
        ("null", "expected an array, got null"),
    ],
)
def test_what_is_no_such_tuple(endpoints: str, message: str) -> None:
    text = f'{{"settings": {{"endpoints": {endpoints}}}}}'

    assert problems_of(text) == [(".endpoints", message)]


def test_what_is_no_such_dictionary() -> None:
    text = '{"settings": {"endpoints": [{"url": "http://a", "headers": []}]}}'

    assert problems_of(text) == [(".endpoints[0].headers", "expected an object, got an array")]


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ('{"env": "OTHER"}', "there is no such place"),
        ('{"env": "TOKEN", "file": "/token"}', None),
        ('{"env": 1}', None),
        ('{"value": "hunter2"}', None),
        ('["hunter2"]', None),
        (r'"hunter2\r\nx-admin: 1"', "a secret must be one line without control characters"),
        (r'"hunter2\u007f"', "a secret must be one line without control characters"),
    ],
)
def test_a_secret_that_is_wrong_is_not_shown(token: str, message: str | None) -> None:
    text = f'{{"settings": {{"endpoints": [{{"url": "http://a", "accessToken": {token}}}]}}}}'

    problems = problems_of(text)

    expected = message or 'expected a text, {"env": "NAME"} or {"file": "/path"}'
    assert problems == [(".endpoints[0].accessToken", expected)]
    assert "hunter2" not in str(problems)


def test_a_key_of_a_later_release_is_only_a_warning() -> None:
    text = '{"settings": {"endpoints": [{"url": "http://a"}],\n "useLegacyCompletions": true}}'
    problems = problems_in(text)

    settings = decode_strict(
        Raw(b'{"endpoints": [{"url": "http://a"}], "useLegacyCompletions": true}'),
        Settings,
        BASE,
        problems,
    )

    assert settings == Settings(endpoints=(Endpoint(url="http://a"),))
    message = "ignored: not supported by this version"
    assert problems.warnings == (Problem("settings.useLegacyCompletions", 2, 2, message),)


def test_a_struct_that_does_not_forbid_unknown_keys_gets_them_passed_over() -> None:
    problems = problems_in("{}")

    assert decode_strict({"id": "x", "more": 1}, Open, (), problems) == Open(id="x")
    problems.raise_any()


def test_null_says_nothing_where_nothing_need_be_said() -> None:
    text = """{"settings": {"endpoints": [{"url": "http://a", "headers": null}],
        "usage": null, "pair": null, "either": null}}"""

    assert decoded(text) == Settings(endpoints=(Endpoint(url="http://a"),))
    assert problems_of('{"settings": {"endpoints": [{"url": null}], "wight": null}}') == [
        (".endpoints[0].url", "expected a string, got null"),
        (".wight", 'unknown key "wight"; did you mean "weight"?'),
    ]


def test_partly_gives_what_there_is() -> None:
    problems = problems_in("{}")
    document = {"endpoints": [{"url": "http://a"}, {}], "weight": "heavy"}

    settings = decode_partly(document, Settings, BASE, problems)

    assert settings is not None
    assert settings.weight is None
    assert list(items_of(settings.endpoints, ("settings", "endpoints"))) == [
        (("settings", "endpoints", 0), Endpoint(url="http://a"))
    ]
    assert len(problems) == 2
    assert decode_strict(document, Settings, BASE, problems) is None


def test_an_endless_list_of_mistakes_is_cut_short() -> None:
    problems = problems_in("{}")
    members = {f"k{number}": 0 for number in range(500)}

    assert decode_strict({"endpoints": [members], **members}, Settings, BASE, problems) is None
    assert problems.is_full
    right_but_for_one = {"endpoints": [{"url": "http://a"}], "weight": 0}
    assert decode_strict(right_but_for_one, Settings, BASE, problems) is None
