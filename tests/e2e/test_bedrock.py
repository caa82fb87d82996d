"""Bedrock through penstock, against a server that AWS's own client has been shown to agree with."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import msgspec
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from parsers.dialects.bedrock import CONVERSE
from parsers.dialects.openai import OPENAI_CHAT
from parsers.events import Failed
from tests.e2e.bedrock_server import (
    API_KEY,
    KEY_ID,
    POD_IDENTITY,
    ROLE,
    SECRET,
    WEB_IDENTITY,
    Answer,
    BedrockServer,
    Call,
    Keys,
    event,
    hello,
)
from tests.fixture_streams import Case, cases, fold, replay
from tests.harness import chat, config_for, penstock

REGION = "us-west-2"
MODEL_ID = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ARN = "arn:aws:bedrock:us-west-2:123456789012:provisioned-model/abc123def456"
STATIC = f"{KEY_ID}:{SECRET}"
TEXT = "Hello there"

INVOKED = cases("bedrock-invoke-anthropic")
CASES = cases("bedrock-converse")
STREAMED = [case for case in CASES if case.streamed]


def config_of(
    aws: BedrockServer,
    token: object = STATIC,
    *,
    model: Mapping[str, object] | None = None,
    **settings: object,
) -> dict[str, Any]:
    config = config_for(aws.url)
    server = {"type": "awsBedrock", "endpoint": aws.url, "region": REGION, "accessToken": token}
    server = {key: value for key, value in (server | settings).items() if value is not None}
    config["modelConfiguration"]["providerOverrides"] = [{"id": "lab", "serverSideConfig": server}]
    config["modelConfiguration"]["modelOverrides"][0] |= {"modelName": MODEL_ID, **(model or {})}
    return config


def text_of(stream: bytes) -> str:
    """What an OpenAI client reads; fails the test on an error in it."""
    outcome = fold(replay(OPENAI_CHAT, [stream]))
    assert outcome.fault is None
    return outcome.text


# AWS's own client and the server agree


@contextmanager
def client(aws: BedrockServer, keys: Keys) -> Iterator[Any]:  # made at run time
    session = boto3.Session(keys.key_id, keys.secret, keys.session, region_name=REGION)
    config = Config(retries={"total_max_attempts": 1})
    made = session.client("bedrock-runtime", endpoint_url=aws.url, config=config)
    try:
        yield made
    finally:
        made.close()


MESSAGES = [{"role": "user", "content": [{"text": "hi"}]}]


@pytest.mark.parametrize("model", [MODEL_ID, ARN])
@pytest.mark.parametrize("session", [None, "a+session/token=="])
async def test_the_server_lets_in_what_boto3_signs(model: str, session: str | None) -> None:
    keys = Keys(session=session)
    async with BedrockServer(hello, keys) as aws:

        def ask() -> tuple[str, list[str]]:
            with client(aws, keys) as runtime:
                whole = runtime.converse(modelId=model, messages=MESSAGES)
                answer = runtime.converse_stream(modelId=model, messages=MESSAGES)
                with closing(answer["stream"]) as stream:
                    events = list(stream)
            deltas = [each["contentBlockDelta"] for each in events if "contentBlockDelta" in each]
            text = whole["output"]["message"]["content"][0]["text"]
            return text, [each["delta"]["text"] for each in deltas]

        assert await asyncio.to_thread(ask) == (TEXT, ["Hello", " there"])

    assert [(call.model, call.operation) for call in aws.calls] == [
        (model, "converse"),
        (model, "converse-stream"),
    ]
    assert msgspec.json.decode(aws.calls[0].body) == {"messages": MESSAGES}


@pytest.mark.parametrize(
    ("keys", "kind"),
    [
        (Keys(secret="no"), "InvalidSignatureException"),
        (Keys(key_id="AKIDNOBODY"), "UnrecognizedClientException"),
        (Keys(session="made up"), "UnrecognizedClientException"),
    ],
)
async def test_the_server_refuses_what_is_signed_by_somebody_else(keys: Keys, kind: str) -> None:
    async with BedrockServer(hello) as aws:

        def ask() -> str:
            with client(aws, keys) as runtime, pytest.raises(ClientError) as refused:
                runtime.converse(modelId=MODEL_ID, messages=MESSAGES)
            code: str = refused.value.response["Error"]["Code"]
            return code

        assert await asyncio.to_thread(ask) == kind
    assert aws.calls == []


async def test_boto3_reads_the_chunks_of_an_invoked_model() -> None:
    (case,) = [each for each in INVOKED if each.name.endswith("basic")]
    async with BedrockServer(lambda _: Answer([case.body])) as aws:

        def ask() -> list[str]:
            with client(aws, Keys()) as runtime:
                answer = runtime.invoke_model_with_response_stream(modelId=MODEL_ID, body=b"{}")
                with closing(answer["body"]) as stream:
                    chunks = [msgspec.json.decode(each["chunk"]["bytes"]) for each in stream]
            return [chunk["type"] for chunk in chunks]

        types = await asyncio.to_thread(ask)

    assert (types[0], types[-1]) == ("message_start", "message_stop")
    assert [call.operation for call in aws.calls] == ["invoke-with-response-stream"]


async def test_boto3_reads_an_exception_in_the_servers_stream() -> None:
    (case,) = [each for each in STREAMED if each.name.endswith("mid-throttling")]
    async with BedrockServer(lambda _: Answer([case.body])) as aws:

        def ask() -> str:
            with client(aws, Keys()) as runtime:
                stream = runtime.converse_stream(modelId=MODEL_ID, messages=MESSAGES)["stream"]
                with closing(stream), pytest.raises(ClientError) as refused:
                    list(stream)
            code: str = refused.value.response["Error"]["Code"]
            return code

        assert await asyncio.to_thread(ask) == "throttlingException"


# Calls with keys of the configuration


async def test_a_stream_is_signed_asked_for_and_translated() -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws)) as proxy:
        status, body = await proxy.ask("/v1/chat/completions", chat(max_tokens=9))
        (line,) = await proxy.ended()

    assert (status, text_of(body)) == (200, TEXT)
    assert body.endswith(b"data: [DONE]\n\n")
    assert aws.calls == [
        Call(
            MODEL_ID,
            "converse-stream",
            "application/vnd.amazon.eventstream",
            KEY_ID,
            b'{"messages":[{"role":"user","content":[{"text":"hi"}]}],'
            b'"inferenceConfig":{"maxTokens":9}}',
        )
    ]
    assert (line.outcome, line.input_tokens, line.output_tokens) == ("complete", 3, 2)


async def test_a_whole_answer_is_signed_and_translated() -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws)) as proxy:
        status, body = await proxy.ask("/v1/chat/completions", chat(stream=False))

    answer = msgspec.json.decode(body)
    assert status == 200
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": TEXT}
    assert answer["usage"]["total_tokens"] == 5
    assert [(call.operation, call.accept) for call in aws.calls] == [
        ("converse", "application/json")
    ]


async def test_a_completion_is_one_message() -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws)) as proxy:
        prompt = {"model": "model", "prompt": "def f(", "max_tokens": 5}
        status, body = await proxy.ask("/v1/completions", prompt)

    assert status == 200
    assert msgspec.json.decode(body)["choices"][0]["text"] == TEXT
    assert b'"content":[{"text":"def f("}]' in aws.calls[0].body


async def test_a_session_of_the_configuration_is_signed_too() -> None:
    keys = Keys(session="a+session/token==")
    async with (
        BedrockServer(hello, keys) as aws,
        penstock(config_of(aws, f"{STATIC}:{keys.session}")) as proxy,
    ):
        status, _ = await proxy.ask("/v1/chat/completions", chat())

    assert (status, aws.refusals) == (200, [])


async def test_a_throughput_of_ones_own_is_called_by_its_arn_which_nobody_sees() -> None:
    def refuse(call: Call) -> Answer:
        return Answer(
            status=404, kind="ResourceNotFoundException", body=f"no {call.model}".encode()
        )

    model = {"serverSideConfig": {"type": "awsBedrockProvisionedThroughput", "arn": ARN}}
    async with (
        BedrockServer(refuse) as aws,
        penstock(config_of(aws, model=model)) as proxy,
    ):
        status, body = await proxy.ask("/v1/chat/completions", chat())

    assert [call.model for call in aws.calls] == [ARN]
    assert status == 404
    assert b'"message":"no ***"' in body


async def test_an_api_key_is_sent_as_a_bearer() -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws, API_KEY)) as proxy:
        status, _ = await proxy.ask("/v1/chat/completions", chat())

    assert status == 200
    assert [call.key for call in aws.calls] == ["bearer"]


async def test_connections_are_kept() -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws)) as proxy:
        for stream in (True, False, True):
            await proxy.ask("/v1/chat/completions", chat(stream=stream))

        assert (len(aws.calls), aws.connections) == (3, 1)


async def test_many_at_once_are_all_let_in() -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws)) as proxy:
        asked = (proxy.ask("/v1/chat/completions", chat(f"number {n}")) for n in range(50))
        answers = await asyncio.gather(*asked)

    assert {(status, text_of(body)) for status, body in answers} == {(200, TEXT)}
    assert aws.refusals == []


async def test_an_anthropic_model_may_be_asked_to_think() -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws)) as proxy:
        await proxy.ask("/v1/chat/completions", chat(reasoning_effort="low"))

    assert b'"thinking":{"type":"enabled","budget_tokens":2048}' in aws.calls[0].body


async def test_another_model_is_not_told_what_it_would_refuse() -> None:
    nova = {"modelName": "amazon.nova-pro-v1:0"}
    async with BedrockServer(hello) as aws, penstock(config_of(aws, model=nova)) as proxy:
        status, _ = await proxy.ask(
            "/v1/chat/completions", chat(reasoning_effort="low", temperature=0)
        )

    assert status == 200
    assert msgspec.json.decode(aws.calls[0].body) == {
        "messages": MESSAGES,
        "inferenceConfig": {"temperature": 0},
    }


async def test_an_arn_that_does_not_say_its_family_can_be_told_it() -> None:
    model = {"modelName": "arn:aws:bedrock:us-west-2:1:application-inference-profile/x"}
    asked = chat(reasoning_effort="low")
    async with BedrockServer(hello) as aws:
        async with penstock(config_of(aws, model=model)) as proxy:
            await proxy.ask("/v1/chat/completions", asked)
        async with penstock(config_of(aws, model=model, modelFamily="anthropic")) as proxy:
            await proxy.ask("/v1/chat/completions", asked)

    assert [b'"thinking"' in call.body for call in aws.calls] == [False, True]


async def test_a_latency_of_the_model_is_asked_for() -> None:
    server = {"type": "awsBedrock", "latencyOptimization": "optimized"}
    async with (
        BedrockServer(hello) as aws,
        penstock(config_of(aws, model={"serverSideConfig": server})) as proxy,
    ):
        await proxy.ask("/v1/chat/completions", chat())

    assert b'"performanceConfig":{"latency":"optimized"}' in aws.calls[0].body


# InvokeModel


async def test_a_model_of_anthropics_is_invoked_in_its_own_dialect() -> None:
    (case,) = [each for each in INVOKED if each.name.endswith("basic")]
    config = {"api": "invoke"}
    model = {"contextWindow": {"maxOutputTokens": 777}}
    async with (
        BedrockServer(lambda _: Answer([case.body])) as aws,
        penstock(config_of(aws, model=model, **config)) as proxy,
    ):
        asked = chat(stream_options={"include_usage": True})
        status, body = await proxy.ask("/v1/chat/completions", asked)
        (line,) = await proxy.ended()

    found = fold(replay(OPENAI_CHAT, [body]))
    assert (status, found.text, found.usage) == (200, case.expect.text, case.expect.usage)
    assert line.outcome == "complete"
    (call,) = aws.calls
    assert (call.operation, call.accept) == (
        "invoke-with-response-stream",
        "application/vnd.amazon.eventstream",
    )
    assert msgspec.json.decode(call.body) == {
        "messages": [{"role": "user", "content": "hi"}],
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 777,
    }


async def test_an_overload_within_a_chunk_is_told() -> None:
    (case,) = [each for each in INVOKED if each.name.endswith("error-in-chunk")]
    async with (
        BedrockServer(lambda _: Answer([case.body])) as aws,
        penstock(config_of(aws, api="invoke")) as proxy,
    ):
        _, body = await proxy.ask("/v1/chat/completions", chat())
        (line,) = await proxy.ended()

    last = replay(OPENAI_CHAT, [body])[-1]
    assert isinstance(last, Failed)
    assert (last.fault.message, last.fault.type) == ("Overloaded", "overloaded_error")
    assert line.outcome == "upstream_error"


# The recordings

STATUSES = {"invalid_request": 400, "rate_limited": 429}


def reads(case: Case) -> Iterator[list[bytes]]:
    yield [case.body]
    yield [case.body[start : start + 61] for start in range(0, len(case.body), 61)]


@pytest.mark.parametrize("case", STREAMED, ids=lambda case: case.name)
async def test_recording_arrives_translated_or_says_that_it_is_broken(case: Case) -> None:
    expected = replay(CONVERSE, [case.body])
    error = case.expect.error
    ways = list(reads(case))
    answers = iter(ways)
    asked = chat(stream_options={"include_usage": True})
    async with (
        BedrockServer(lambda _: Answer(next(answers))) as aws,
        penstock(config_of(aws)) as proxy,
    ):
        told = [await proxy.ask("/v1/chat/completions", asked) for _ in ways]
    for status, body in told:
        if error is not None and error.where == "first_event":
            assert status == STATUSES[error.class_]
            assert error.message is not None
            assert error.message.encode() in body
            continue
        events = replay(OPENAI_CHAT, [body])
        assert status == 200
        if error is not None:
            assert isinstance(events[-1], Failed)
            assert isinstance(expected[-1], Failed)
            assert events[-1].fault.message == expected[-1].fault.message
            assert b"[DONE]" not in body
            continue
        found = fold(events)
        assert (found.text, found.reasoning) == (case.expect.text, case.expect.reasoning)
        assert found.finish_reason == case.expect.finish_reason
        assert found.tool_calls == case.expect.tool_calls
        assert found.usage == case.expect.usage


@pytest.mark.parametrize(
    "case", [case for case in CASES if not case.streamed], ids=lambda case: case.name
)
async def test_a_recorded_refusal_is_told_with_its_type(case: Case) -> None:
    kind = case.http.headers["x-amzn-errortype"].partition(":")[0]
    error, message = case.expect.error, msgspec.json.decode(case.body)["message"]
    assert error is not None
    refusal = Answer(status=case.http.status, kind=kind, body=message.encode())

    async with BedrockServer(lambda _: refusal) as aws, penstock(config_of(aws)) as proxy:
        status, body = await proxy.ask("/v1/chat/completions", chat())

    assert status == STATUSES[error.class_]
    told = msgspec.json.decode(body)["error"]
    assert (told["message"], told["type"]) == (error.message, error.type_raw)


async def test_a_client_that_leaves_frees_the_model() -> None:
    gone = asyncio.Event()

    class Watched(list[bytes]):
        """Pieces without end; the server stops asking for more when its client is gone."""

        def __iter__(self) -> Iterator[bytes]:
            try:
                while True:
                    yield event("contentBlockDelta", contentBlockIndex=0, delta={"text": "a"})
            finally:
                gone.set()

    async with (
        BedrockServer(lambda _: Answer(Watched([b""]))) as aws,
        penstock(config_of(aws)) as proxy,
    ):
        async with proxy.post("/v1/chat/completions", chat()) as response:
            await response.content.readany()
            response.close()
        async with asyncio.timeout(5):
            await gone.wait()
            (line,) = await proxy.ended()

    assert line.outcome == "client_gone"


# Calls with the credentials of where penstock runs


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """An environment in which AWS's library finds nothing."""
    for name in (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
        *("AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_REGION", "AWS_DEFAULT_REGION"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    return monkeypatch


@pytest.fixture(params=["irsa", "pod identity"])
def identity(
    request: pytest.FixtureRequest, nowhere: pytest.MonkeyPatch, tmp_path: Path
) -> Identity:
    return Identity(request.param, nowhere, tmp_path)


class Identity:
    """What EKS puts beside a container, in its two ways."""

    def __init__(self, way: str, env: pytest.MonkeyPatch, folder: Path) -> None:
        self._way = way
        self._env = env
        self._token = folder / "token"

    def granted_by(self, aws: BedrockServer) -> None:
        if self._way == "irsa":
            self._token.write_text(WEB_IDENTITY)
            self._env.setenv("AWS_ROLE_ARN", ROLE)
            self._env.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(self._token))
            self._env.setenv("AWS_ENDPOINT_URL_STS", aws.url)
        else:
            self._token.write_text(POD_IDENTITY)
            self._env.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{aws.url}/credentials")
            self._env.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(self._token))


