"""The doctor: what it says of healthy servers, and of each trap on the way to one."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from proxy.demo import Settings
from proxy.doctor import Examination, Examined, Level, targets
from proxy.endpoints import LiveState
from proxy.registry import build
from proxy.transport import client_tls
from tests.e2e.demo_server import demo_server
from tests.e2e.frames import DONE, FINISH, ROLE, TOKEN, USAGE, whole_saying
from tests.e2e.program import run
from tests.harness import MODEL, config_for
from tests.scripted import (
    LAST_CHUNK,
    STREAM_HEAD,
    Conversation,
    Request,
    Upstream,
    chunk,
    make_certificate,
    response,
)

KEY = "canary-key-2718281828459045"
EX_USAGE, EX_CONFIG = 2, 78

Answer: TypeAlias = Callable[["Engine", Conversation, int], Awaitable[None]]


async def token_by_token(engine: Engine, up: Conversation, tokens: int) -> None:
    """As an engine does it: some ten milliseconds each, and it stops when nobody listens."""
    engine.running += 1
    up.send(STREAM_HEAD + chunk(ROLE))
    async with asyncio.TaskGroup() as group:
        left = group.create_task(up.gone())
        for _ in range(tokens):
            await asyncio.wait((left,), timeout=0.01)
            if left.done():
                break
            up.send(chunk(TOKEN))
        up.send(chunk(FINISH + USAGE + DONE) + LAST_CHUNK)
        engine.running -= 1


class Engine:
    """A model server: what it answers to each GET, and how it streams."""

    def __init__(
        self,
        pages: Mapping[str, bytes] | None = None,
        answer: Answer = token_by_token,
        gauge: str = 'vllm:num_requests_running{engine="0"} %d\n',
        models: str | None = "/v1/models",
    ) -> None:
        self.running = 0
        self._pages = dict(pages or {"/version": b'{"version":"0.33.0"}'})
        self._answer = answer
        self._gauge = gauge
        self._models = models

    async def __call__(self, up: Conversation) -> None:
        """One connection."""
        async for request in up.requests():
            if request.method == "GET":
                up.send(self._page(request.target))
            elif self._models is not None and not request.target.startswith(self._base):
                up.send(response(b'{"detail":"Not Found"}', status=404))
            else:
                await self._answer(self, up, limit_of(request))

    @property
    def _base(self) -> str:
        return (self._models or "").removesuffix("/models")

    def _page(self, target: str) -> bytes:
        if target in self._pages:
            return response(self._pages[target], headers=b"Content-Type: application/json\r\n")
        if target == "/health":
            return response()
        if target == self._models:
            return response(b'{"object":"list","data":[{"id":"model","object":"model"}]}')
        if target == "/metrics" and self._gauge:
            return response((self._gauge % self.running).encode())
        return response(b'{"detail":"Not Found"}', status=404)


def limit_of(request: Request) -> int:
    """How many tokens were asked for."""
    asked: dict[str, Any] = msgspec.json.decode(request.body)
    tokens: int = asked["max_tokens"]
    return tokens


async def examined(
    url: str, tls: ssl.SSLContext | None = None, **knobs: Any
) -> tuple[Examined, dict[str, tuple[Level, str]]]:
    """What is found at this endpoint; the findings also by check, the worst of each."""
    config = config_for(
        url, settings=knobs.pop("settings", None), kind=knobs.pop("kind", "openaicompatible")
    )
    (target,) = targets(build(msgspec.json.encode(config), 1, LiveState()), None)
    found = await Examination(target, tls or client_tls(), answer_seconds=5, **knobs).run()
    order = (Level.OK, Level.WARNING, Level.FAILURE)
    by_check = {}
    for each in sorted(found.findings, key=lambda each: order.index(each.level)):
        by_check[each.check] = (each.level, f"{each.message}; {each.remedy}")
    return found, by_check


# -- in good health


async def test_the_demo_is_in_good_health(tmp_path: Path) -> None:
    path = tmp_path / "config.jsonc"
    async with demo_server(Settings(pace_seconds=0.02, api_key=KEY)) as demo:
        settings = {"endpoints": [{"url": demo.url, "accessToken": KEY}]}
        config = config_for(demo.url, kind="huggingface-tgi", settings=settings)
        path.write_bytes(msgspec.json.encode(config))
        for_people = await run("doctor", path)
        for_machines = await run("doctor", path, "--json", "--provider", "lab")

    assert (for_people.status, for_people.err) == (0, "")
    lines = for_people.out.splitlines()
    assert lines[0] == f"lab at {demo.url.removeprefix('http://')}, asked for {MODEL}"
    checks = [line.split()[:2] for line in lines[1:9]]
    assert checks == [
        ["ok", f"{name}:"]
        for name in (
            *("resolve", "connect", "health", "engine", "base-url"),
            *("stream", "buffering", "hang-up"),
        )
    ]
    assert "the engine stopped" in for_people.out
    assert ' bytes  data: {"object":"chat.completion.chunk"' in for_people.out
    report = msgspec.json.decode(for_machines.out)
    assert (for_machines.status, report["ok"]) == (0, True)
    assert report["endpoints"][0]["engine"] == "TGI 3.3.7"
    assert {each["level"] for each in report["endpoints"][0]["findings"]} == {"ok"}
    assert KEY not in for_people.out + for_machines.out


@pytest.mark.parametrize(
    ("name", "pages", "gauge"),
    [
        (
            "TGI 3.3.7",
            {"/info": b'{"model_id":"m","max_concurrent_requests":128,"version":"3.3.7"}'},
            "tgi_batch_current_size %d\ntgi_queue_size 0\n",
        ),
        (
            "vLLM 0.33.0",
            {"/version": b'{"version":"0.33.0"}'},
            '# HELP vllm:num_requests_running x\nvllm:num_requests_running{model_name="m"} %d.0\n',
        ),
        ("SGLang", {"/get_model_info": b'{"model_path":"m"}'}, "sglang:num_running_reqs %d\n"),
        (
            "llama.cpp b4242",
            {"/props": b'{"total_slots":4,"build_info":"b4242"}'},
            "llamacpp:requests_processing %d\n",
        ),
        ("Ollama 0.9.0", {"/api/version": b'{"version":"0.9.0"}'}, ""),
    ],
)
async def test_each_engine_is_recognised_and_watched_by_its_own_gauges(
    name: str, pages: dict[str, bytes], gauge: str
) -> None:
    async with Upstream(Engine(pages, gauge=gauge)) as upstream:
        found, checks = await examined(upstream.url)

    assert found.engine == name
    assert found.is_well
    level, message = checks["hang-up"]
    if gauge:
        assert (level, "the engine stopped" in message) == (Level.OK, True)
    else:
        assert (level, "cannot tell" in message) == (Level.WARNING, True)
    assert checks["buffering"][0] is Level.OK


async def test_llama_cpps_slots_are_counted() -> None:
    class Slots(Engine):
        def _page(self, target: str) -> bytes:
            if target == "/slots":
                busy = [{"id": n, "is_processing": n < self.running} for n in range(2)]
                return response(msgspec.json.encode(busy))
            return super()._page(target)

    async with Upstream(Slots({"/props": b'{"total_slots":2}'}, gauge="")) as upstream:
        _, checks = await examined(upstream.url)

    assert checks["hang-up"][0] is Level.OK


# -- out of reach


async def test_a_port_where_nobody_listens_is_told() -> None:
    async with Upstream() as upstream:
        await upstream.stop()
        found, checks = await examined(upstream.url)

    assert not found.is_well
    assert checks["connect"][0] is Level.FAILURE
    assert "nothing listens there; see that the model server listens" in checks["connect"][1]
    assert list(checks) == ["resolve", "connect"]  # the rest would say the same


async def test_a_name_without_an_address_is_told() -> None:
    found, checks = await examined("http://no-such-host.invalid:8000")

    assert not found.is_well
    assert list(checks) == ["resolve"]
    assert "no-such-host.invalid has no address" in checks["resolve"][1]


async def test_a_certificate_that_nobody_trusts_is_told(tmp_path: Path) -> None:
    server, file = make_certificate(tmp_path)
    async with Upstream(Engine(), tls=server) as upstream:
        _, distrusted = await examined(upstream.url)
        trusting, trusted = await examined(upstream.url, tls=client_tls(file))

    assert distrusted["tls"][0] is Level.FAILURE
    assert "SSL_CERT_FILE" in distrusted["tls"][1]
    assert trusting.is_well
    assert "its certificate is trusted" in trusted["connect"][1]


async def test_http_and_https_taken_for_each_other_are_told(tmp_path: Path) -> None:
    server, _ = make_certificate(tmp_path)

    async def silent(up: Conversation) -> None:
        await up.gone()

    async with demo_server() as plain, Upstream(silent, tls=server) as encrypted:
        _, too_much = await examined(plain.url.replace("http:", "https:"))
        _, too_little = await examined(encrypted.url.replace("https:", "http:"))

    assert "write http:// in the url" in too_much["tls"][1]
    assert "write https:// in the url" in too_little["tls"][1]


# -- ill, or elsewhere


async def test_a_server_that_says_it_is_ill_is_believed() -> None:
    async def ill(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(response(b'{"error":"unhealthy"}', status=503))

    async with Upstream(ill) as upstream:
        found, checks = await examined(upstream.url)

    assert not found.is_well
    assert "it says that it is ill: 503" in checks["health"][1]


@pytest.mark.parametrize(
    ("path", "models", "remedy"),
    [
        ("/v1/v1", "/v1/models", 'write "/v1" once at the end'),
        ("/gateway", "/gateway/v1/models", 'write "/v1" at the end'),
        ("/v1/chat/completions", "/v1/models", 'write the url without "/chat/completions"'),
        ("/v1", "/openai/v1/models", 'write "/openai/v1" as the path'),
        ("/some/where", "/v1/models", 'write "/v1" as the path'),
    ],
)
async def test_routes_that_are_elsewhere_are_found(path: str, models: str, remedy: str) -> None:
    async with Upstream(Engine(models=models)) as upstream:
        found, checks = await examined(upstream.url + path)

    assert not found.is_well
    assert checks["base-url"][0] is Level.FAILURE
    assert remedy in checks["base-url"][1]
    assert "stream" not in checks


async def test_a_model_that_the_server_does_not_list_is_told() -> None:
    pages = {"/v1/models": b'{"data":[{"id":"other"},{"id":"another"}]}'}
    async with Upstream(Engine(pages)) as upstream:
        _, checks = await examined(upstream.url)

    level, message = checks["model"]
    assert level is Level.WARNING
    assert 'it does not list "model"; it lists "other", "another"' in message


# -- the stream


def says(*pieces: bytes) -> Answer:
    """An engine that answers so, whatever it is asked."""

    async def answer(engine: Engine, up: Conversation, tokens: int) -> None:
        for piece in pieces:
            up.send(piece)
            await up.pause()

    return answer


def refusing(status: int, message: str) -> bytes:
    body = msgspec.json.encode({"error": {"message": message, "type": "x", "code": status}})
    return response(body, status=status, headers=b"Content-Type: application/json\r\n")


PAGE = response(b"<html>Log in</html>", headers=b"Content-Type: text/html\r\n")
WHOLE = response(whole_saying(b"1"), headers=b"Content-Type: application/json\r\n")


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (refusing(401, "no such key"), Level.FAILURE, "401: no such key; see that accessToken"),
        (refusing(404, "no such route"), Level.FAILURE, "see that the url leads to where"),
        (response(status=302), Level.FAILURE, "penstock follows none"),
        (PAGE, Level.FAILURE, "it sent a web page"),
        (WHOLE, Level.WARNING, "it sent a whole answer"),
        (STREAM_HEAD + chunk(TOKEN) + LAST_CHUNK, Level.FAILURE, "broke off before its end mark"),
        (STREAM_HEAD + chunk(b"data: {\n\n") + LAST_CHUNK, Level.FAILURE, "type and dialect"),
    ],
)
async def test_what_is_no_stream_is_told(answer: bytes, level: Level, words: str) -> None:
    async with Upstream(Engine(answer=says(answer))) as upstream:
        _, checks = await examined(upstream.url)

    assert checks["stream"][0] is level
    assert words in checks["stream"][1]


async def test_a_path_that_gathers_the_answer_is_told() -> None:
    async def gathered(engine: Engine, up: Conversation, tokens: int) -> None:
        await asyncio.sleep(
            0.02 * min(tokens, 32)
        )  # the engine computes, and the path holds it all
        up.send(STREAM_HEAD + chunk(TOKEN * tokens + FINISH + USAGE + DONE) + LAST_CHUNK)

    async with Upstream(Engine(answer=gathered)) as upstream:
        found, checks = await examined(upstream.url)

    assert not found.is_well
    assert "32 events came at once" in checks["buffering"][1]
    assert "proxy_buffering off" in checks["buffering"][1]


async def test_a_quick_engine_is_not_taken_for_a_path_that_gathers() -> None:
    async def quick(engine: Engine, up: Conversation, tokens: int) -> None:
        up.send(STREAM_HEAD + chunk(TOKEN * tokens + FINISH + USAGE + DONE) + LAST_CHUNK)

    async with Upstream(Engine(answer=quick)) as upstream:
        found, checks = await examined(upstream.url)

    assert found.is_well
    assert checks["buffering"][0] is Level.OK
    assert "cannot tell" in checks["hang-up"][1]


async def test_a_path_that_compresses_is_told() -> None:
    packed = gzip.compress(TOKEN + FINISH + USAGE + DONE)
    head = STREAM_HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
    answer = says(head + chunk(packed) + LAST_CHUNK)
    async with Upstream(Engine(answer=answer)) as upstream:
        _, checks = await examined(upstream.url)

    assert checks["stream"][0] is Level.OK
    assert "turn compression off" in checks["buffering"][1]


async def test_a_server_that_counts_no_tokens_is_told() -> None:
    async with Upstream(
        Engine(answer=says(STREAM_HEAD + chunk(TOKEN + FINISH + DONE) + LAST_CHUNK))
    ) as upstream:
        _, checks = await examined(upstream.url)

    assert checks["usage"][0] is Level.WARNING


# -- hanging up


async def test_an_engine_that_works_on_for_nobody_is_told() -> None:
    async def deaf(engine: Engine, up: Conversation, tokens: int) -> None:
        if tokens == 256:
            engine.running += 1  # for ever
        await token_by_token(engine, up, tokens)

    async with Upstream(Engine(answer=deaf)) as upstream:
        found, checks = await examined(upstream.url)

    assert not found.is_well
    assert checks["hang-up"][0] is Level.FAILURE
    assert "still works 5 s after the hang-up" in checks["hang-up"][1]


async def test_a_gauge_that_stands_still_is_not_taken_for_work() -> None:
    """As vLLM's may, which are written with the next step, and there is none."""

    class Stale(Engine):
        def _page(self, target: str) -> bytes:
            if target == "/metrics":
                self.most = max(self.most, self.running)
                page = b"vllm:num_requests_running %d\nvllm:generation_tokens_total 7.0\n"
                return response(page % self.most)
            return super()._page(target)

        most = 0

    async with Upstream(Stale()) as upstream:
        _, checks = await examined(upstream.url)

    assert checks["hang-up"][0] is Level.OK
    assert "makes no tokens after the hang-up" in checks["hang-up"][1]


