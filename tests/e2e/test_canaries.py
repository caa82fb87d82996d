"""Nothing of a server side leaves: a canary in every such key, looked for in all there is to read.

The configuration is made by looking at the structs, so a new key is in it. A new text is planted
where it is below a `serverSideConfig`, and elsewhere must be named here as one that is told.
The routes are those of the listeners, so a new route is asked too.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from proxy.api import admin
from proxy.api.door import Route
from proxy.api.listeners import client_routes
from proxy.config.schema import Completions, Knobs, OpenAICompatibleModel
from proxy.log import LogHandler
from proxy.providers import PROVIDERS
from tests.e2e.captured import debug
from tests.e2e.frames import DONE, FINISH, TOKEN, stream
from tests.e2e.watched import Watched, watched
from tests.proxy.config.everything import SERVER_SIDE, Json, document, full
from tests.scripted import Conversation, Request, Script, Upstream, response

Place: TypeAlias = tuple[str | int, ...]
Answer: TypeAlias = Callable[[Request], bytes]

CANARY = re.compile(r"canary0x[0-9]{4}x0word")

# Texts of the file that clients, the log or the operators' pages are told on purpose.
TOLD = frozenset(
    {
        *("id", "displayName", "modelRef", "modelName", "capabilities", "category", "status"),
        *("tier", "reasoningEffort", "unit", "chat", "fastChat", "codeCompletion", "name"),
        *("models", "provider", "chatModel", "fastChatModel", "completionModel", "model"),
        *("azureChatModel", "azureCompletionModel", "smartContextWindow"),
        *(field.encode_name for field in msgspec.structs.fields(Knobs)),
    }
)
# Texts that are hidden though they stand outside of a `serverSideConfig`.
HIDDEN = frozenset({"key", "systemPreInstruction", "accessToken", "endpoint", "user"})
# Of a fixed set of words, so that nothing can be planted there; and the name that is shown.
WORDS = frozenset(
    {
        "type",
        "dialect",
        "usage",
        "latencyOptimization",
        "resolve",
        "modelFamily",
        "api",
        "name",
        "region",
    }
)


class Canaries:
    """A configuration's canaries, and the keys that they were planted in."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.places: dict[str, Place] = {}

    def plant(self, value: Any, path: Place = ()) -> Any:  # Any: JSON, walked into
        """The value, with a canary in the place of each text that must not leave."""
        if isinstance(value, dict):
            return {key: self.plant(member, (*path, key)) for key, member in value.items()}
        if isinstance(value, list):
            return [self.plant(member, (*path, index)) for index, member in enumerate(value)]
        if not isinstance(value, str) or not _is_hidden(path):
            return value
        canary = f"canary0x{len(self.places):04}x0word"
        self.places[canary] = path
        return f"{self._url}/{canary}" if path[-1] in ("url", "endpoint", "authority") else canary

    def in_text(self, text: str) -> list[Place]:
        """The keys whose canaries are in it."""
        return [self.places[found] for found in CANARY.findall(text)]


def _is_hidden(path: Place) -> bool:
    names = [step for step in path if isinstance(step, str)]
    if "serverSideConfig" in names or "sourcegraph" in names:
        return names[-1] not in WORDS
    assert names[-1] in TOLD | HIDDEN, f"is this told to anybody? {path}"
    return names[-1] in HIDDEN


def whole_file() -> Json:
    """Every key there is, each kind of provider with a model, and each way to send a token."""
    site = document(set())
    block = site["modelConfiguration"]
    overrides, models = block["providerOverrides"], block["modelOverrides"]
    hosted = full(PROVIDERS["openaicompatible"].settings)
    (endpoint,) = hosted["endpoints"]
    for token in ("accessToken", "accessTokenQuery"):
        alone = {"url": endpoint["url"], token: endpoint[token]}
        server = {**hosted, "type": "openaicompatible", "endpoints": [alone]}
        overrides.append({**overrides[0], "id": f"p{len(overrides)}", "serverSideConfig": server})
    identity = {"credentialsFile": "/run/key"}
    google = {"type": "google", "googleWorkloadIdentityConfig": identity}
    overrides.append({**overrides[0], "id": f"p{len(overrides)}", "serverSideConfig": google})
    models += [
        {
            **models[0],
            "modelRef": f"p{number}::v1::m",
            "serverSideConfig": full(OpenAICompatibleModel),
        }
        for number in range(1, len(overrides))
    ]
    for model in models:
        model["capabilities"] = ["chat", "autocomplete"]
    block["selfHostedModels"] = [
        {
            "provider": "p1",
            "model": "starcoder2-7b@v1",
            "override": {"serverSideConfig": {"apiModel": "x"}},
        }
    ]
    (client,) = site["penstock"]["clients"]
    del client["models"]
    site["penstock"] = {
        "clients": [client],
        "health": {"intervalSeconds": 0},
    }  # the rest has no text that could tell
    return site