async def test_an_identity_is_exchanged_for_keys_once(identity: Identity) -> None:
    async with BedrockServer(hello) as aws:
        identity.granted_by(aws)
        async with penstock(config_of(aws, None)) as proxy:
            asked = (proxy.ask("/v1/chat/completions", chat()) for _ in range(10))
            answers = await asyncio.gather(*asked)
            answers.append(await proxy.ask("/v1/chat/completions", chat()))

    assert {(status, text_of(body)) for status, body in answers} == {(200, TEXT)}
    assert (aws.lookups, {call.key for call in aws.calls}) == (1, {"ASIAGIVEN1"})


async def test_keys_that_are_about_to_expire_are_refreshed(identity: Identity) -> None:
    async with BedrockServer(hello) as aws:
        identity.granted_by(aws)
        aws.lives = timedelta(minutes=5)
        async with penstock(config_of(aws, None)) as proxy:
            statuses = [(await proxy.ask("/v1/chat/completions", chat()))[0] for _ in range(2)]

    assert statuses == [200, 200]
    first, second = (call.key for call in aws.calls)
    assert first != second


async def test_a_reload_keeps_the_keys(identity: Identity) -> None:
    async with BedrockServer(hello) as aws:
        identity.granted_by(aws)
        config = config_of(aws, None)
        async with penstock(config) as proxy:
            await proxy.ask("/v1/chat/completions", chat())
            config["penstock"]["timeouts"] = {"connectSeconds": 4}
            assert await proxy.reload(config) == 200
            status, _ = await proxy.ask("/v1/chat/completions", chat())

    assert (status, len(aws.calls), aws.lookups) == (200, 2, 1)