async def test_native_routes_are_asked_beside_v1() -> None:
    async with demo_server(Settings(pace_seconds=0.02)) as demo:
        found, checks = await examined(
            demo.url, kind="huggingface-tgi", settings={"dialect": "tgi", "usage": "off"}
        )

    assert {each.level for each in found.findings} == {Level.OK}
    assert "base-url" not in checks


async def test_idle_connections_that_are_closed_early_are_told_where_time_is_given() -> None:
    class Hasty(Engine):
        async def __call__(self, up: Conversation) -> None:
            async with asyncio.timeout(0.5):  # and then it closes
                await super().__call__(up)

    async def hasty(up: Conversation) -> None:
        try:
            await Hasty()(up)
        except TimeoutError:
            up.close()

    async with Upstream(hasty) as upstream:
        _, quick = await examined(upstream.url)
        _, slow = await examined(upstream.url, slow=True)

    assert "idle" not in quick
    assert slow["idle"][0] is Level.WARNING
    assert "an idle connection is closed after 0." in slow["idle"][1]


# -- the program


@pytest.mark.parametrize(
    "settings",
    [
        {"accessToken": KEY},
        {"accessTokenQuery": KEY},
        {"headers": {"X-Key": KEY}},
    ],
)
async def test_no_secret_is_printed(tmp_path: Path, settings: dict[str, object]) -> None:
    """Neither from errors, nor from streams, nor from what servers say of themselves."""

    async def echo(up: Conversation) -> None:
        async for request in up.requests():
            if request.method == "GET" and request.target.startswith("/v1/models"):
                up.send(response(b'{"data":[{"id":"%b"}]}' % KEY.encode()))
            elif request.method == "GET":
                up.send(response(b'{"version":"%b"}' % KEY.encode()))
            elif limit_of(request) == 1:
                up.send(STREAM_HEAD + chunk(TOKEN.replace(b"Hi", KEY.encode()) + FINISH + DONE))
                up.send(LAST_CHUNK)
            else:
                up.send(refusing(401, f"{KEY} is not known, nor is {request.head!r}"))

    path = tmp_path / "config.jsonc"
    async with Upstream(echo) as upstream:
        endpoint = {"url": upstream.url, **settings}
        path.write_bytes(msgspec.json.encode(config_for("", settings={"endpoints": [endpoint]})))
        for_people = await run("doctor", path)
        for_machines = await run("doctor", path, "--json")
        async with Upstream(Engine(answer=says(refusing(401, f"{KEY}?")))) as other:
            endpoint["url"] = other.url
            path.write_bytes(
                msgspec.json.encode(config_for("", settings={"endpoints": [endpoint]}))
            )
            refused = await run("doctor", path)

    assert refused.status == 1
    assert "***?" in refused.out
    for finished in (for_people, for_machines, refused):
        assert KEY not in finished.out + finished.err
        assert "Traceback" not in finished.err


