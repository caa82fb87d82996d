"""What the file says and clients must not see: in errors that repeat a whole request, in names."""

from __future__ import annotations

import msgspec
import pytest

from tests.e2e.frames import DONE, FINISH, TOKEN, USAGE, same, stream
from tests.e2e.test_canaries import (
    FILES,
    Answer,
    Canaries,
    read_by_clients,
    saying,
)
from tests.e2e.test_sourcegraph_api import CODE, STREAM, asking, at, listened
from tests.e2e.watched import watched
from tests.harness import config_for, penstock
from tests.scripted import Request, Upstream, response


def whole_request(request: Request) -> str:
    """All that was sent, as a gateway's debugging error has it."""
    headers = "\n".join(f"{name}: {value}" for name, value in request.headers.items())
    return f"POST {request.target}\n{headers}\n\n{request.body.decode()}"


def echoing(request: Request) -> bytes:
    """An error that repeats the whole request."""
    body = msgspec.json.encode({"error": {"message": whole_request(request)}})
    return response(body, status=400, headers=b"Content-Type: application/json\r\n")


def quoting(request: Request) -> bytes:
    """The same as FastAPI has it: Python's repr, in a list of details."""
    body: object = msgspec.json.decode(request.body)
    detail = [{"loc": ["body"], "msg": repr(body), "type": request.target}]
    body = msgspec.json.encode({"detail": detail})
    return response(body, status=422, headers=b"Content-Type: application/json\r\n")


def echoing_late(request: Request) -> bytes:
    """The same, inside a stream."""
    if b'"stream":true' not in request.body:
        return echoing(request)
    error = msgspec.json.encode({"error": {"message": whole_request(request)}})
    return stream(TOKEN, b"data: %b\n\n" % error)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("server", [echoing, quoting, echoing_late])
async def test_an_error_that_repeats_the_whole_request_tells_nothing(
    file: str, server: Answer
) -> None:
    async with Upstream(saying(server)) as upstream:
        canaries = Canaries(upstream.url)
        config = canaries.plant(FILES[file]())
        (client,) = config["penstock"]["clients"]
        async with watched(config) as proxy:
            shown = await read_by_clients(proxy, client["key"])
            shown.append(("log", proxy.log.decode()))

    assert {(where, path) for where, text in shown for path in canaries.in_text(text)} == set()
    sent = " ".join(whole_request(each) for each in upstream.requests)
    reached = {path[-1] for path in canaries.in_text(sent)}
    wanted = {"systemPreInstruction", "user", "apiVersion"} if file == "newer" else {"user"}
    assert reached >= wanted


def hiding(url: str) -> dict[str, object]:
    """A model whose name upstream is a secret."""
    config = config_for(url)
    (model,) = config["modelConfiguration"]["modelOverrides"]
    model["modelName"] = "public"
    model["serverSideConfig"] = {"type": "openaicompatible", "apiModel": "hush-hush"}
    return config


NAMED = TOKEN.replace(b'"id":"x"', b'"id":"x","model":"hush-hush-2026"')


@pytest.mark.parametrize("path", [STREAM, CODE])
@pytest.mark.parametrize("version", [5, 6, 7, 8, 9])
async def test_a_hidden_name_is_not_told_and_the_reference_is(path: str, version: int) -> None:
    whole = (
        b'{"model":"hush-hush-2026","choices":[{"index":0,"text":"x","finish_reason":"stop",'
        b'"message":{"content":"x"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
    )
    async with (
        Upstream(same(stream(NAMED, FINISH, USAGE + DONE))) as upstream,
        penstock(hiding(upstream.url)) as proxy,
    ):
        got = await listened(proxy, path, version)
        _, raw = await proxy.ask(at(path, version), asking(stream=True))
    async with Upstream(same(response(whole))) as upstream, penstock(hiding(upstream.url)) as proxy:
        _, body = await proxy.ask(at(path, version), asking(stream=False))

    assert (got.text, got.model) == ("Hi", None)
    assert got.usage is not None
    assert b'"modelref":"lab::v1::model"}' in raw
    assert b'"modelref":"lab::v1::model"}' in body
    assert b"hush" not in raw + body


async def test_the_servers_own_name_of_a_model_is_told() -> None:
    async with (
        Upstream(same(stream(NAMED, FINISH, USAGE + DONE))) as upstream,
        penstock(config_for(upstream.url)) as proxy,
    ):
        got = await listened(proxy, STREAM, 5)

    assert got.model == "hush-hush-2026"
