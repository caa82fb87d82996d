"""The configuration changes while streams run, and nobody notices who should not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import StreamReader

from tests.e2e.watched import Status, value_of, watched
from tests.harness import MODEL, chat, config_for, provider
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk

CHAT = "/v1/chat/completions"
FINISH = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"

STREAMS = 50
RELOADS = 500
TOKEN_SECONDS = 0.25
SHORT_SECONDS = 0.02  # the log holds ten thousand lines


def token(text: str) -> bytes:
    return (
        b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}'
        b"\n\n" % text.encode()
    )


class Turn(msgspec.Struct, frozen=True):
    content: str


class Asked(msgspec.Struct, frozen=True):
    """What a script reads of a request."""

    messages: list[Turn]

    @property
    def word(self) -> str:
        """The word that it is to repeat."""
        return self.messages[0].content


def two_models(url: str, other: str) -> dict[str, Any]:
    """The usual model, and `den::v1::other` on an endpoint of its own."""
    config = config_for(url)
    block = config["modelConfiguration"]
    block["providerOverrides"].append(provider(other, name="den"))
    block["modelOverrides"].append({**block["modelOverrides"][0], "modelRef": "den::v1::other"})
    return config


def variant(url: str, number: int) -> dict[str, Any]:
    """Configurations that differ from one another, and all serve the usual model from here."""
    config = (
        two_models(url, f"http://127.0.0.1:{1 + number % 7}") if number % 3 else config_for(url)
    )
    config["penstock"] = {
        "timeouts": {"idleSeconds": 30 + number},
        "limits": {"maxConcurrentRequests": 2000 + number},
    }
    if number % 2:
        server = config["modelConfiguration"]["providerOverrides"][0]["serverSideConfig"]
        server["endpoints"].append({"url": url.replace("127.0.0.1", "localhost")})
    return config


@contextmanager
def no_collector() -> Iterator[None]:
    """What is freed in here is freed by the last reference to it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def begun(up: Conversation, word: str) -> None:
    """The upstream has told its first word, and penstock has read it."""
    await up.request()
    up.send(STREAM_HEAD + chunk(token(word)))
    await up.pause()


def whole(up: Conversation, word: str) -> None:
    """The upstream tells the rest."""
    up.send(chunk(token(word)) + chunk(FINISH + DONE) + LAST_CHUNK)