async def test_each_address_behind_a_name_is_examined_where_each_is_an_endpoint(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.jsonc"
    async with Upstream(Engine()) as upstream:
        url = f"http://localhost:{upstream.port}"
        settings = {"endpoints": [{"url": url, "resolve": "all"}]}
        path.write_bytes(msgspec.json.encode(config_for("", settings=settings)))
        finished = await run("doctor", path, "--json")

    endpoints = {each["endpoint"]: each for each in msgspec.json.decode(finished.out)["endpoints"]}
    here = endpoints[f"localhost:{upstream.port} at 127.0.0.1"]
    assert here["engine"] == "vLLM 0.33.0"
    assert here["findings"][0]["message"] == "localhost is 127.0.0.1"


async def test_a_bad_file_and_a_provider_that_is_none_are_told(tmp_path: Path) -> None:
    bad, good = tmp_path / "bad.jsonc", tmp_path / "good.jsonc"
    bad.write_text("{")
    good.write_bytes(msgspec.json.encode(config_for("http://127.0.0.1:9")))

    broken, nobody, down = await asyncio.gather(
        run("doctor", bad), run("doctor", good, "--provider", "den"), run("doctor", good)
    )

    assert (broken.status, nobody.status, down.status) == (EX_CONFIG, EX_USAGE, 1)
    assert f"{bad}:1:2: error:" in broken.err
    assert "no model is served by such a provider" in nobody.err
    assert "FAILURE  connect: nothing listens there" in down.out
