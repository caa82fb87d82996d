"""The second listener: what it shows, what it must never show, and who cannot reach it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any

import msgspec
import pytest
from prometheus_client import Metric

from parsers.events import FaultKind
from proxy.metrics.tally import PARTS
from proxy.outcome import Outcome
from tests.e2e.demo_server import demo_server
from tests.e2e.watched import Watched, families, open_families, value_of, watched
from tests.harness import MODEL, chat, config_for
from tests.scripted import Conversation, Upstream, response

CHAT = "/v1/chat/completions"
KEY = "canary-client-key-3141592653589793"
OTHER_KEY = "canary-other-key-2718281828459045"
UPSTREAM_KEY = "canary-upstream-key-1414213562373095"
PROMPT = "canary-prompt-1618033988749895"
ANSWER = "canary-answer-0577215664901533"
QUERY = "canary-query-2502907875095893"
CANARIES = (KEY, OTHER_KEY, UPSTREAM_KEY, PROMPT, ANSWER, QUERY)
GUARDED = {"clients": [{"name": "me", "key": KEY}]}
WITH_KEY = {"authorization": f"Bearer {KEY}"}
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


@asynccontextmanager
async def served(**block: object) -> AsyncIterator[Watched]:
    """A penstock before the demo; every client needs the key."""
    async with demo_server() as demo:
        config = config_for(demo.url, kind="huggingface-tgi", penstock={**GUARDED, **block})
        async with watched(config) as proxy:
            yield proxy


async def admin(proxy: Watched, path: str, **headers: str) -> tuple[int, str, bytes]:
    """Status, content type and body of an admin page."""
    async with proxy.session.get(proxy.admin_url + path, headers=headers) as answer:
        return answer.status, answer.headers.get("content-type", ""), await answer.read()


async def used(proxy: Watched) -> None:
    """Some of everything: answers, failures, refusals."""
    for prompt in ("hello", "[[fail]]", "[[overload]]", "[[cut]]"):
        for stream in (True, False):
            await proxy.ask(CHAT, chat(prompt, stream=stream), headers=WITH_KEY)
    await proxy.ask("/generate_stream", {"inputs": "hello"}, headers=WITH_KEY)
    await proxy.ask("/v1/completions", {"model": MODEL, "prompt": "hello"}, headers=WITH_KEY)
    await proxy.ask(CHAT, b"{", headers=WITH_KEY)
    await proxy.ask(CHAT, chat("hello", model="nobody"), headers=WITH_KEY)
    await proxy.ask(CHAT, chat("hello"))


def shown(families: Iterable[Metric]) -> dict[str, dict[str, set[str]]]:
    """The values of each label of each family."""
    found: dict[str, dict[str, set[str]]] = {}
    for family in families:
        labels = found.setdefault(family.name, {})
        for sample in family.samples:
            for name, value in sample.labels.items():
                if name != "le":
                    labels.setdefault(name, set()).add(value)
    return found


# -- metrics


async def test_metrics_are_well_formed_in_both_formats_and_say_the_same() -> None:
    async with served() as proxy:
        await used(proxy)
        status, kind, page = await admin(proxy, "/metrics")
        open_status, open_kind, open_page = await admin(proxy, "/metrics", accept=OPEN_METRICS)

    plain = families(page.decode())
    fuller = open_families(open_page.decode())
    assert (status, open_status) == (200, 200)
    assert kind.startswith("text/plain; version=0.0.4")
    assert open_kind.startswith("application/openmetrics-text; version=1.0.0")
    samples = [
        {
            f"{sample.name} {sorted(sample.labels.items())}"
            for family in page
            for sample in family.samples
        }
        for page in (plain, fuller)
    ]
    created = {each for each in samples[0] | samples[1] if "_created " in each}
    assert samples[0] - created == samples[1] - created


async def test_every_family_is_ours_and_documented() -> None:
    async with served() as proxy:
        await used(proxy)
        _, _, page = await admin(proxy, "/metrics", accept=OPEN_METRICS)

    found = open_families(page.decode())
    assert {family.name for family in found} >= {
        "penstock_build_info",
        "penstock_config_generation",
        "penstock_config_hash",
        "penstock_config_last_reload_successful",
        "penstock_config_last_success_timestamp_seconds",
        "penstock_config_reloads",
        "penstock_config_warnings",
        "penstock_endpoint_in_flight",
        "penstock_faults",
        "penstock_inter_token_seconds",
        "penstock_request_duration_seconds",
        "penstock_requests",
        "penstock_requests_in_flight",
        "penstock_requests_started",
        "penstock_time_to_first_token_seconds",
        "penstock_tokens",
        "penstock_upstream_attempts",
    }
    assert [family.name for family in found if not family.name.startswith("penstock_")] == []
    assert [family.name for family in found if not str(family.documentation).endswith(".")] == []
    assert [family.name for family in found if family.type == "unknown"] == []


async def test_warnings_are_counted_for_the_file_that_serves() -> None:
    config = config_for("http://127.0.0.1:9")
    (model,) = config["modelConfiguration"]["modelOverrides"]
    async with watched(config) as proxy:
        counts = [await warnings(proxy)]
        model["capabilities"].append("telepathy")
        config["modelConfiguration"]["defaultModels"]["chat"] = "lab::v1::nobody"
        await proxy.replace(config)
        counts.append(await warnings(proxy))
        config["modelConfiguration"]["modelOverrides"] = []
        await reloaded(proxy, config)
        counts.append(await warnings(proxy))

    assert counts == [(0, 0), (2, 2), (2, 2)]


async def test_the_hash_is_that_of_the_file_that_serves() -> None:
    config = config_for("http://127.0.0.1:9")
    async with watched(config) as proxy:
        hashes = [value_of(await proxy.metrics(), "penstock_config_hash")]
        content = [proxy.config.read_bytes()]
        await proxy.replace(
            {**config, "penstock": {**config["penstock"], "limits": {"maxConcurrentRequests": 5}}}
        )
        hashes.append(value_of(await proxy.metrics(), "penstock_config_hash"))
        content.append(proxy.config.read_bytes())

    assert hashes == [int.from_bytes(sha256(each).digest()[:6]) for each in content]


async def warnings(proxy: Watched) -> tuple[float, int]:
    """How many the metric counts, and how many are on the status page."""
    status = await proxy.described()
    return value_of(await proxy.metrics(), "penstock_config_warnings"), len(status.warnings)


async def test_labels_come_from_the_configuration_and_from_closed_lists() -> None:
    async with served() as proxy:
        await used(proxy)
        endpoint = (await proxy.described()).endpoints[0].name
        labels = shown(families(await proxy.metrics()))

    everything: dict[str, set[str]] = {}
    for family in labels.values():
        for name, values in family.items():
            everything.setdefault(name, set()).update(values)
    assert everything.pop("model") == {MODEL, "unknown"}
    assert everything.pop("endpoint") == {endpoint}
    assert everything.pop("provider") == {"lab"}
    assert everything.pop("dialect") == {"openai-chat", "openai-completions", "tgi"}
    assert everything.pop("outcome") <= set(Outcome)
    assert everything.pop("origin") <= {"client", "proxy", "upstream"}
    assert everything.pop("phase") <= {"admit", "decode", "resolve", "connect", "stream"}
    assert labels["penstock_faults"]["kind"] <= set(FaultKind)
    assert labels["penstock_tokens"]["kind"] <= {"input", "output", "cached", "reasoning"}
    assert labels["penstock_tokens"]["source"] <= {"reported", "counted"}
    assert everything.pop("verdict") <= {"success", "busy", "fault", "refused", "cancelled"}
    results = {"success", "failure", "written", "dropped", "failed"}  # of reloads, of captures
    assert everything.pop("result") <= results
    assert everything.pop("reason") <= {"client_gone", "failed"}
    assert everything.pop("part") <= set(PARTS)
    assert everything.pop("direction") == {"in", "out"}
    assert set(everything) == {"kind", "source", "version"}


async def test_what_clients_make_up_adds_no_series() -> None:
    async with served() as proxy:
        await used(proxy)
        before = series(await proxy.metrics())
        for number in range(50):
            made_up = f"made-up-{number}"
            await proxy.ask(CHAT, chat("x", model=made_up), headers=WITH_KEY)
            await proxy.ask(CHAT, chat("x"), headers={"authorization": f"Bearer {made_up}"})
            await proxy.ask(f"/models/{made_up}/generate", {"inputs": "x"}, headers=WITH_KEY)
            await proxy.ask(f"/{made_up}", {})
            headers = {**WITH_KEY, "x-request-id": made_up, "user-agent": made_up}
            await proxy.ask(CHAT, chat("hello", user=made_up), headers=headers)
            async with proxy.session.request(f"MADE{number}", proxy.url + CHAT) as answer:
                await answer.read()
        after = await proxy.metrics()

    assert "made-up" not in after
    # A native request for an unknown model is a new kind of request, once.
    assert {labels for labels in series(after) - before if 'dialect="tgi"' not in labels} == set()


def series(page: str) -> set[str]:
    """The name and labels of each sample that is not the time of its making."""
    lines = (line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#"))
    may_come = ("_created", "penstock_faults", 'part="')  # of parts that took no time there is none
    return {line for line in lines if not any(each in line for each in may_come)}


# -- probes and status


async def test_probes_answer_as_kubernetes_asks() -> None:
    async with served() as proxy:
        pages = [await admin(proxy, path) for path in ("/livez", "/readyz", "/startupz")]
        proxy.config.write_bytes(b"{")
        async with proxy.session.post(f"{proxy.admin_url}/reload") as answer:
            refused = answer.status
        bad = [await admin(proxy, path) for path in ("/livez", "/readyz")]
        proxy.service.begin_drain("test")
        draining = [await admin(proxy, path) for path in ("/livez", "/readyz")]

    assert [(status, body) for status, _, body in pages] == [(200, b"ok\n")] * 3
    assert refused == 422
    assert [status for status, _, _ in bad] == [200, 200]  # a bad edit takes nobody out
    assert [status for status, _, _ in draining] == [200, 503]


async def test_status_tells_what_serves() -> None:
    async with served() as proxy:
        status = await proxy.described()
        _, kind, _ = await admin(proxy, "/status")

    (model,) = status.models
    (endpoint,) = status.endpoints
    assert kind == "application/json"
    assert (status.config.generation, status.config.ok, status.config.reason) == (1, True, "start")
    assert (status.draining, status.warnings) == (False, [])
    assert (model.ref, model.provider, model.endpoints) == (MODEL, "lab", [endpoint.name])
    assert (endpoint.provider, endpoint.in_flight) == ("lab", 0)


# -- secrets


@pytest.mark.parametrize("word", ["Authorization: Bearer", "the key"])
async def test_no_secret_is_shown_anywhere(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    """Keys of both sides, prompts, answers and query strings: nowhere but where they belong."""

    async def answer(up: Conversation) -> None:
        async for request in up.requests():
            assert request.headers["authorization"] == f"Bearer {UPSTREAM_KEY}"
            if b"canary-prompt" in request.body:
                up.send(told(200, {"choices": [{"message": {"content": ANSWER}}]}))
            else:  # a server that repeats what it was sent, as debugging ones do
                message = f"{word} {UPSTREAM_KEY} is not known here"
                up.send(told(401, {"error": {"message": message, "type": "auth"}}))

    monkeypatch.setenv("CANARY", UPSTREAM_KEY)
    clients = [{"name": "me", "key": KEY}, {"name": "you", "key": OTHER_KEY}]
    async with Upstream(answer) as upstream:
        config = config_for(upstream.url, penstock={"clients": clients})
        server = config["modelConfiguration"]["providerOverrides"][0]["serverSideConfig"]
        server["endpoints"][0]["accessToken"] = {"env": "CANARY"}
        async with watched(config) as proxy:
            good = await proxy.ask(f"{CHAT}?k={QUERY}", asking(PROMPT), headers=WITH_KEY)
            told_to_clients = [
                await proxy.ask(CHAT, asking("hi"), headers=WITH_KEY),
                await proxy.ask(CHAT, asking("hi"), headers={"x-api-key": OTHER_KEY + "x"}),
                await proxy.ask(f"/nowhere?{QUERY}", asking(PROMPT), headers=WITH_KEY),
                await proxy.ask(CHAT, b'{"model":"' + PROMPT.encode(), headers=WITH_KEY),
            ]
            clients[1]["key"] = KEY  # twice the same: refused, without saying which
            told_to_operators = [await reloaded(proxy, config)]
            clients[1]["kye"] = OTHER_KEY
            server["accessToken"] = UPSTREAM_KEY
            told_to_operators.append(await reloaded(proxy, config))
            for path in ("/metrics", "/status", "/livez", "/readyz"):
                told_to_operators.append((await admin(proxy, path))[2])  # noqa: PERF401 - in turn
            log = proxy.log

    assert ANSWER.encode() in good[1]
    assert [status for status, _ in told_to_clients] == [502, 401, 404, 400]
    for page in (*(body for _, body in told_to_clients), *told_to_operators, log):
        assert [canary for canary in CANARIES if canary.encode() in page] == []


def told(status: int, body: object) -> bytes:
    """A response of JSON."""
    return response(
        msgspec.json.encode(body), status=status, headers=b"Content-Type: application/json\r\n"
    )


def asking(prompt: str) -> dict[str, object]:
    """A request that is not streamed."""
    return chat(prompt, stream=False, user=prompt)


async def reloaded(proxy: Watched, config: Any) -> bytes:
    """What a reload answers."""
    proxy.put(config)
    async with proxy.session.post(f"{proxy.admin_url}/reload") as answer:
        assert answer.status == 422
        return await answer.read()


# -- who reaches what


PAGES = ("/metrics", "/livez", "/readyz", "/startupz", "/status", "/events", "/reload")


def disguised(page: str) -> tuple[str, ...]:
    """Ways in which a path has been smuggled past a check."""
    return (
        page,
        f"{page}/",
        f"/{page}",
        f"/.{page}",
        f"/v1/..{page}",
        f"/v1/%2e%2e{page}",
        f"/v1/..%2f{page[1:]}",
        f"/%{ord(page[1]):02x}{page[2:]}",
        f"{page};x",
        f"{page}?x",
        page.upper(),
        f"/models/x/..{page}",
    )


@pytest.mark.parametrize("page", PAGES)
async def test_admin_pages_cannot_be_reached_by_clients(page: str) -> None:
    async with watched(config_for("http://127.0.0.1:9")) as proxy:
        authority = proxy.url.removeprefix("http://")
        targets = [*disguised(page), f"http://{authority}{page}"]
        answers = {
            (method, target): await raw(proxy, method, target)
            for target in targets
            for method in ("GET", "POST")
        }
        status = await proxy.described()

    shown = {asked: answer for asked, answer in answers.items() if b" 200 " in answer[:20]}
    assert shown == {}
    assert {answer[:9] for answer in answers.values()} == {b"HTTP/1.1 "}
    assert status.config.reason == "start"  # nobody reloaded


async def raw(proxy: Watched, method: str, target: str) -> bytes:
    """What this very request target is answered with."""
    authority = proxy.url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*authority.split(":"))
    head = f"{method} {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n"
    writer.write(f"{head}Content-Length: 2\r\n\r\n{{}}".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_models_cannot_be_reached_by_the_admin_listener() -> None:
    async with served() as proxy:
        statuses = set()
        for path in (CHAT, "/v1/completions", "/generate", "/generate_stream", "/"):
            async with proxy.session.post(proxy.admin_url + path, json={}) as answer:
                statuses.add(answer.status)
        for path in ("/v1/models", "/info", "/health"):
            statuses.add((await admin(proxy, path))[0])

    assert statuses == {404}
    assert proxy.entries() == []


# -- orders from elsewhere


def own_address() -> str | None:
    """An address of this machine at which others would reach it; None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        host: str = sock.getsockname()[0]
        return host