@pytest.mark.timeout(60)
async def test_hundreds_of_reloads_alter_no_byte_of_any_stream() -> None:
    reloaded = asyncio.Event()
    sent: dict[str, bytes] = {}

    async def answer(up: Conversation) -> None:
        """Repeats the word it is sent until the reloads are over; at once to "short"."""
        async for request in up.requests():
            word = msgspec.json.decode(request.body, type=Asked).word
            sent[word] = b""
            up.send(STREAM_HEAD)
            is_short = word.startswith("short")
            count = 0
            while count == 0 or not (is_short or reloaded.is_set()):
                count += 1
                frame = token(f"{word}-{count}")
                sent[word] += frame
                up.send(chunk(frame))
                await asyncio.sleep(SHORT_SECONDS if is_short else TOKEN_SECONDS)
            sent[word] += FINISH + DONE
            up.send(chunk(FINISH + DONE) + LAST_CHUNK)

    async def ask(word: str) -> tuple[str, int, bytes]:
        headers = {"x-request-id": word}
        return (word, *await proxy.ask(CHAT, chat(word), headers=headers))

    async def keep_asking() -> list[tuple[str, int, bytes]]:
        answers: list[tuple[str, int, bytes]] = []
        while not reloaded.is_set():
            answers.append(await ask(f"short-{len(answers)}"))
        return answers

    async with (
        Upstream(answer) as upstream,
        watched(variant(upstream.url, 0)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        streams = [group.create_task(ask(f"stream-{n}")) for n in range(STREAMS)]
        while len(sent) < STREAMS:  # noqa: ASYNC110 - until each has its upstream
            await asyncio.sleep(0.01)
        newcomers = group.create_task(keep_asking())
        statuses = {
            await (proxy.reload if number % 5 else proxy.replace)(variant(upstream.url, number))
            for number in range(1, RELOADS + 1)
        }
        reloaded.set()
        answers = [await stream for stream in streams]
        later = await newcomers

        status = await proxy.described()
        entries = proxy.entries()

    assert statuses == {200}
    assert status.config.generation == RELOADS + 1
    assert [(word, code) for word, code, _ in answers] == [
        (f"stream-{n}", 200) for n in range(STREAMS)
    ]
    assert {word: body for word, _, body in answers + later} == sent
    assert {code for _, code, _ in later} == {200}
    assert min(body.count(b"stream") for _, _, body in answers) > 20  # it was a long stream
    assert {entry.outcome for entry in entries} == {"complete"}
    served_by = {entry.request_id: entry.generation for entry in entries}
    assert {served_by[word] for word, _, _ in answers} == {1}
    newer = [served_by[word] for word, _, _ in later]  # in the order of their asking
    assert newer == sorted(newer)
    assert len(set(newer)) > 50
    assert len(entries) == STREAMS + len(later)


async def test_a_bad_file_under_load_changes_nothing_and_is_told_whole() -> None:
    bad = (
        b'{\n  "modelConfiguration": {"sourcegraph": null, "modelOverides": []},\n'
        b'  "penstock": {"limits": {"maxBodyBytes": "many"}}\n}\n'
    )
    async with (
        Upstream() as upstream,
        watched(config_for(upstream.url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(proxy.ask(CHAT, chat("first")))
        old = await upstream.accept()
        await begun(old, "first")
        proxy.config.write_bytes(bad)
        async with proxy.session.post(f"{proxy.admin_url}/reload") as response:
            refused = response.status
        during = await proxy.described()
        successful = value_of(await proxy.metrics(), "penstock_config_last_reload_successful")
        async with proxy.session.get(f"{proxy.admin_url}/readyz") as response:
            ready = response.status
        second = group.create_task(proxy.ask(CHAT, chat("second")))
        new = await upstream.accept()
        await begun(new, "second")
        whole(new, "second")
        whole(old, "first")
        bodies = [(await first)[1], (await second)[1]]
        accepted = await proxy.reload(config_for(upstream.url))
        after = await proxy.described()
        successful_again = value_of(await proxy.metrics(), "penstock_config_last_reload_successful")

        assert (refused, ready, accepted) == (422, 200, 200)
        assert (during.config.ok, during.config.generation) == (False, 1)
        assert {tuple(problem.split(": ")[:2]) for problem in during.config.problems} >= {
            ("line 2, column 47", "modelConfiguration.modelOverides"),
            ("line 3, column 43", "penstock.limits.maxBodyBytes"),
        }
        assert [model.ref for model in during.models] == [MODEL]
        assert bodies == [token(w) * 2 + FINISH + DONE for w in ("first", "second")]
        assert [entry.generation for entry in proxy.entries()] == [1, 1]
        assert (successful, successful_again) == (0, 1)
        assert (after.config.ok, after.config.generation, after.config.problems) == (True, 1, [])


@pytest.mark.parametrize("generation", [1, 2])
async def test_a_removed_endpoint_is_forgotten_when_its_last_stream_ends(generation: int) -> None:
    async with (
        Upstream() as leaving,
        Upstream() as staying,
        watched(config_for((leaving if generation == 1 else staying).url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        gone, kept = (up.url.removeprefix("http://") for up in (leaving, staying))
        if generation == 2:
            await proxy.replace(config_for(leaving.url))
        stream = group.create_task(proxy.ask(CHAT, chat("old")))
        up = await leaving.accept()
        await begun(up, "old")

        with no_collector():  # no cycle holds it either
            await proxy.replace(config_for(staying.url))
            during = await proxy.described()
            whole(up, "old")
            status, body = await stream
            after = await proxy.until(lambda status: gone not in status.in_flight)

    assert during.config.generation == generation + 1
    assert during.in_flight == {gone: 1, kept: 0}
    assert [model.endpoints for model in during.models] == [[kept]]
    assert (status, body) == (200, token("old") * 2 + FINISH + DONE)
    assert after.in_flight == {kept: 0}


async def test_an_endpoint_that_stays_keeps_its_count() -> None:
    async with (
        Upstream() as upstream,
        watched(config_for(upstream.url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        name = upstream.url.removeprefix("http://")
        counts, ends = [], []
        for number in range(3):
            stream = group.create_task(proxy.ask(CHAT, chat()))
            up = await upstream.accept()
            await begun(up, "word")
            ends.append((stream, up))
            await proxy.replace(variant(upstream.url, 2 * number))
            status = await proxy.described()
            gauge = value_of(
                await proxy.metrics(), "penstock_endpoint_in_flight", provider="lab", endpoint=name
            )
            counts.append((status.config.generation, status.in_flight[name], gauge))
        for stream, up in ends:
            whole(up, "word")
            await stream
        after = await proxy.until(lambda status: status.in_flight[name] == 0)

    assert counts == [(2, 1, 1), (3, 2, 2), (4, 3, 3)]
    assert after.in_flight[name] == 0


async def test_a_running_request_keeps_the_waits_it_began_with() -> None:
    def impatient(seconds: float) -> dict[str, Any]:
        return config_for(upstream.url, penstock={"timeouts": {"idleSeconds": seconds}})

    async with (
        Upstream() as upstream,
        watched(impatient(60)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        patient = group.create_task(proxy.ask(CHAT, chat("old")))
        old = await upstream.accept()
        await begun(old, "old")
        await proxy.replace(impatient(0.1))
        hasty = group.create_task(proxy.ask(CHAT, chat("new")))
        new = await upstream.accept()
        await begun(new, "new")
        _, broken = await hasty  # the older stream was silent for longer
        whole(old, "old")
        status, body = await patient
        entries = proxy.entries()

    assert b'"code":"timeout_idle"' in broken
    assert (status, body) == (200, token("old") * 2 + FINISH + DONE)
    assert [(each.outcome, each.generation) for each in entries] == [
        ("timeout_idle", 2),
        ("complete", 1),
    ]


async def test_a_stream_outlives_its_model() -> None:
    other = "den::v1::other"
    async with (
        Upstream() as upstream,
        Upstream() as second,
        watched(two_models(second.url, upstream.url)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        stream = group.create_task(proxy.ask(CHAT, chat("old", model=other)))
        up = await upstream.accept()
        await begun(up, "old")
        await proxy.replace(config_for(second.url))
        unknown, _ = await proxy.ask(CHAT, chat("new", model=other))
        whole(up, "old")
        status, body = await stream
        entries = proxy.entries()

    assert unknown == 404
    assert (status, body) == (200, token("old") * 2 + FINISH + DONE)
    assert [(each.outcome, each.model, each.generation) for each in entries] == [
        ("rejected", "unknown", 2),
        ("complete", other, 1),
    ]


async def test_events_push_every_new_status() -> None:
    one, two = "http://127.0.0.1:1", "http://127.0.0.1:2"
    async with (
        watched(config_for(one)) as proxy,
        proxy.session.get(f"{proxy.admin_url}/events") as feed,
    ):
        first = await pushed(feed.content)
        await proxy.replace(two_models(one, two))
        second = await pushed(feed.content)
        proxy.put({"modelConfiguration": 1})
        refused = await pushed(feed.content)
        last = await proxy.described()

    assert feed.content_type == "text/event-stream"
    assert last.config == refused.config
    assert [each.config.generation for each in (first, second, refused)] == [1, 2, 2]
    assert [model.ref for model in second.models] == [MODEL, "den::v1::other"]
    assert [each.config.ok for each in (first, second, refused)] == [True, True, False]
    assert [problem.partition(": ")[0] for problem in refused.config.problems] == [
        "line 1, column 23"
    ]


async def pushed(feed: StreamReader) -> Status:
    """The next event of a feed."""
    name = await feed.readline()
    while not name.strip():
        name = await feed.readline()
    data = await feed.readline()
    assert name == b"event: status\n"
    return msgspec.json.decode(data.removeprefix(b"data: "), type=Status)