async def test_keys_of_the_environment_are_used(nowhere: pytest.MonkeyPatch) -> None:
    nowhere.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    nowhere.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    async with BedrockServer(hello) as aws, penstock(config_of(aws, "")) as proxy:
        status, _ = await proxy.ask("/v1/chat/completions", chat())

    assert (status, [call.key for call in aws.calls]) == (200, [KEY_ID])


async def test_a_client_that_leaves_while_keys_are_looked_up_harms_nobody(
    identity: Identity,
) -> None:
    async with BedrockServer(hello) as aws:
        identity.granted_by(aws)
        aws.gives_keys.clear()
        async with penstock(config_of(aws, None)) as proxy, asyncio.TaskGroup() as group:
            impatient = group.create_task(proxy.ask("/v1/chat/completions", chat()))
            await aws.asked_for_keys.wait()
            impatient.cancel()
            await proxy.ended()
            aws.gives_keys.set()
            status, _ = await proxy.ask("/v1/chat/completions", chat())

    assert status == 200


async def test_without_credentials_the_client_is_told_so(nowhere: pytest.MonkeyPatch) -> None:
    async with BedrockServer(hello) as aws, penstock(config_of(aws, None)) as proxy:
        asked = (proxy.ask("/v1/chat/completions", chat()) for _ in range(5))
        answers = await asyncio.gather(*asked)
        lines = await proxy.ended(5)

    assert {status for status, _ in answers} == {502}
    assert b"penstock has no AWS credentials to call the model with" in answers[0][1]
    assert {line.outcome for line in lines} == {"upstream_error"}
    assert aws.calls == []


