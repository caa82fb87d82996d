"""What penstock knows and nobody may see: it is planted everywhere, then looked for everywhere."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest

from proxy.log import Log, LogHandler
from tests.e2e.frames import TOKEN, same, stream
from tests.e2e.rawclient import raw_client
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import Conversation, Upstream, response

CHAT = "/v1/chat/completions"
CLIENT_KEY = "canary0client0key0000001"
OTHER_KEY = "canary0wrong0key00000001"
PROMPT = "canary0prompt00000000001"
# The first is of a known form, the second could be any word.
ACCESS_TOKENS = ["hf_canary0access0token01", "canary0access0token00001"]


def guarded(url: str, token: str) -> dict[str, Any]:
    """A configuration with both kinds of secret in it."""
    config = config_for(url, penstock={"clients": [{"name": "alice", "key": CLIENT_KEY}]})
    (override,) = config["modelConfiguration"]["providerOverrides"]
    override["serverSideConfig"]["endpoints"][0]["accessToken"] = token
    return config


def logged(proxy: Proxy) -> str:
    """Every byte of the log: what a line might say beside what `Line` knows."""
    proxy.lines()
    return proxy._log.getvalue().decode()


def echoes(token: str) -> dict[str, bytes]:
    """Answers of an upstream that repeats what it was sent."""
    said = f"Incorrect API key provided: {token}. See http://10.0.0.1/keys".encode()
    error = b'{"error":{"message":"%b","code":"%b"}}' % (said, token.encode())
    return {
        "status": response(error, status=401),
        "header": response(b"{}", status=401, headers=b"X-Key: %b\r\n" % token.encode()),
        "text": response(said, status=400),
        "first event": stream(b"data: " + error + b"\n\n"),
        "later event": stream(TOKEN, b"data: " + error + b"\n\n"),
        "not http": token.encode() + b"\r\n\r\n",
        "page": response(b"<html>%b" % said, headers=b"Content-Type: text/html\r\n"),
    }


@pytest.mark.parametrize("token", ACCESS_TOKENS)
@pytest.mark.parametrize("way", echoes(""))
async def test_no_secret_is_shown_when_the_upstream_repeats_it(way: str, token: str) -> None:
    async with (
        Upstream(same(echoes(token)[way])) as upstream,
        penstock(guarded(upstream.url, token)) as proxy,
    ):
        keys = {"Authorization": f"Bearer {CLIENT_KEY}"}
        async with proxy.post(CHAT, chat(PROMPT), headers=keys) as got:
            shown = [str(got.headers), (await got.read()).decode()]
        (line,) = await proxy.ended()
        shown += [await proxy.metrics(), repr(await proxy.status()), logged(proxy)]

    assert upstream.requests[0].headers["authorization"] == f"Bearer {token}"
    assert line.client == "alice"
    for secret in (token, CLIENT_KEY, PROMPT, "http://10.0.0.1"):
        assert secret not in "\n".join(shown)


async def test_no_token_is_shown_when_the_upstream_repeats_the_target_it_stood_in() -> None:
    token = "canary/access/token=1"

    async def repeat(up: Conversation) -> None:
        async for request in up.requests():
            up.send(response(b"no route " + request.target.encode(), status=404))

    async with Upstream(repeat) as upstream:
        endpoints = [{"url": upstream.url, "accessTokenQuery": token}]
        async with penstock(config_for(upstream.url, settings={"endpoints": endpoints})) as proxy:
            _, body = await proxy.ask(CHAT, chat())

        assert "canary%2Faccess%2Ftoken%3D1" in upstream.requests[0].target
    assert b"no route" in body
    assert b"canary" not in body


async def test_a_wrong_key_is_not_repeated() -> None:
    async with (
        Upstream() as upstream,
        penstock(guarded(upstream.url, ACCESS_TOKENS[0])) as proxy,
    ):
        keys = {"Authorization": f"Bearer {OTHER_KEY}", "X-Request-Id": "r"}
        status, body = await proxy.ask(CHAT, chat(PROMPT), headers=keys)
        (line,) = await proxy.ended()
        shown = [body.decode(), await proxy.metrics(), repr(await proxy.status()), logged(proxy)]

        assert (status, line.client, upstream.connections) == (401, "anonymous", 0)
        for secret in (OTHER_KEY, CLIENT_KEY, ACCESS_TOKENS[0], PROMPT):
            assert secret not in "\n".join(shown)


@pytest.mark.parametrize("line", ["Authorization : Bearer {}", "X Y: {}", "Host: a\x00{}"])
async def test_a_request_that_cannot_be_parsed_is_not_repeated_in_the_log(line: str) -> None:
    written = io.BytesIO()
    log = Log(written)
    handler = LogHandler(log)  # as `serve` puts it there
    logging.getLogger().addHandler(handler)
    try:
        async with (
            Upstream() as upstream,
            penstock(config_for(upstream.url)) as proxy,
            raw_client(proxy.url) as client,
        ):
            client.ask(CHAT, chat(), line.format(CLIENT_KEY))
            assert (await client.answer()).status == 400
    finally:
        logging.getLogger().removeHandler(handler)
    log.flush()

    assert CLIENT_KEY not in written.getvalue().decode()
    assert "Traceback" not in written.getvalue().decode()


async def test_the_clients_key_does_not_reach_the_model_server() -> None:
    async with (
        Upstream(same(stream(TOKEN))) as upstream,
        penstock(guarded(upstream.url, ACCESS_TOKENS[0])) as proxy,
    ):
        keys = {"Authorization": f"Bearer {CLIENT_KEY}", "X-Api-Key": CLIENT_KEY}
        await proxy.ask(f"{CHAT}?key={CLIENT_KEY}", chat(), headers=keys)

    (request,) = upstream.requests
    assert CLIENT_KEY.encode() not in request.head + request.body


async def test_unknown_names_do_not_become_labels() -> None:
    async with Upstream() as upstream, penstock(config_for(upstream.url)) as proxy:
        for number in range(20):
            await proxy.ask(CHAT, {"model": f"canary-{number}", "messages": []})
            await proxy.ask(f"/canary-{number}", {})

        assert "canary" not in await proxy.metrics()
        assert {line.model for line in await proxy.ended(20)} == {"unknown"}
        assert MODEL in repr(await proxy.status())
