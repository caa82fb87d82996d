"""What a `modelConfiguration` block means: merging, defaults, and the words for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.config.load import Config, load
from proxy.config.modelconfig import ContextLimits, ModelConfig
from proxy.config.modelref import Defaults, ModelRef
from proxy.config.problems import ConfigError
from proxy.config.schema import (
    ClientSideModelConfig,
    ContextWindow,
    Knobs,
    ModelCost,
    ModelOverride,
    OpenAICompatibleModel,
    Secret,
)

Json = dict[str, object]

_FILE = Path(__file__).parents[2] / "fixtures" / "vectors" / "recommended_models.json"
VECTORS = msgspec.json.decode(_FILE.read_bytes(), type=dict[str, Any])  # Any: checked by use

SERVER: Json = {"type": "openaicompatible", "endpoints": [{"url": "http://a/v1"}]}
PROVIDER: Json = {"id": "p", "serverSideConfig": SERVER}
MODEL: Json = {
    "modelRef": "p::v1::m",
    "capabilities": ["chat", "autocomplete"],
    "category": "balanced",
}


def loaded(**block: object) -> Config:
    block.setdefault("providerOverrides", [PROVIDER])
    block.setdefault("modelOverrides", [MODEL])
    return load(msgspec.json.encode({"modelConfiguration": block}))


def model_from(override: Json, provider_settings: Json | None = None) -> ModelConfig:
    provider = {**PROVIDER, "defaultModelConfig": provider_settings or {}}
    return loaded(providerOverrides=[provider], modelOverrides=[override]).models[0]


def problems_of(**block: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as error:
        loaded(**block)
    return [
        (problem.path.removeprefix("modelConfiguration").removeprefix("."), problem.message)
        for problem in error.value.problems
    ]


def warnings_of(**block: object) -> list[tuple[str, str]]:
    return [
        (warning.path.removeprefix("modelConfiguration."), warning.message)
        for warning in loaded(**block).warnings
    ]


def test_a_provider_keeps_its_settings_undecoded_and_without_the_type() -> None:
    (provider,) = loaded().providers

    assert (provider.id, provider.kind) == ("p", "openaicompatible")
    assert provider.display_name == 'Provider "p"'
    assert provider.settings == msgspec.Raw(b'{"endpoints":[{"url":"http://a/v1"}]}')
    assert provider.path == ("modelConfiguration", "providerOverrides", 0, "serverSideConfig")


def test_a_model_of_which_little_is_said() -> None:
    model = model_from({"modelRef": "p::v1::m"})

    assert model == ModelConfig(
        ref=ModelRef("p", "v1", "m"),
        settings=ModelOverride(
            model_ref="p::v1::m",
            display_name="m",
            model_name="m",
            tier="enterprise",
            context_window=ContextWindow(max_input_tokens=4000, max_output_tokens=4000),
        ),
        path=("modelConfiguration", "modelOverrides", 0, "modelRef"),
    )
    assert (model.upstream_name, model.has_secret_name) == ("m", False)
    assert model.limits == ContextLimits(4000, 4000)
    assert model.knobs is None


def test_a_model_of_which_everything_is_said() -> None:
    model = model_from(
        {
            "modelRef": "p::v1::org/m",
            "displayName": "M",
            "modelName": "m-upstream",
            "capabilities": ["chat"],
            "category": "accuracy",
            "status": "beta",
            "tier": "enterprise",
            "contextWindow": {
                "maxInputTokens": 7,
                "maxOutputTokens": 8,
                "maxUserInputTokens": 6,
            },
            "reasoningEffort": "low",
            "modelCost": {"unit": "mtok", "inputTokenPennies": 0, "outputTokenPennies": 1.5},
            "clientSideConfig": {
                "openaicompatible": {"stopSequences": ["<EOT>"], "chatTemperature": 0}
            },
            "serverSideConfig": {"type": "openaicompatible", "apiModel": "secret-name"},
        }
    )

    assert model == ModelConfig(
        ref=ModelRef("p", "v1", "org/m"),
        settings=ModelOverride(
            model_ref="p::v1::org/m",
            display_name="M",
            model_name="m-upstream",
            capabilities=("chat",),
            category="accuracy",
            status="beta",
            tier="enterprise",
            context_window=ContextWindow(
                max_input_tokens=7, max_output_tokens=8, max_user_input_tokens=6
            ),
            reasoning_effort="low",
            model_cost=ModelCost(unit="mtok", input_token_pennies=0, output_token_pennies=1.5),
            client_side_config=ClientSideModelConfig(
                openaicompatible=Knobs(stop_sequences=("<EOT>",), chat_temperature=0)
            ),
            server_side_config=OpenAICompatibleModel(api_model=Secret("secret-name")),
        ),
        path=("modelConfiguration", "modelOverrides", 0, "modelRef"),
    )
    assert (model.upstream_name, model.has_secret_name) == ("secret-name", True)
    assert "secret-name" not in repr(model)


def test_a_knob_that_is_zero_is_not_one_that_is_absent() -> None:
    knobs = {"chatTemperature": 0, "chatMaxTokens": 0, "stopSequences": []}
    model = model_from({"modelRef": "p::v1::m", "clientSideConfig": {"openaicompatible": knobs}})

    assert model.knobs == Knobs(chat_temperature=0, chat_max_tokens=0, stop_sequences=())
    assert model.knobs != Knobs()
    assert msgspec.to_builtins(model.knobs) == {
        "chatTemperature": 0,
        "chatMaxTokens": 0,
        "stopSequences": (),
    }


@pytest.mark.parametrize(
    ("server_side", "name"),
    [
        ({"type": "openaicompatible"}, "m"),
        ({"type": "openaicompatible", "apiModel": ""}, "m"),
        ({"type": "awsBedrock", "latencyOptimization": "optimized"}, "m"),
        ({"type": "awsBedrockProvisionedThroughput", "arn": "arn:aws:x"}, "arn:aws:x"),
    ],
)
def test_the_name_upstream(server_side: Json, name: str) -> None:
    model = model_from({"modelRef": "p::v1::m", "serverSideConfig": server_side})

    assert model.upstream_name == name
    assert model.has_secret_name is (name != "m")


def test_what_a_provider_says_of_all_its_models_holds_where_they_say_nothing() -> None:
    settings: Json = {
        "capabilities": ["autocomplete"],
        "category": "speed",
        "status": "stable",
        "contextWindow": {"maxInputTokens": 100, "maxOutputTokens": 50},
        "clientSideConfig": {"openaicompatible": {"endOfText": "<EOT>"}},
        "serverSideConfig": {"type": "openaicompatible", "apiModel": "tgi"},
    }

    silent = model_from({"modelRef": "p::v1::m"}, settings)
    loud = model_from(
        {
            "modelRef": "p::v1::m",
            "capabilities": ["chat"],
            "status": "beta",
            "contextWindow": {"maxOutputTokens": 9},
            "clientSideConfig": {"openaicompatible": {}},
            "serverSideConfig": {"type": "openaicompatible"},
        },
        settings,
    )

    assert (silent.settings.capabilities, silent.settings.category) == (("autocomplete",), "speed")
    assert (silent.settings.status, silent.limits) == ("stable", ContextLimits(100, 50))
    assert silent.knobs == Knobs(end_of_text="<EOT>")
    assert silent.upstream_name == "tgi"
    assert (loud.settings.capabilities, loud.settings.category) == (("chat",), "speed")
    assert (loud.settings.status, loud.limits) == ("beta", ContextLimits(100, 9))
    assert loud.knobs == Knobs()
    assert loud.upstream_name == "m"


def test_client_side_settings_of_no_kind_are_no_knobs() -> None:
    assert model_from({"modelRef": "p::v1::m", "clientSideConfig": {}}).knobs is None


def test_models_keep_the_order_of_the_file() -> None:
    config = loaded(
        providerOverrides=[PROVIDER, {**PROVIDER, "id": "mistral"}],
        modelOverridesRecommendedSettings=["mistral::v1::mixtral-8x22b-instruct"],
        modelOverrides=[{**MODEL, "modelRef": f"p::v1::{name}"} for name in "zam"],
    )

    assert [model.ref.model for model in config.models] == [
        "z",
        "a",
        "m",
        "mixtral-8x22b-instruct",
    ]


def test_the_kind_must_be_one_that_can_be_built() -> None:
    block = {"modelConfiguration": {"providerOverrides": [PROVIDER], "modelOverrides": [MODEL]}}

    with pytest.raises(ConfigError) as error:
        load(msgspec.json.encode(block), kinds=("own",))

    text = '"openaicompatible" is not supported by this version; known: "own"'
    assert [problem.message for problem in error.value.problems] == [text]


KNOWN_KINDS = (
    'known: "huggingface-tgi", "openaicompatible", "openai", "azureOpenAI", "fireworks",'
    ' "anthropic", "awsBedrock", "google", "sourcegraph"'
)


@pytest.mark.parametrize(
    ("override", "place", "message"),
    [
        ({"id": "a:b"}, ".id", 'provider overrides: invalid provider ID "a:b"'),
        ({"id": "p\n"}, ".id", r'provider overrides: invalid provider ID "p\n"'),
        ({"id": ""}, ".id", 'provider overrides: invalid provider ID ""'),
        (
            {"displayName": "é" * 65},
            ".displayName",
            'validating provider "p": display name length: 130',
        ),
        ({"clientSideConfig": {"a": 1}}, ".clientSideConfig.a", 'unknown key "a"; known: none'),
        ({"serverSideConfig": {}}, ".serverSideConfig", f'"type" is missing; {KNOWN_KINDS}'),
        (
            {"serverSideConfig": {"type": "cohere"}},
            ".serverSideConfig.type",
            f'"cohere" is not supported by this version; {KNOWN_KINDS}',
        ),
        (
            {"serverSideConfig": {"type": "hugingface-tgi"}},
            ".serverSideConfig.type",
            '"hugingface-tgi" is not supported by this version; did you mean "huggingface-tgi"?',
        ),
        (
            {"serverSideConfig": {"type": ["x"]}},
            ".serverSideConfig.type",
            f"this type is not supported by this version; {KNOWN_KINDS}",
        ),
        ({"serverSideConfig": 1}, ".serverSideConfig", "expected an object, got an integer"),
        (
            {"serverSideConfig": None},
            ".serverSideConfig",
            'provider "p" has no serverSideConfig;'
            " nothing is sent to a host that nobody configured",
        ),
        (
            {"defaultModelConfig": {"contextWindow": {"maxOutputTokens": 0}}},
            ".defaultModelConfig.contextWindow.maxOutputTokens",
            'applying provider default model config ("p"): invalid max output tokens',
        ),
    ],
)
def test_a_bad_provider(override: Json, place: str, message: str) -> None:
    good = {**PROVIDER, "id": "q"}
    model = {**MODEL, "modelRef": "q::v1::m"}

    problems = problems_of(
        providerOverrides=[good, {**PROVIDER, **override}], modelOverrides=[model]
    )

    assert problems == [(f"providerOverrides[1]{place}", message)]


@pytest.mark.parametrize(
    ("override", "place", "message"),
    [
        (
            {"modelRef": ""},
            ".modelRef",
            'model overrides: validating model ref "": modelRef is blank',
        ),
        (
            {"modelRef": "p/m"},
            ".modelRef",
            'model overrides: validating model ref "p/m": modelRef syntax error',
        ),
        (
            {"modelRef": "p::v 1::m"},
            ".modelRef",
            'model overrides: validating model ref "p::v 1::m": invalid APIVersionID',
        ),
        (
            {"modelRef": "pp::v1::m"},
            ".modelRef",
            'model "pp::v1::m" does not match a known provider; did you mean "p"?',
        ),
        (
            {"displayName": "x" * 129},
            ".displayName",
            'validating model "p::v1::n": display name length: 129',
        ),
        (
            {"contextWindow": {"maxInputTokens": -1}},
            ".contextWindow.maxInputTokens",
            'validating model "p::v1::n": invalid max input tokens',
        ),
        (
            {"contextWindow": {"maxInputTokens": True}},
            ".contextWindow.maxInputTokens",
            "expected an integer, got true or false",
        ),
        (
            {"serverSideConfig": {"type": "huggingface-tgi"}},
            ".serverSideConfig.type",
            '"huggingface-tgi" is not supported by this version; known: "openaicompatible",'
            ' "awsBedrockProvisionedThroughput", "awsBedrock"',
        ),
        (
            {"serverSideConfig": {"apiModel": "tgi"}},
            ".serverSideConfig",
            '"type" is missing; known: "openaicompatible", "awsBedrockProvisionedThroughput",'
            ' "awsBedrock"',
        ),
        (
            {"serverSideConfig": {"type": ["a"]}},
            ".serverSideConfig.type",
            'this type is not supported by this version; known: "openaicompatible",'
            ' "awsBedrockProvisionedThroughput", "awsBedrock"',
        ),
        ({"serverSideConfig": "x"}, ".serverSideConfig", "expected an object, got a string"),
        (
            {"serverSideConfig": {"type": "awsBedrockProvisionedThroughput"}},
            ".serverSideConfig",
            '"arn" is missing',
        ),
        (
            {"serverSideConfig": {"type": "awsBedrock", "apiModel": "x"}},
            ".serverSideConfig.apiModel",
            'unknown key "apiModel"; known: "latencyOptimization"',
        ),
        (
            {"clientSideConfig": {"openaicompatible": {"chatTemprature": 0}}},
            ".clientSideConfig.openaicompatible.chatTemprature",
            'unknown key "chatTemprature"; did you mean "chatTemperature"?',
        ),
        (
            {"clientSideConfig": {"openaicompatible": {"chatMaxTokens": -1}}},
            ".clientSideConfig.openaicompatible.chatMaxTokens",
            "expected an integer >= 0",
        ),
        (
            {"contextWindow": {"maxUserInputTokens": 0}},
            ".contextWindow.maxUserInputTokens",
            'validating model "p::v1::n": invalid max user input tokens',
        ),
        (
            {"capability": []},
            ".capability",
            'unknown key "capability"; did you mean "capabilities"?',
        ),
    ],
)
def test_a_bad_model(override: Json, place: str, message: str) -> None:
    models = [MODEL, {**MODEL, "modelRef": "p::v1::n", **override}]

    assert problems_of(modelOverrides=models) == [(f"modelOverrides[1]{place}", message)]


def test_a_provider_given_twice() -> None:
    text = 'provider overrides: provider "p" specified twice'

    assert problems_of(providerOverrides=[PROVIDER, PROVIDER]) == [
        ("providerOverrides[1].id", text)
    ]


def test_a_model_given_twice() -> None:
    text = 'model overrides: model "p::v1::m" specified twice'

    assert problems_of(modelOverrides=[MODEL, MODEL]) == [("modelOverrides[1].modelRef", text)]


def test_a_model_given_by_its_settings_and_as_recommended() -> None:
    ref = "bigcode::v1::starcoder2-7b"
    problems = problems_of(
        providerOverrides=[{**PROVIDER, "id": "bigcode"}],
        modelOverrides=[{"modelRef": ref}],
        modelOverridesRecommendedSettings=[ref],
    )

    text = f'model overrides: model "{ref}" specified twice'
    assert problems == [("modelOverridesRecommendedSettings[0]", text)]


def test_an_unknown_recommended_model() -> None:
    problems = problems_of(modelOverridesRecommendedSettings=["mistral::v1::mixtral-8x22b"])

    text = 'no recommended settings for "mistral::v1::mixtral-8x22b"; did you mean'
    assert problems == [
        (
            "modelOverridesRecommendedSettings[0]",
            f'{text} "mistral::v1::mixtral-8x22b-instruct"?',
        )
    ]


def test_no_model_at_all() -> None:
    text = (
        "no models: name one in modelOverrides, modelOverridesRecommendedSettings"
        " or selfHostedModels"
    )

    assert problems_of(modelOverrides=[]) == [("", text)]


def test_defaults_are_taken_as_written() -> None:
    other = {**MODEL, "modelRef": "p::v1::n"}

    config = loaded(
        modelOverrides=[MODEL, other],
        defaultModels={
            "chat": "p::v1::n",
            "fastChat": "p::v1::m",
            "codeCompletion": "p::v1::n",
        },
    )

    first, second = (model.ref for model in config.models)
    assert config.defaults == Defaults(second, first, second)
    assert config.warnings == ()


def test_defaults_that_are_not_given_are_the_first_models_that_fit() -> None:
    models = [
        {"modelRef": "p::v1::none", "category": "balanced"},
        {"modelRef": "p::v1::exact", "capabilities": ["chat"], "category": "accuracy"},
        {"modelRef": "p::v1::code", "capabilities": ["autocomplete"], "category": "speed"},
        {"modelRef": "p::v1::quick", "capabilities": ["chat"], "category": "speed"},
    ]

    config = loaded(modelOverrides=models, defaultModels={"chat": ""})

    assert config.defaults == Defaults(
        chat=ModelRef("p", "v1", "exact"),
        fast_chat=ModelRef("p", "v1", "quick"),
        code_completion=ModelRef("p", "v1", "code"),
    )
    assert config.warnings == ()


def test_a_default_that_is_no_model_is_replaced_and_told() -> None:
    config = loaded(defaultModels={"chat": "p::v1::gone"})

    assert config.defaults.chat == ModelRef("p", "v1", "m")
    assert [(warning.path, warning.message) for warning in config.warnings] == [
        (
            "modelConfiguration.defaultModels.chat",
            'unknown chat model "p::v1::gone"; using "p::v1::m"',
        )
    ]


def test_a_server_for_chat_alone_has_no_default_for_code() -> None:
    model = {**MODEL, "capabilities": ["chat"]}

    config = loaded(modelOverrides=[model])

    assert config.defaults == Defaults(ModelRef("p", "v1", "m"), ModelRef("p", "v1", "m"), None)
    assert [warning.message for warning in config.warnings] == [
        "no suitable model found for CodeCompletion (1 candidates);"
        ' it needs "autocomplete" and category "speed" or "balanced"'
    ]


def test_a_default_that_is_wrong_and_cannot_be_replaced_is_refused() -> None:
    model = {**MODEL, "capabilities": ["autocomplete"]}

    problems = problems_of(modelOverrides=[model], defaultModels={"chat": "p::v1::gone"})

    assert problems == [
        (
            "defaultModels.chat",
            'unknown chat model "p::v1::gone";'
            " no suitable model found for Chat (1 candidates);"
            ' it needs "chat" and category "accuracy" or "balanced"',
        )
    ]


def test_a_default_that_only_the_original_has_is_told() -> None:
    model = {**MODEL, "capabilities": ["chat"], "category": "accuracy"}
    built_in = "fireworks::v1::deepseek-coder-v2-lite-base"

    config = loaded(
        sourcegraph={}, modelOverrides=[model], defaultModels={"codeCompletion": built_in}
    )

    assert config.defaults.code_completion is None
    assert (
        "modelConfiguration.defaultModels.codeCompletion",
        f'unknown code completion model "{built_in}";'
        " no suitable model found for CodeCompletion (1 candidates);"
        ' it needs "autocomplete" and category "speed" or "balanced"',
    ) in [(warning.path, warning.message) for warning in config.warnings]


def test_a_default_is_not_refused_where_models_could_not_be_read() -> None:
    model = {**MODEL, "modelRef": "p::v1"}

    problems = problems_of(modelOverrides=[model], defaultModels={"chat": "p::v1::m"})

    assert [path for path, _ in problems] == ["modelOverrides[0].modelRef"]


@pytest.mark.parametrize("capability", ["autocomplete", "vision"])
def test_a_server_without_chat_serves(capability: str) -> None:
    warnings = warnings_of(modelOverrides=[{**MODEL, "capabilities": [capability]}])

    assert [message.partition(" (")[0] for _, message in warnings][:2] == [
        "no suitable model found for Chat",
        "no suitable model found for FastChat",
    ]


def test_a_default_that_cannot_do_its_work_is_told() -> None:
    chat_only = {**MODEL, "modelRef": "p::v1::c", "capabilities": ["chat"]}

    warnings = warnings_of(
        modelOverrides=[MODEL, chat_only], defaultModels={"codeCompletion": "p::v1::c"}
    )

    assert warnings == [
        (
            "defaultModels.codeCompletion",
            'default code completion model: "p::v1::c" cannot "autocomplete"',
        )
    ]


@pytest.mark.parametrize(
    ("key", "name"),
    [("chat", "chat"), ("fastChat", "fast chat"), ("codeCompletion", "code completion")],
)
def test_a_default_that_is_no_reference(key: str, name: str) -> None:
    problems = problems_of(defaultModels={key: "p/m"})

    assert problems == [
        (f"defaultModels.{key}", f"default {name} model: modelRef syntax error"),
    ]


def test_a_system_instruction_is_carried() -> None:
    assert loaded(systemPreInstruction="Be brief.").system_pre_instruction == "Be brief."
    assert loaded().system_pre_instruction == ""


def test_a_default_of_another_release_is_only_told() -> None:
    warnings = warnings_of(defaultModels={"unlimitedChat": "p::v1::m"})

    assert warnings == [("defaultModels.unlimitedChat", "ignored: not supported by this version")]


def test_words_of_another_release_are_only_told() -> None:
    model = {
        **MODEL,
        "capabilities": ["chat", "chatt", "autocomplete"],
        "category": "balance",
        "tier": "free",
        "reasoningEffort": "hi",
    }

    warnings = warnings_of(modelOverrides=[MODEL, {**model, "modelRef": "p::v1::n"}])

    assert warnings == [
        ("modelOverrides[1].capabilities[1]", 'unknown capability "chatt"; did you mean "chat"?'),
        ("modelOverrides[1].category", 'unknown category "balance"; did you mean "balanced"?'),
        ("modelOverrides[1].tier", 'ignored: every model is of the tier "enterprise"'),
        (
            "modelOverrides[1].reasoningEffort",
            'unknown reasoning effort "hi"; did you mean "high"?',
        ),
    ]


SELF_HOSTED = VECTORS["selfHostedExamples"]


def test_self_hosted_models_have_the_references_that_the_original_gives_them() -> None:
    known = [vector for vector in SELF_HOSTED if vector["modelRef"] is not None]
    ids = {vector["entry"]["provider"] for vector in known}

    config = loaded(
        providerOverrides=[{**PROVIDER, "id": name} for name in sorted(ids)],
        modelOverrides=[],
        selfHostedModels=[vector["entry"] for vector in known],
    )

    assert [str(model.ref) for model in config.models] == [vector["modelRef"] for vector in known]


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_override_of_a_self_hosted_model_replaces_only_what_it_names(wrapped: bool) -> None:
    (vector,) = (vector for vector in SELF_HOSTED if "result" in vector)
    entry, expected = vector["entry"], vector["result"]
    override = dict(entry["override"])
    if wrapped:  # as in modelOverrides
        override["clientSideConfig"] = {"openaicompatible": override["clientSideConfig"]}
        server_side = {"type": "openaicompatible", **override["serverSideConfig"]}
        override["serverSideConfig"] = server_side

    (model,) = loaded(modelOverrides=[], selfHostedModels=[{**entry, "override": override}]).models

    assert str(model.ref) == vector["modelRef"]
    assert model.settings.display_name == expected["displayName"]
    assert model.limits == ContextLimits(
        expected["contextWindow"]["maxInputTokens"], expected["contextWindow"]["maxOutputTokens"]
    )
    assert model.upstream_name == expected["apiModel"]
    assert model.knobs == Knobs(
        stop_sequences=tuple(expected["stopSequences"]),
        end_of_text=expected["endOfText"],
        chat_max_tokens=0,  # the original loses it (B-06)
    )


def test_an_override_does_not_leak_into_the_next_entry() -> None:
    entries = [
        {
            "provider": "p",
            "model": "starcoder2-7b@v1",
            "apiVersion": version,
            "override": override,
        }
        for version, override in (
            ("a", {"displayName": "Mine", "clientSideConfig": {"endOfText": "<EOT>"}}),
            ("b", {}),
            ("c", None),
        )
    ]

    models = loaded(modelOverrides=[], selfHostedModels=entries).models

    assert [model.settings.display_name for model in models] == [
        "Mine",
        "Starcoder2 7B",
        "Starcoder2 7B",
    ]
    texts = [model.knobs.end_of_text for model in models if model.knobs is not None]
    assert texts == ["<EOT>", "<|endoftext|>", "<|endoftext|>"]


def test_a_self_hosted_model_that_nobody_knows() -> None:
    problems = problems_of(selfHostedModels=[{"provider": "p", "model": "starcoder2-7b"}])

    text = 'no settings for "starcoder2-7b"; did you mean "starcoder2-7b@v1"?'
    assert problems == [("selfHostedModels[0].model", text)]


def test_a_self_hosted_model_with_a_window_of_nothing() -> None:
    entry = {
        "provider": "p",
        "model": "starcoder2-7b@v1",
        "override": {"contextWindow": {"maxInputTokens": 0}},
    }

    text = 'validating model "p::v1::starcoder2-7b": invalid max input tokens'
    path = "selfHostedModels[0].override.contextWindow.maxInputTokens"
    assert problems_of(selfHostedModels=[entry]) == [(path, text)]


def test_the_merged_block_means_the_same_again() -> None:
    config = loaded(
        providerOverrides=[{**PROVIDER, "id": "mistral"}, PROVIDER],
        modelOverridesRecommendedSettings=["mistral::v1::mixtral-8x22b-instruct"],
        selfHostedModels=[{"provider": "p", "model": "starcoder2-7b@v1"}],
    )

    again = load(msgspec.json.encode(config.site))

    assert again.site == config.site
    assert [model.settings for model in again.models] == [m.settings for m in config.models]
    assert again.defaults == config.defaults
    assert again.warnings == config.warnings == ()


def test_a_model_without_a_category_is_the_default_for_all_it_can_do() -> None:
    override = {"modelRef": "p::v1::only", "capabilities": ["chat", "autocomplete"]}

    defaults = loaded(modelOverrides=[override]).defaults

    assert {defaults.chat, defaults.fast_chat, defaults.code_completion} == {
        ModelRef("p", "v1", "only")
    }