async def test_an_identity_that_is_refused_is_no_way_to_see_its_token(
    identity: Identity, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with BedrockServer(hello) as aws:
        identity.granted_by(aws)
        (tmp_path / "token").write_text("another.secret.token")
        async with penstock(config_of(aws, None)) as proxy:
            status, body = await proxy.ask("/v1/chat/completions", chat())

    assert status == 502
    assert "another.secret.token" not in body.decode() + caplog.text


# Nothing secret is told


async def test_what_aws_quotes_of_a_signature_stays_here(identity: Identity) -> None:
    """AWS answers a bad signature with all that was signed, the session's token among it."""

    secrets = f"{SECRET[::-1]} session+token/1= ASIAGIVEN1"
    quoted = f"It is wrong. The Canonical String for this request should have been {secrets}"
    answers = iter(
        [
            Answer(status=403, kind="InvalidSignatureException", body=quoted.encode()),
            Answer(status=403, kind="AccessDeniedException", body=secrets.encode()),
        ]
    )
    async with BedrockServer(lambda _: next(answers)) as aws:
        identity.granted_by(aws)
        async with penstock(config_of(aws, None)) as proxy:
            await proxy.ask("/v1/chat/completions", chat())
            status, body = await proxy.ask("/v1/chat/completions", chat())
            shown = body.decode() + await proxy.metrics() + str(await proxy.status())
            lines = str(await proxy.ended(2))

    assert status == 502
    for secret in (SECRET[::-1], "session+token/1=", "ASIAGIVEN1"):
        assert secret not in shown + lines


async def test_a_wrong_key_is_refused_without_a_word_of_it() -> None:
    wrong = SECRET.replace("EXAMPLE", "WRONGER")
    async with BedrockServer(hello) as aws, penstock(config_of(aws, f"{KEY_ID}:{wrong}")) as proxy:
        status, body = await proxy.ask("/v1/chat/completions", chat())
        shown = body.decode() + await proxy.metrics() + str(await proxy.ended())

    assert (status, aws.refusals) == (502, ["InvalidSignatureException"])
    assert msgspec.json.decode(body)["error"]["message"] == (
        "The request signature we calculated does not match."
    )
    assert wrong not in shown
    assert KEY_ID not in shown