def older_file() -> Json:
    """The older block, of the provider that has most to say."""
    block = {**full(Completions), "provider": "azure-openai", "enabled": True}
    for name in ("chatModel", "fastChatModel", "completionModel", "model"):
        block[name] = "deployment"
    return {
        "completions": {**block, "accessToken": "x", "user": "x", "smartContextWindow": "enabled"},
        "penstock": {
            "clients": [{"name": "text", "key": "x"}],
            "health": {"intervalSeconds": 0},
        },
    }


FILES = {"newer": whole_file, "older": older_file}


# The model server


def model_of(request: Request) -> str:
    """The model as it was asked for, in the body or, as Azure has it, in the path."""
    _, _, deployment = request.target.partition("/deployments/")
    body = msgspec.json.decode(request.body)
    return str(body.get("model") or deployment.partition("/")[0])


def repeated(request: Request) -> str:
    """What servers like to repeat of a request: the path, keys, and the name of the model."""
    path, _, query = request.target.partition("?")
    _, _, token = query.partition("access_token=")
    words = CANARY.findall(" ".join((token, model_of(request), *request.headers.values())))
    return " and ".join((f"Cannot POST {path}", *words))


def failing(request: Request) -> bytes:
    """An error that repeats what was sent."""
    said = repeated(request)
    error = {"message": f"Bearer: {said}", "param": said, "code": said, "type": said}
    body = msgspec.json.encode({"error": error})
    headers = b"Content-Type: application/json\r\nX-Said: %b\r\n" % said.encode()
    return response(body, status=404, headers=headers)


def late(request: Request) -> bytes:
    """The same, after a stream has begun."""
    if b'"stream":true' not in request.body:
        return failing(request)
    body = failing(request).partition(b"\r\n\r\n")[2]
    return stream(_token(request), b"data: %b\n\n" % body)


def answering(request: Request) -> bytes:
    """A good answer, that names the model as it was asked for."""
    path = request.target.partition("?")[0]
    if path.endswith("/generate_stream"):
        return stream(b'data:{"token":{"id":1,"text":"Hi"},"generated_text":"Hi"}\n\n')
    if not path.endswith("/completions"):
        return response(b'{"generated_text":"Hi"}')
    if b'"stream":true' in request.body:
        return stream(_token(request), FINISH, DONE)
    choice = {"index": 0, "text": "Hi", "message": {"content": "Hi"}, "finish_reason": "stop"}
    return response(msgspec.json.encode({"model": model_of(request), "choices": [choice]}))


def _token(request: Request) -> bytes:
    named = b'"id":"x","model":"%b"' % model_of(request).encode()
    chunk = TOKEN.replace(b'"id":"x"', named)
    if "/chat/completions" in request.target:
        return chunk
    return chunk.replace(b'"delta":{"content":"Hi"}', b'"text":"Hi"')


def saying(answer: Answer) -> Script:
    """A server that answers each request so."""

    async def script(up: Conversation) -> None:
        async for request in up.requests():
            up.send(answer(request))

    return script


# Whatever can be read


def requests_for(route: Route, ref: str) -> Iterator[tuple[str, str, object]]:
    """Method, path and body of what clients may ask of a route."""
    path = route.path.replace("{ref}", ref)
    if route.method != "POST":
        yield "DELETE" if route.method == "*" else route.method, path, None
        return
    is_cody = path.startswith("/.api/completions/")
    turn = {"speaker": "human", "text": "a"} if is_cody else {"role": "user", "content": "a"}
    content: dict[str, object] = {"messages": [turn]}
    if not (is_cody or path.endswith("/chat/completions")):
        content = {"prompt": "a", "inputs": "a"}
    for streamed in (True, False):
        for version in ("", "?api-version=2", "?api-version=9") if is_cody else ("",):
            yield "POST", path + version, {"model": ref, "stream": streamed, **content}


