"""The configuration changes while streams run, and nobody notices who should not."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import msgspec
import pytest
from aiohttp import StreamReader

from proxy.config import watch
from tests.e2e.watched import Entry, Status, Watched, value_of, watched
from tests.harness import MODEL, chat, config_for, provider
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk

CHAT = "/v1/chat/completions"
FINISH = b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"

Answer: TypeAlias = tuple[str, int, bytes]  # the word that was asked for, status, body

STREAMS = 50
RELOADS = 500
ALTERNATIONS = 500  # of a bad file and a good one
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
        "health": {"intervalSeconds": 0},
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


class Load:
    """Streams that last until all is over, and meanwhile one short request after another."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.sent: dict[str, bytes] = {}  # by the word that a request was to repeat

    async def answer(self, up: Conversation) -> None:
        """The upstream: repeats the word it is sent until all is over; once to "short"."""
        async for request in up.requests():
            word = msgspec.json.decode(request.body, type=Asked).word
            self.sent[word] = b""
            up.send(STREAM_HEAD)
            is_short = word.startswith("short")
            count = 0
            while count == 0 or not (is_short or self.over.is_set()):
                count += 1
                frame = token(f"{word}-{count}")
                self.sent[word] += frame
                up.send(chunk(frame))
                await asyncio.sleep(SHORT_SECONDS if is_short else TOKEN_SECONDS)
            self.sent[word] += FINISH + DONE
            up.send(chunk(FINISH + DONE) + LAST_CHUNK)

    async def stream(self, proxy: Watched, number: int) -> Answer:
        """A request whose answer lasts."""
        return await _ask(proxy, f"stream-{number}")

    async def newcomers(self, proxy: Watched) -> list[Answer]:
        """Short requests in turn, until all is over."""
        answers: list[Answer] = []
        while not self.over.is_set():
            answers.append(await _ask(proxy, f"short-{len(answers)}"))
        return answers

    async def begun(self) -> None:
        """Each stream has its upstream."""
        while len(self.sent) < STREAMS:  # noqa: ASYNC110 - what a dictionary holds is no event
            await asyncio.sleep(0.01)

    def check(self, answers: list[Answer], later: list[Answer], entries: list[Entry]) -> None:
        """Every byte of every answer came, and the newcomers were served by ever newer files."""
        assert [(word, code) for word, code, _ in answers] == [
            (f"stream-{n}", 200) for n in range(STREAMS)
        ]
        assert {word: body for word, _, body in answers + later} == self.sent
        assert {code for _, code, _ in later} == {200}
        assert min(body.count(b"stream") for _, _, body in answers) > 10  # it was a long stream
        assert {entry.outcome for entry in entries} == {"complete"}
        assert len(entries) == STREAMS + len(later)
        served_by = {entry.request_id: entry.generation for entry in entries}
        assert {served_by[word] for word, _, _ in answers} == {1}
        newer = [served_by[word] for word, _, _ in later]  # in the order of their asking
        assert newer == sorted(newer)
        assert len(set(newer)) > 50


async def _ask(proxy: Watched, word: str) -> Answer:
    headers = {"x-request-id": word}
    return (word, *await proxy.ask(CHAT, chat(word), headers=headers))


@pytest.mark.timeout(60)
async def test_hundreds_of_reloads_alter_no_byte_of_any_stream() -> None:
    load = Load()
    async with (
        Upstream(load.answer) as upstream,
        watched(variant(upstream.url, 0)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        streams = [group.create_task(load.stream(proxy, n)) for n in range(STREAMS)]
        await load.begun()
        newcomers = group.create_task(load.newcomers(proxy))
        statuses = {
            await (proxy.reload if number % 5 else proxy.replace)(variant(upstream.url, number))
            for number in range(1, RELOADS + 1)
        }
        load.over.set()
        answers = [await stream for stream in streams]
        later = await newcomers

        status = await proxy.described()
        entries = proxy.entries()

    assert statuses == {200}
    assert status.config.generation == RELOADS + 1
    load.check(answers, later, entries)


@pytest.mark.timeout(60)
async def test_a_thousand_files_good_and_bad_in_turn_let_no_request_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Each file is put there whole: a thousand times the usual wait for that would be 20 seconds.
    monkeypatch.setattr(watch, "SETTLE_SECONDS", 0.001)
    load = Load()
    told: list[tuple[int, int, bool]] = []
    async with (
        Upstream(load.answer) as upstream,
        watched(variant(upstream.url, 0)) as proxy,
        asyncio.TaskGroup() as group,
    ):
        streams = [group.create_task(load.stream(proxy, n)) for n in range(STREAMS)]
        await load.begun()
        newcomers = group.create_task(load.newcomers(proxy))
        for number in range(1, ALTERNATIONS + 1):
            for content in (bad(upstream.url, number), good(upstream.url, number)):
                code, status = await reloaded(proxy, content)
                told.append((code, status.config.generation, status.config.ok))
        load.over.set()
        answers = [await stream for stream in streams]
        later = await newcomers

        last = await proxy.described()
        page = await proxy.metrics()
        entries = proxy.entries()

    assert told == [
        attempt
        for number in range(1, ALTERNATIONS + 1)
        for attempt in ((422, number, False), (200, number + 1, True))
    ]
    assert (last.config.generation, last.config.ok, last.config.problems) == (
        ALTERNATIONS + 1,
        True,
        [],
    )
    final = msgspec.json.decode(good(upstream.url, ALTERNATIONS))["modelConfiguration"]
    assert [model.ref for model in last.models] == [
        model["modelRef"] for model in final["modelOverrides"]
    ]
    assert value_of(page, "penstock_config_generation") == ALTERNATIONS + 1
    assert value_of(page, "penstock_config_last_reload_successful") == 1
    load.check(answers, later, entries)


def good(url: str, number: int) -> bytes:
    """A file of `variant`."""
    return msgspec.json.encode(variant(url, number))


def bad(url: str, number: int) -> bytes:
    """A file that is refused: for its syntax, for a key, for a value, for what it refers to."""
    config = variant(url, number)
    block = config["modelConfiguration"]
    match number % 5:
        case 0:
            return msgspec.json.encode(config)[: number % 400]
        case 1:
            block["modelOverides"] = []
        case 2:
            config["penstock"]["limits"] = {"maxBodyBytes": "many"}
        case 3:
            block["modelOverrides"][0]["modelRef"] = "nobody::v1::model"
        case _:
            block["providerOverrides"][0]["serverSideConfig"]["endpoints"] = [
                {"url": url, "accessToken": {"file": f"/nowhere/{number}"}}
            ]
    return msgspec.json.encode(config)


async def reloaded(proxy: Watched, content: bytes) -> tuple[int, Status]:
    """How a reload of this content is answered: its status, and what serves after it."""
    proxy.put_bytes(content)
    async with proxy.session.post(f"{proxy.admin_url}/reload") as response:
        return response.status, msgspec.json.decode(await response.read(), type=Status)


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
