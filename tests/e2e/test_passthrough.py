"""Embeddings, reranking and tokens through a running penstock."""

from __future__ import annotations

import struct
from base64 import b64encode
from typing import Any

import msgspec
import openai
import pytest

from tests.e2e.frames import same
from tests.harness import MODEL, config_for, penstock
from tests.scripted import Conversation, Upstream, response

# Values that a float of four bytes holds exactly.
VECTORS = ([0.5, -0.25, 1.0], [0.0, 2.0, -8.0])
USAGE = {"prompt_tokens": 5, "total_tokens": 5}
SPACED = b'{ "object":"list", "data":[ {"embedding":[0.50]} ], "usage":{"prompt_tokens":5} }\n'
TGI: dict[str, Any] = {"kind": "huggingface-tgi"}


async def embed(up: Conversation) -> None:
    """As OpenAI's server would: floats, or their bytes in base64."""
    async for request in up.requests():
        asked = msgspec.json.decode(request.body)
        packed = [b64encode(struct.pack("<3f", *vector)).decode() for vector in VECTORS]
        vectors = packed if asked.get("encoding_format") == "base64" else VECTORS
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        answer = {"object": "list", "model": asked["model"], "data": data, "usage": USAGE}
        up.send(response(msgspec.json.encode(answer)))


def sent(upstream: Upstream) -> Any:
    (request,) = upstream.requests
    return msgspec.json.decode(request.body)


@pytest.mark.parametrize("form", ["float", "base64", None])
async def test_openai_gets_its_embeddings_in_either_form(form: str | None) -> None:
    async with (
        Upstream(embed) as upstream,
        penstock(config_for(upstream.url)) as proxy,
        openai.AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="k", max_retries=0) as client,
    ):
        encoding: Any = openai.omit if form is None else form
        answer = await client.embeddings.create(
            model=MODEL, input=["hello", "there"], encoding_format=encoding
        )
        (line,) = await proxy.ended()
        metrics = await proxy.metrics()

    asked_for = sent(upstream)
    assert upstream.requests[0].target == "/v1/embeddings"
    assert (asked_for["model"], asked_for["input"]) == ("model", ["hello", "there"])
    if form == "base64":  # whoever asks for it by name is given the text itself
        assert {type(each.embedding).__name__ for each in answer.data} == {"str"}
    else:
        assert [each.embedding for each in answer.data] == list(VECTORS)
    assert answer.usage.prompt_tokens == 5
    assert (line.outcome, line.exact, line.input_tokens) == ("complete", True, 5)
    assert f'dialect="openai-embeddings",model="{MODEL}",outcome="complete"' in metrics