ELSEWHERE = own_address()
ORDERS = [("POST", "/reload"), ("POST", "/drain"), ("POST", "/debug"), ("DELETE", "/debug")]


@pytest.mark.skipif(ELSEWHERE is None, reason="this machine has no address but loopback")
@pytest.mark.parametrize("is_let", [False, True])
async def test_others_may_read_and_give_orders_only_where_the_file_lets_them(
    is_let: bool,
) -> None:
    config = config_for("http://127.0.0.1:9")
    listen = {"adminHost": "0.0.0.0", "adminRemoteWrites": is_let}
    config["penstock"]["listen"] = listen
    async with watched(config) as proxy:
        port = proxy.admin_url.rpartition(":")[2]
        page = await ask(proxy, "GET", f"http://{ELSEWHERE}:{port}/livez")
        orders = [
            await ask(proxy, method, f"http://{ELSEWHERE}:{port}{path}") for method, path in ORDERS
        ]
        nearer = await ask(proxy, "POST", f"http://127.0.0.1:{port}/reload")

    assert (page, nearer) == (200, 200)
    assert orders == ([200, 202, 400, 200] if is_let else [403] * 4)


async def ask(proxy: Watched, method: str, url: str) -> int:
    """The status of an answer."""
    async with proxy.session.request(method, url) as answer:
        return answer.status
