"""What the metrics page says of requests, model servers and penstock itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client import generate_latest

from parsers.events import Usage
from proxy.endpoints import Endpoint, EndpointState, Health, LiveState
from proxy.metrics import Metrics, Sources
from proxy.metrics.collector import FINE_MODELS
from proxy.metrics.engines import values_in
from proxy.metrics.tally import MAX_ATTEMPTS, MAX_MODELS, OTHER, PARTS
from proxy.outcome import Account, Outcome
from proxy.trace import kept_trace, trace_lines
from tests.deploy.staged import TRACE_ID, TRACED
from tests.e2e.demo_server import before_demo, demo_server
from tests.e2e.rawclient import raw_client
from tests.e2e.watched import Watched, families, open_families, value_of, watched
from tests.harness import MODEL, chat, config_for
from tests.scripted import Conversation, Upstream, response

CHAT = "/v1/chat/completions"
OPEN_METRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
ANSWER = b'{"choices":[{"index":0,"message":{"content":"yes"},"finish_reason":"stop"}]}'
PAGE = b"""\
# HELP tgi_queue_size what waits
# TYPE tgi_queue_size gauge
tgi_queue_size 4
tgi_request_failure{err="overloaded"} 1
tgi_request_failure{err="validation"} 2
tgi_request_queue_duration_bucket{le="1"} 3
vllm:kv_cache_usage_perc{engine="0",model_name="a b"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="a } b"} 0.75 1700000000
vllm:num_requests_running{engine="0"} NaN
vllm:num_requests_waiting nonsense
tgi_batch_current_size"""


async def steady(up: Conversation) -> None:
    async for request in up.requests():
        body = PAGE if request.target == "/metrics" else ANSWER
        up.send(response(body, headers=b"Content-Type: application/json\r\n"))


def aiming(**objectives: float) -> dict[str, Any]:
    """A penstock block with these objectives."""
    return {"models": {MODEL: {"slo": objectives}}}


def bounds(page: str, family: str) -> set[str]:
    """The bounds of a histogram."""
    return {
        sample.labels["le"]
        for found in families(page)
        for sample in found.samples
        if sample.name == f"{family}_bucket"
    }


def named(page: str) -> set[str]:
    """The names of the families that have series."""
    return {family.name for family in families(page) if family.samples}


# -- requests


async def test_the_bounds_of_histograms_lie_on_the_objectives_also_after_a_reload() -> None:
    first, between = "penstock_time_to_first_token_seconds", "penstock_inter_token_seconds"
    async with demo_server() as demo:
        objectives = aiming(firstTokenSeconds=1.7, interTokenSeconds=0.066)
        config = config_for(demo.url, kind="huggingface-tgi", penstock=objectives)
        async with watched(config) as proxy:
            await proxy.ask(CHAT, chat())
            before = await proxy.metrics()
            config["penstock"] = {**config["penstock"], **aiming(firstTokenSeconds=3)}
            await proxy.replace(config)
            await proxy.ask(CHAT, chat())
            after = await proxy.metrics()

    assert "1.7" in bounds(before, first)
    assert "0.066" in bounds(before, between)
    assert {"3.0", "1.7"} & bounds(after, first) == {"3.0"}
    assert "0.066" not in bounds(after, between)
    assert value_of(before, f"{first}_count", model=MODEL) == 1
    assert value_of(after, f"{first}_count", model=MODEL) == 1  # begun anew
    assert value_of(after, "penstock_request_duration_seconds_count", model=MODEL) == 2


async def test_the_parts_of_the_time_add_up_to_the_whole() -> None:
    async with before_demo("openai") as (proxy, _):
        await proxy.ask(CHAT, chat("[[wait=0.05 tokens=10 slow=0.005]]"))
        await proxy.ask(CHAT, chat(stream=False))
        await proxy.ask(CHAT, chat("[[cut]]"))
        await proxy.ask(CHAT, b"{")
        page = await proxy.metrics()

    parts = {
        (sample.labels["model"], sample.labels["part"]): sample.value
        for family in families(page)
        for sample in family.samples
        if sample.name == "penstock_request_time_seconds_total"
    }
    assert {part for _, part in parts} <= set(PARTS)
    assert parts[MODEL, "prefill"] > 0.05
    assert parts[MODEL, "decode"] > 0.03
    for model in (MODEL, "unknown"):
        whole = value_of(page, "penstock_request_duration_seconds_sum", model=model)
        split = sum(parts.get((model, part), 0) for part in PARTS if part != "loop_lag")
        assert split == pytest.approx(whole, abs=0.002)


async def test_what_was_made_for_nobody_is_counted_with_the_reason() -> None:
    async with before_demo("openai") as (proxy, demo):
        await proxy.ask(CHAT, chat("[[cut after=4]]"))
        async with raw_client(proxy.url) as client:
            client.ask(CHAT, chat("[[tokens=1000 slow=0.01]]"))
            await client.read_until(b"\n\n")
        await demo.state(running=0)
        await proxy.ended(2)
        page = await proxy.metrics()

    wasted = {
        sample.labels["reason"]: sample.value
        for family in families(page)
        for sample in family.samples
        if sample.name == "penstock_wasted_tokens_total"
    }
    assert wasted["failed"] == 4
    assert wasted["client_gone"] >= 1


# -- traces


async def test_a_trace_is_passed_on_and_named_beside_what_it_was_counted_in() -> None:
    async with Upstream(steady) as upstream, watched(config_for(upstream.url)) as proxy:
        headers = {**TRACED, "tracestate": "vendor=1"}
        await proxy.ask(CHAT, chat(stream=False), headers=headers)
        (request,) = upstream.requests
        async with proxy.get_admin("/metrics", headers=OPEN_METRICS) as answer:
            page = await answer.text()

    assert request.headers["traceparent"] == TRACED["traceparent"]
    assert request.headers["tracestate"] == "vendor=1"
    examples = {
        sample.exemplar.labels["trace_id"]
        for family in open_families(page)
        for sample in family.samples
        if sample.exemplar is not None
    }
    assert examples == {TRACE_ID}


@pytest.mark.parametrize(
    "parent",
    [
        "",
        f"00-{TRACE_ID}-00f067aa0ba902b7",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID.upper()}-00f067aa0ba902b7-01",
        f"00-{TRACE_ID}-00f067aa0ba902b7-01-\x00",
        f"00-{TRACE_ID}-00f067aa0ba902b7-01\r\nx: y",
    ],
)
def test_what_is_no_trace_is_not_passed_on(parent: str) -> None:
    assert trace_lines({"traceparent": parent, "tracestate": "a=1"}) == b""


def test_a_trace_that_nobody_keeps_is_passed_on_and_not_named() -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-00"}

    assert kept_trace(headers) == ""
    assert trace_lines(headers) == f"traceparent: {headers['traceparent']}\r\n".encode()


# -- the words of others


async def test_opentelemetrys_names_are_shown_if_asked_for() -> None:
    ours = "gen_ai_"
    labels = {
        "gen_ai_operation_name": "chat",
        "gen_ai_provider_name": "huggingface-tgi",
        "gen_ai_request_model": MODEL,
    }
    async with before_demo("openai", {"metrics": {"genAi": True}}) as (proxy, _):
        await proxy.ask(CHAT, chat(stream_options={"include_usage": True}))
        await proxy.ask(CHAT, chat("[[cut]]"))
        await proxy.ask("/v1/completions", {"model": MODEL, "prompt": "hello"})
        page = await proxy.metrics()
        async with proxy.get_admin("/metrics", headers=OPEN_METRICS) as answer:
            fuller = await answer.text()
    async with before_demo("openai") as (proxy, _):
        await proxy.ask(CHAT, chat())
        without = await proxy.metrics()

    def of(family: str, **more: str) -> float:
        return value_of(page, f"{ours}{family}_count", **labels, **more)

    assert of("server_request_duration_seconds", error_type="") == 1
    assert of("server_request_duration_seconds", error_type="truncated") == 1
    assert of("client_operation_duration_seconds", error_type="") == 1
    assert of("server_time_to_first_token_seconds") == 1
    assert of("server_time_per_output_token_seconds") == 1
    assert of("client_operation_time_to_first_chunk_seconds") == 2
    assert of("client_operation_time_per_output_chunk_seconds") > 1
    assert of("client_token_usage", gen_ai_token_type="output") == 1
    assert 'gen_ai_operation_name="text_completion"' in page
    assert bounds(page, "gen_ai_client_token_usage") >= {"1.0", "4.0", "67108864.0"}
    assert bounds(page, "gen_ai_server_request_duration_seconds") >= {"0.01", "0.02", "81.92"}
    assert open_families(fuller)
    assert {name for name in named(without) if name.startswith(ours)} == set()


async def test_model_servers_own_words_are_shown_with_model_and_endpoint() -> None:
    async with Upstream(steady) as upstream:
        config = config_for(upstream.url, penstock={"metrics": {"engineSeconds": 0.1}})
        async with watched(config) as proxy:
            page = await shown(proxy, "penstock_engine_tgi_queue_size")
            endpoint = (await proxy.described()).endpoints[0].name
            del config["penstock"]["metrics"]
            await proxy.replace(config)
            later = page
            while "penstock_engine" in later:
                later = await proxy.metrics()

    labels = {"model": MODEL, "endpoint": endpoint}
    assert value_of(page, "penstock_engine_tgi_queue_size", **labels) == 4
    assert value_of(page, "penstock_engine_tgi_request_failure_total", **labels) == 3
    assert value_of(page, "penstock_engine_vllm_kv_cache_usage_perc", **labels) == 0.75
    assert "penstock_engine" not in later


async def shown(proxy: Watched, name: str) -> str:
    """The page, once it has this."""
    for _ in range(500):
        if name in (page := await proxy.metrics()):
            return page
        await asyncio.sleep(0.01)
    pytest.fail(f"{name} is not shown")


async def test_a_server_without_metrics_has_no_series() -> None:
    async def bare(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(response(PAGE, status=404))

    async with Upstream(bare) as other, Upstream(steady) as upstream:
        config = config_for(
            [other.url, upstream.url],
            kind="huggingface-tgi",
            penstock={"metrics": {"engineSeconds": 0.1}},
        )
        async with watched(config) as proxy:
            page = await shown(proxy, "penstock_engine_")

    (series,) = {line for line in page.splitlines() if line.startswith("penstock_engine_tgi_queue")}
    assert f":{upstream.port}" in series


def test_only_numbers_under_known_names_are_read() -> None:
    assert values_in(PAGE) == {
        "tgi_queue_size": 4,
        "tgi_request_failure": 3,
        "vllm:kv_cache_usage_perc": 0.75,
    }


# -- endpoints and penstock itself


async def test_endpoints_say_whether_they_are_up_and_how_many_they_take() -> None:
    health = {"health": {"intervalSeconds": 0.1}}
    async with demo_server() as demo:
        config = config_for([demo.url, "http://127.0.0.1:1"], kind="huggingface-tgi")
        config["penstock"] = health
        async with watched(config) as proxy:
            page = await shown(proxy, "penstock_endpoint_limit{")
            for _ in range(200):
                if page.count("penstock_endpoint_up{") == 2:
                    break
                page = await proxy.metrics()

    up, down = demo.url.removeprefix("http://"), "127.0.0.1:1"
    assert value_of(page, "penstock_endpoint_up", provider="lab", endpoint=up) == 1
    assert value_of(page, "penstock_endpoint_up", provider="lab", endpoint=down) == 0
    assert value_of(page, "penstock_endpoint_limit", provider="lab", endpoint=up) == 128
    assert value_of(page, "penstock_endpoint_circuit", provider="lab", endpoint=up) == 0
    assert value_of(page, "penstock_queue_length", provider="lab") == 0


async def test_ready_and_draining_are_shown() -> None:
    async with watched(config_for("http://127.0.0.1:9")) as proxy:
        before = await proxy.metrics()
        proxy.service.begin_drain("test")
        after = await proxy.metrics()

    names = ("penstock_ready", "penstock_draining")
    assert [value_of(before, name) for name in names] == [1, 0]
    assert [value_of(after, name) for name in names] == [0, 1]


# -- how many series there can be


def account(model: str, **more: Any) -> Account:
    """A stream that ended well."""
    found = Account("id", 1.0, dialect="openai-chat", model=model, stream=True)
    found.sent_at, found.first_token, found.last_token, found.contents = 1.1, 1.5, 3.0, 50
    found.usage = Usage(prompt=10, completion=50)
    found.settle(Outcome.COMPLETE, None, 3.1)
    for name, value in more.items():
        setattr(found, name, value)
    return found


def test_more_models_than_there_is_room_for_are_others() -> None:
    metrics = Metrics()
    for number in range(MAX_MODELS + 50):
        metrics.count(account(f"made-up-{number}"))
        metrics.count_retry(f"made-up-{number}")
    for number in range(2 * MAX_ATTEMPTS):
        metrics.count_attempt("made-up-1", f"pod-{number}", "success")
    page = generate_latest(metrics.registry).decode()

    outcome: Mapping[str, str] = {"dialect": "openai-chat", "outcome": "complete"}
    assert value_of(page, "penstock_requests_total", model=OTHER, **outcome) == 50
    assert value_of(page, "penstock_retries_total", model=OTHER) == 50
    calls = {"model": "made-up-1", "endpoint": OTHER, "verdict": "success"}
    assert value_of(page, "penstock_upstream_attempts_total", **calls) == MAX_ATTEMPTS


def busy(models: int) -> tuple[Metrics, list[EndpointState]]:
    """Metrics after requests of all kinds for so many models, each with an endpoint of its own."""
    metrics, live = Metrics(), LiveState()
    states = []
    for number in range(models):
        model = f"gateway::v1::some-model-with-a-name-{number}"
        for more in (
            {},
            {"dialect": "anthropic-messages", "outcome": Outcome.LENGTH},
            {"outcome": Outcome.CLIENT_GONE, "usage": None, "wasted": 3},
            {"outcome": Outcome.TRUNCATED, "queue_seconds": 0.2, "reader_seconds": 0.1},
        ):
            metrics.count(account(model, **more))
        for verdict in ("success", "fault", "cancelled"):
            metrics.count_attempt(model, f"10.0.0.{number}:8080", verdict)
        metrics.count_retry(model)
        endpoint = Endpoint(f"10.0.0.{number}:8080", f"http://10.0.0.{number}:8080")
        state = live.state_of(f"provider-{number}", endpoint)
        state.health, state.told_limit = Health.UP, 128
        states.append(state)
    metrics.watch(Sources(endpoints=lambda: states))
    return metrics, states


def test_the_page_for_200_busy_models_is_smaller_than_a_megabyte() -> None:
    metrics, _ = busy(200)

    assert len(generate_latest(metrics.registry)) < 1_000_000


def test_with_many_models_histograms_show_fewer_bounds_and_the_same_sums() -> None:
    family, model = "penstock_request_duration_seconds", "gateway::v1::some-model-with-a-name-0"
    fine = generate_latest(busy(FINE_MODELS)[0].registry).decode()
    coarse = generate_latest(busy(FINE_MODELS + 1)[0].registry).decode()

    assert bounds(coarse, family) < bounds(fine, family)
    for bound in bounds(coarse, family):
        values = [
            value_of(page, f"{family}_bucket", model=model, le=bound) for page in (fine, coarse)
        ]
        assert values[0] == values[1]


async def test_requests_beyond_a_clients_day_are_counted_by_client() -> None:
    clients = [{"name": "batch", "key": "sk-batch-0123456789"}]
    limits = {"clients": clients, "dailyLimits": {"chatRequests": 1}}
    headers = {"authorization": "Bearer sk-batch-0123456789"}
    async with before_demo("openai", limits) as (proxy, _):
        statuses = [
            (await proxy.ask(CHAT, chat(stream=False), headers=headers))[0] for _ in range(3)
        ]
        page = await proxy.metrics()

    assert statuses == [200, 429, 429]
    assert value_of(page, "penstock_limit_rejections_total", limit="daily", client="batch") == 2