@pytest.mark.parametrize("input_", [b'"a"', b'["a", "\\u0062"]', b"[1, 2]", b"[[1],[2]]"])
async def test_between_client_and_server_only_the_models_name_changes(input_: bytes) -> None:
    body = b'{ "input":%b, "dimensions":1e1, "model":"%b" }'
    async with (
        Upstream(same(response(SPACED))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        answer = await proxy.ask("/v1/embeddings", body % (input_, MODEL.encode()))

    assert answer == (200, SPACED)
    assert upstream.requests[0].body == (b'{"input":%b,"dimensions":1e1,"model":"model"}' % input_)


async def test_an_answer_of_megabytes_arrives_and_one_over_the_limit_does_not() -> None:
    body = b'{"data":[%b]}' % b",".join([b"0.123456789"] * 400_000)
    asked = {"model": MODEL, "input": "a"}
    async with Upstream(same(response(body))) as upstream:
        async with penstock(config_for(upstream.url)) as proxy:
            assert await proxy.ask("/v1/embeddings", asked) == (200, body)
        limits = {"limits": {"maxEventBytes": 1_000_000}}
        async with penstock(config_for(upstream.url, penstock=limits)) as proxy:
            status, error = await proxy.ask("/v1/embeddings", asked)

    assert status == 502
    assert b"too large" in error


@pytest.mark.parametrize(
    ("path", "target", "answer"),
    [
        ("/v1/rerank", "/v1/rerank", b'{"results":[{"index":0,"relevance_score":0.5}]}'),
        ("/rerank", "/v1/rerank", b'{"results":[]}'),
        ("/tokenize", "/tokenize", b'{"tokens":[1,2]}'),
        ("/detokenize", "/detokenize", b'{"prompt":"a"}'),
        (f"/models/{MODEL}/tokenize", "/tokenize", b'{"tokens":[]}'),
    ],
)
async def test_other_work_is_passed_through(path: str, target: str, answer: bytes) -> None:
    async with (
        Upstream(same(response(answer))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        assert await proxy.ask(path, {"model": MODEL, "prompt": "a"}) == (200, answer)
        (line,) = await proxy.ended()

    assert upstream.requests[0].target == target
    assert sent(upstream) == {"model": "model", "prompt": "a"}
    assert (line.outcome, line.exact) == ("complete", True)


@pytest.mark.parametrize("dialect", ["openai", "tgi"])
async def test_tgi_tokenizes_with_the_model_that_is_there(dialect: str) -> None:
    tokens = b'[{"id":4,"text":"hi","start":0,"stop":2}]'
    body = b'{ "inputs":"hi" }'
    settings = {"dialect": dialect}
    async with (
        Upstream(same(response(tokens))) as upstream,
        penstock(config_for(upstream.url, settings=settings, **TGI)) as proxy,
    ):
        assert await proxy.ask("/tokenize", body) == (200, tokens)

    assert (upstream.requests[0].target, upstream.requests[0].body) == ("/tokenize", body)


@pytest.mark.parametrize(
    ("path", "work"),
    [
        ("/v1/embeddings", "embedding"),
        ("/v1/rerank", "reranking"),
        ("/detokenize", "detokenizing"),
    ],
)
async def test_a_server_that_does_no_such_work_is_not_asked(path: str, work: str) -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url, **TGI)) as proxy:
        status, body = await proxy.ask(path, {"model": MODEL})
        (line,) = await proxy.ended()

        assert (status, upstream.connections) == (400, 0)
        assert msgspec.json.decode(body)["error"]["message"] == (
            f'the model "{MODEL}" does no {work}'
        )
        assert line.outcome == "rejected"


async def test_embeddings_need_a_name_for_the_default_models_do_other_work() -> None:
    async with penstock(config_for("http://127.0.0.1:9")) as proxy:
        status, body = await proxy.ask("/v1/embeddings", {"input": "a"})

    assert (status, msgspec.json.decode(body)["error"]["message"]) == (400, "model: missing")


async def test_a_hidden_name_is_not_shown_by_an_answer_that_repeats_it() -> None:
    answer = b'{ "data":[ 0.10 ], "model":"secret-name", "usage":{"prompt_tokens":1}}'
    async with Upstream(same(response(answer))) as upstream:
        config = config_for(upstream.url)
        server = {"type": "openaicompatible", "apiModel": "secret-name"}
        config["modelConfiguration"]["modelOverrides"][0]["serverSideConfig"] = server
        async with penstock(config) as proxy:
            status, body = await proxy.ask("/v1/embeddings", {"model": MODEL, "input": "a", "x": 1})
            (line,) = await proxy.ended()

    asked = msgspec.json.decode(upstream.requests[0].body)
    assert asked == {"model": "secret-name", "input": "a", "x": 1}
    assert status == 200
    assert body == b'{"data":[ 0.10 ],"model":"%b","usage":{"prompt_tokens":1}}' % MODEL.encode()
    assert (line.input_tokens, line.exact) == (1, True)


async def test_a_hidden_name_is_hidden_in_a_refusal_of_embeddings() -> None:
    refusal = b'{"error":{"message":"no secret-name here","type":"secret-name"}}'
    async with Upstream(same(response(refusal, status=404))) as upstream:
        config = config_for(upstream.url)
        server = {"type": "openaicompatible", "apiModel": "secret-name"}
        config["modelConfiguration"]["modelOverrides"][0]["serverSideConfig"] = server
        async with penstock(config) as proxy:
            status, body = await proxy.ask("/v1/embeddings", {"model": MODEL, "input": "a"})

    assert (status, b"secret-name" in body) == (404, False)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (response(b'{"error":{"message":"busy","code":429}}', status=429), 429),
        (response(b'{"error":{"message":"no room","code":503}}'), 503),
        (response(b"<html>", headers=b"content-type: text/html\r\n"), 502),
    ],
)
async def test_a_failure_is_told_as_for_every_request(raw: bytes, status: int) -> None:
    async with (
        Upstream(same(raw)) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        told, body = await proxy.ask("/v1/embeddings", {"model": MODEL, "input": "a"})

    assert told == status
    assert body.startswith(b'{"error":{"message":')


async def test_keys_and_models_are_checked_as_for_every_request() -> None:
    clients = [{"name": "few", "key": "key-few", "models": ["lab::v1::other"]}]
    config = config_for("http://127.0.0.1:9", penstock={"clients": clients})
    models = config["modelConfiguration"]["modelOverrides"]
    models.append({**models[0], "modelRef": "lab::v1::other"})
    asked = {"model": MODEL, "input": "a"}
    async with penstock(config) as proxy:
        nobody, _ = await proxy.ask("/v1/embeddings", asked)
        bearer = {"Authorization": "Bearer key-few"}
        few, _ = await proxy.ask("/v1/embeddings", asked, headers=bearer)

    assert (nobody, few) == (401, 403)