async def read_by_clients(proxy: Watched, key: str) -> list[tuple[str, str]]:
    """All that clients are told, each with where."""
    headers = {"Authorization": f"Bearer {key}"}
    shown = []
    for ref in proxy.service.registry.models:
        for route in client_routes(proxy.service):
            for method, path, body in requests_for(route, ref):
                data = None if body is None else msgspec.json.encode(body)
                async with proxy.session.request(
                    method, proxy.url + path, data=data, headers=headers
                ) as got:
                    shown.append((f"{method} {path}", f"{got.headers} {await got.text()}"))
    return shown


async def read_by_operators(proxy: Watched) -> list[tuple[str, str]]:
    """All that the second listener tells, after a reload that worked or did not."""
    shown = []
    for route in admin.routes(proxy.service):
        async with proxy.session.request(route.method, proxy.admin_url + route.path) as got:
            if route.path == "/events":
                text = (await got.content.readuntil(b"\n\n")).decode()
            else:
                text = await got.text()
        shown.append((route.path, f"{got.headers} {text}"))
    return shown


def spoiled(value: Any) -> Any:  # Any: JSON, walked into
    """The same with a key in every object that nobody knows."""
    if isinstance(value, dict):
        return {**{key: spoiled(member) for key, member in value.items()}, "oops": 1}
    return [spoiled(member) for member in value] if isinstance(value, list) else value


@asynccontextmanager
async def everything_logged(proxy: Watched) -> AsyncIterator[None]:
    """What any module logs goes to the log, as `serve` has it."""
    handler = LogHandler(proxy.service.log)
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("server", [answering, failing, late])
async def test_nothing_of_a_server_side_leaves_by_any_route_log_line_metric_or_capture(
    file: str, server: Answer, tmp_path: Path
) -> None:
    async with Upstream(saying(server)) as upstream:
        canaries = Canaries(upstream.url)
        config = canaries.plant(FILES[file]())
        (client,) = config["penstock"]["clients"]
        config["penstock"]["capture"] = {"directory": str(tmp_path), "maxFileBytes": 10**9}
        async with watched(config) as proxy, everything_logged(proxy):
            await debug(proxy, "POST", {"client": client["name"]})
            shown = await read_by_clients(proxy, client["key"])
            shown += await read_by_operators(proxy)
            proxy.put(spoiled(config))
            shown += await read_by_operators(proxy)
            last = await proxy.described()
            answered = {each.model for each in proxy.entries() if each.outcome == "complete"}
            shown.append(("log", proxy.log.decode()))
    captured = [each.read_text() for each in tmp_path.glob("*.capture")]  # all: it has stopped
    shown += [("capture", each) for each in captured]

    assert not last.config.ok
    assert len(captured) > len(answered)
    leaks = {(where, path) for where, text in shown for path in canaries.in_text(text)}
    assert leaks == set()
    heads = " ".join(f"{each.target} {each.headers}" for each in upstream.requests)
    sent = {path[-1] for path in canaries.in_text(heads)}
    assert sent >= ({"url", "accessTokenQuery", "X-Key"} if file == "newer" else {"accessToken"})
    called = {"p0", "p1", "p2", "p3", "p4", "p9", "p10"} if file == "newer" else {"openai"}
    if server is answering:
        assert {ref.partition("::")[0] for ref in answered} == called


def test_every_secret_is_a_canary() -> None:
    planted = Canaries("http://h.example").plant(whole_file())

    assert "hunter2" not in str(planted)
    assert "hunter2" in str(whole_file())


async def test_no_key_of_a_server_side_is_in_what_clients_are_told_of_models() -> None:
    structs = (*SERVER_SIDE, *(kind.settings for kind in PROVIDERS.values()))
    hidden = {field.encode_name for each in structs for field in msgspec.structs.fields(each)}
    config = Canaries("http://h.example").plant(whole_file())
    headers = {"Authorization": f"Bearer {config['penstock']['clients'][0]['key']}"}
    async with watched(config) as proxy:
        for route in client_routes(proxy.service):
            path = route.path.replace("{ref}", "p0::v1::m")
            if route.method != "GET":
                continue
            async with proxy.session.get(proxy.url + path, headers=headers) as got:
                body = await got.read()
            kept = not path.startswith("/v1/responses/")  # of which none is kept
            assert got.status == (200 if kept else 404)
            assert hidden.isdisjoint(keys(msgspec.json.decode(body or b"{}"))), path


def keys(value: Any) -> Iterator[str]:  # Any: JSON, walked into
    """The keys of all objects in it."""
    if isinstance(value, dict):
        for key, member in value.items():
            yield key
            yield from keys(member)
    elif isinstance(value, list):
        for member in value:
            yield from keys(member)
