"""Captures: who is captured, what is in the file, and that nothing secret is."""

from __future__ import annotations

import asyncio
import gzip
import stat
from pathlib import Path

import msgspec
import pytest

from proxy.capture import CaptureFile
from tests.e2e.captured import captures, capturing, counted, debug, files
from tests.e2e.frames import DONE, FINISH, TOKEN, in_reads, same, stream
from tests.e2e.rawclient import post, raw_client
from tests.harness import MODEL, chat, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Upstream, chunk, response

CHAT = "/v1/chat/completions"
KEY = "canary0client0key0000001"
TOKEN_OF_SERVER = "canary0access0token00001"
VERBOSE = {"enableVerboseLogs": True}


def data(capture: CaptureFile, party: str, act: str) -> list[bytes]:
    """The bytes of each event of a kind."""
    return [each.data for each in capture.events if (each.party, each.act) == (party, act)]


# Who is captured


async def test_nothing_is_written_unless_somebody_asked(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, folder)) as proxy,
    ):
        assert not proxy.service.captures.on
        await proxy.ask(CHAT, chat())

    assert not folder.exists()


@pytest.mark.parametrize("key", ["enableVerboseLogs", "debugConnections"])
async def test_a_provider_is_captured_under_either_name(key: str, tmp_path: Path) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, tmp_path, {key: True})) as proxy,
    ):
        await proxy.ask(CHAT, chat())
        (capture,) = await captures(tmp_path)

    assert (capture.header.reason, capture.header.request["outcome"]) == ("debug", "complete")


async def test_a_reload_switches_captures_on_and_off(tmp_path: Path) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, tmp_path)) as proxy,
    ):
        await proxy.reload(capturing(upstream.url, tmp_path, VERBOSE))
        await asyncio.sleep(0)
        on = proxy.service.captures.on
        await proxy.reload(capturing(upstream.url, tmp_path))
        await asyncio.sleep(0)

        assert (on, proxy.service.captures.on) == (True, False)


@pytest.mark.parametrize("order", [{"model": "lab/model"}, {"client": "anonymous"}])
async def test_a_model_or_a_client_is_captured_for_a_while(
    order: dict[str, object], tmp_path: Path
) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, tmp_path)) as proxy,
    ):
        status, shown = await debug(proxy, "POST", {**order, "seconds": 60})
        await proxy.ask(CHAT, chat())
        await captures(tmp_path, 1)
        ended = await debug(proxy, "DELETE", order)
        await proxy.ask(CHAT, chat())
        await proxy.ended(2)

        (on,) = shown["on"]
        assert status == 200
        assert 50 < on.pop("seconds_left") <= 60
        assert on in ({"model": MODEL}, {"client": "anonymous"})
        assert (ended[0], ended[1]["on"]) == (200, [])
        assert not proxy.service.captures.on


async def test_what_was_asked_for_ends_by_itself(tmp_path: Path) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, tmp_path)) as proxy,
    ):
        await debug(proxy, "POST", {"model": MODEL, "seconds": 1e-9})
        await proxy.ask(CHAT, chat())

        assert not proxy.service.captures.on
        assert (await debug(proxy, "GET"))[1]["on"] == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "order",
    [
        None,
        {},
        {"model": "nobody"},
        {"client": "nobody"},
        {"model": MODEL, "client": "anonymous"},
        {"model": MODEL, "seconds": 0},
        {"model": MODEL, "seconds": 1e9},
        {"model": MODEL, "minutes": 1},
    ],
)
async def test_an_order_that_means_nothing_is_refused(order: object, tmp_path: Path) -> None:
    async with penstock(capturing("http://127.0.0.1:9", tmp_path)) as proxy:
        status, shown = await debug(proxy, "POST", order)

        assert (status, list(shown)) == (400, ["error"])
        assert not proxy.service.captures.on


async def test_other_models_are_not_captured_and_their_replies_not_tapped(tmp_path: Path) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, tmp_path, sample=0)) as proxy,
    ):
        await debug(proxy, "POST", {"model": MODEL})
        assert await proxy.ask(CHAT, chat()) == (200, TOKEN + FINISH + DONE)
        await proxy.ended()
        _, shown = await debug(proxy, "GET")

    assert shown["held_bytes"] == 0
    assert shown["captures"] == {"written": 0, "dropped": 0, "failed": 0}
    assert list(tmp_path.iterdir()) == []


async def test_of_many_requests_a_sample_is_captured(tmp_path: Path) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, tmp_path, sample=0.5)) as proxy,
    ):
        await debug(proxy, "POST", {"model": MODEL})
        for _ in range(100):
            await proxy.ask(CHAT, chat())
        _, shown = await debug(proxy, "GET")
        while shown["held_bytes"]:
            _, shown = await debug(proxy, "GET")

    assert 15 < shown["captures"]["written"] < 85  # outside it once in 10**12 runs


async def test_the_last_failures_are_kept_unasked(tmp_path: Path) -> None:
    answers = [stream(TOKEN), stream(TOKEN, FINISH, DONE), response(b"{}", status=500), stream()]
    waiting = iter(answers)

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(next(waiting))

    async with (
        Upstream(script) as upstream,
        penstock(capturing(upstream.url, tmp_path, keepLast=2)) as proxy,
    ):
        for _ in answers:
            await proxy.ask(CHAT, chat())
        await counted(proxy, "written", 3)
        kept = await captures(tmp_path, 2)

    assert [each.header.reason for each in kept] == ["failed", "failed"]
    assert [each.header.request["outcome"] for each in kept] == ["upstream_error", "truncated"]


async def test_slow_requests_are_kept_unasked(tmp_path: Path) -> None:
    async with (
        Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream,
        penstock(capturing(upstream.url, tmp_path, keepLast=2, slowSeconds=1e-6)) as proxy,
    ):
        await proxy.ask(CHAT, chat())
        (capture,) = await captures(tmp_path)

    assert (capture.header.reason, capture.header.request["outcome"]) == ("slow", "complete")


async def test_a_request_that_never_reached_a_model_is_captured_for_its_client(
    tmp_path: Path,
) -> None:
    async with penstock(capturing("http://127.0.0.1:9", tmp_path)) as proxy:
        await debug(proxy, "POST", {"client": "anonymous"})
        await proxy.ask(CHAT, b"{")
        (capture,) = await captures(tmp_path)

    (_, asked), (told,) = data(capture, "client", "received"), data(capture, "client", "sent")
    assert asked == b"{"
    assert told.startswith(b"HTTP/1.1 400 ")
    assert capture.upstreams == []


# What is in the file


async def test_both_sides_are_captured_byte_for_byte_in_the_reads_they_came_in(
    tmp_path: Path,
) -> None:
    reads = [TOKEN[:7], TOKEN[7:] + TOKEN[:20], TOKEN[20:], FINISH + DONE]

    async def script(up: Conversation) -> None:
        await up.request()
        await in_reads(up, reads)
        up.send(LAST_CHUNK)
        await up.gone()

    async with (
        Upstream(script) as upstream,
        penstock(capturing(upstream.url, tmp_path, VERBOSE)) as proxy,
        raw_client(proxy.url) as client,
    ):
        asked = post(CHAT, chat("what\u00e9"), "X-Odd:  a b")
        client.send(asked)
        got = await client.answer()
        (capture,) = await captures(tmp_path)
        (file,) = await files(tmp_path)

    assert b"".join(data(capture, "client", "received")) == asked.replace(b"Odd:  a", b"Odd: a")
    assert b"".join(data(capture, "upstream-1", "sent")) == (
        upstream.requests[0].head + upstream.requests[0].body
    )
    assert data(capture, "upstream-1", "received") == [
        STREAM_HEAD,
        *(chunk(each) for each in reads),
        LAST_CHUNK,
    ]
    assert data(capture, "upstream-1", "ended") == [b"whole"]
    told = b"".join(data(capture, "client", "sent"))
    assert told.startswith(got.head)
    assert told.endswith(LAST_CHUNK)
    assert got.body == TOKEN + TOKEN + FINISH + DONE
    times = [each.at for each in capture.events]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < capture.header.request["seconds"]
    assert b"\n" + STREAM_HEAD in file  # a person can read it


async def test_each_call_of_a_request_is_captured(tmp_path: Path) -> None:
    async def broken(up: Conversation) -> None:
        await up.request()
        up.reset()

    async with Upstream(broken) as first, Upstream(broken) as second:
        config = capturing([first.url, second.url], tmp_path, VERBOSE)
        async with penstock(config) as proxy:
            await proxy.ask(CHAT, chat())
            (capture,) = await captures(tmp_path)

    assert capture.upstreams[:2] == ["upstream-1", "upstream-2"]
    assert data(capture, "upstream-2", "ended") in ([b"reset"], [b"truncated"])


async def test_a_long_request_is_captured_in_part_and_served_whole(tmp_path: Path) -> None:
    async with Upstream(same(stream(*[TOKEN] * 100, FINISH, DONE))) as upstream:
        config = capturing(upstream.url, tmp_path, VERBOSE, maxBytes=1024)
        async with penstock(config) as proxy:
            status, body = await proxy.ask(CHAT, chat("x" * 100_000))
            (capture,) = await captures(tmp_path)

    assert (status, body) == (200, TOKEN * 100 + FINISH + DONE)
    assert len(upstream.requests[0].body) > 100_000
    for kind, count in capture.header.incomplete.items():
        party, act = kind.split(" ")
        assert sum(map(len, data(capture, party, act))) == 1024 < count
    assert set(capture.header.incomplete) == {
        *("client received", "client sent", "upstream-1 sent", "upstream-1 received")
    }


async def test_a_wrong_key_is_captured_as_anonymous_and_masked(tmp_path: Path) -> None:
    async with penstock(guarded("http://127.0.0.1:9", tmp_path)) as proxy:
        await debug(proxy, "POST", {"client": "anonymous"})
        status, _ = await proxy.ask(CHAT, chat(), headers={"X-Api-Key": "wrong-key"})
        (capture,) = await captures(tmp_path)

    assert status == 401
    (asked,) = data(capture, "client", "received")  # its body was not read
    assert b"\r\nX-Api-Key: *********\r\n" in asked
    assert b"wrong-key" not in b"".join(await files(tmp_path))


async def test_files_are_for_their_owner_and_the_oldest_go_first(tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    async with Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream:
        config = capturing(upstream.url, folder, VERBOSE, maxFileBytes=6000)
        async with penstock(config) as proxy:
            for number in range(10):
                await proxy.ask(CHAT, chat(), headers={"X-Request-Id": f"r/{number}"})
            await counted(proxy, "written", 10)
            page = await proxy.metrics()
            while proxy.service.captures.held_bytes:  # noqa: ASYNC110 - a thread lets go
                await asyncio.sleep(0.005)

    kept = sorted(folder.iterdir())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in kept} == {0o600}
    assert 0 < len(kept) < 10
    assert sum(each.stat().st_size for each in kept) <= 6000
    assert kept[-1].name.endswith("-debug-r_9.capture")
    assert 'penstock_captures_total{result="written"} 10.0' in page


async def test_a_directory_that_cannot_be_had_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with Upstream(same(stream(TOKEN, FINISH, DONE))) as upstream:
        config = capturing(upstream.url, tmp_path / "file" / "captures", VERBOSE)
        async with penstock(config) as proxy:
            for _ in range(2):
                assert (await proxy.ask(CHAT, chat()))[0] == 200
            await counted(proxy, "failed", 2)
            log = proxy.written()

    assert log.count(b'"event":"capture","problem":"not a directory"') == 1


async def test_a_client_that_leaves_is_in_the_capture(tmp_path: Path) -> None:
    async with (
        Upstream() as upstream,
        penstock(capturing(upstream.url, tmp_path, VERBOSE)) as proxy,
    ):
        async with raw_client(proxy.url) as client:
            client.ask(CHAT, chat())
            up = await upstream.accept()
            await up.request()
            await in_reads(up, [TOKEN])
            await client.read_until(TOKEN)
            client.hang_up()
        (capture,) = await captures(tmp_path)

    assert capture.header.request["outcome"] == "client_gone"
    assert data(capture, "upstream-1", "ended") == [b"aborted"]


# What is not


def guarded(url: str, directory: Path) -> dict[str, object]:
    """A configuration with both kinds of secret in it."""
    config = capturing(url, directory, VERBOSE)
    config["penstock"]["clients"] = [{"name": "alice", "key": KEY}]
    (override,) = config["modelConfiguration"]["providerOverrides"]
    override["serverSideConfig"]["endpoints"][0]["accessToken"] = TOKEN_OF_SERVER
    return config


def escaped(text: str) -> bytes:
    """The text as a JSON encoder may write it."""
    return "".join(f"\\u{ord(each):04X}" for each in text).encode()


SAID = {
    "plain": TOKEN_OF_SERVER.encode(),
    "escaped": escaped(TOKEN_OF_SERVER),
    "in part": TOKEN_OF_SERVER[:9].encode() + escaped(TOKEN_OF_SERVER[9:]),
    "the client's": KEY.encode(),
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_a_secret_in_a_stream_is_masked_wherever_reads_and_chunks_cut_it(
    said: bytes, tmp_path: Path
) -> None:
    frame = TOKEN.replace(b"Hi", b"Key %b." % said)
    cuts = range(TOKEN.index(b"Hi"), TOKEN.index(b"Hi") + len(said) + 8, 3)
    waiting = iter(cuts)

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            cut = next(waiting)
            await in_reads(up, [frame[:cut], frame[cut:]])
            up.send(chunk(FINISH + DONE) + LAST_CHUNK)

    async with (
        Upstream(script) as upstream,
        penstock(guarded(upstream.url, tmp_path)) as proxy,
    ):
        keys = {"Authorization": f"Bearer {KEY}"}
        for _ in cuts:
            assert await proxy.ask(CHAT, chat(), headers=keys) == (200, frame + FINISH + DONE)
        found = await captures(tmp_path, len(cuts))
        whole = await files(tmp_path)

    masked = frame.replace(said, b"*" * len(said))
    for cut, capture in zip(cuts, found, strict=True):
        assert data(capture, "upstream-1", "received")[1:3] == [
            chunk(masked[:cut]),
            chunk(masked[cut:]),
        ]
    for secret in (TOKEN_OF_SERVER, KEY):
        assert not [each for each in whole if secret.encode() in each]


async def test_keys_cookies_and_custom_headers_are_masked_by_name(tmp_path: Path) -> None:
    answer = response(b"{}", status=400, headers=b"Set-Cookie: a=b; c\r\nX-Key: q\r\nX-Ok: q\r\n")
    async with (
        Upstream(same(answer)) as upstream,
        penstock(capturing(upstream.url, tmp_path, VERBOSE)) as proxy,
    ):
        config = capturing(upstream.url, tmp_path, VERBOSE)
        (override,) = config["modelConfiguration"]["providerOverrides"]
        endpoint = override["serverSideConfig"]["endpoints"][0]
        endpoint["headers"] = {"X-Team": "short"}
        await proxy.reload(config)
        await asyncio.sleep(0)
        sent = {"api-key": "k1", "Cookie": "k2", "X-Team": "k3", "X-Custom-Token": "k4", "A": "k5"}
        await proxy.ask(f"{CHAT}?key=k6&api-version=7", chat(), headers=sent)
        (capture,) = await captures(tmp_path)

    (asked, _), (call,) = data(capture, "client", "received"), data(capture, "upstream-1", "sent")
    (answered,) = data(capture, "upstream-1", "received")
    lines = asked.split(b"\r\n")
    assert lines[0] == b"POST /v1/chat/completions?key=**&api-version=7 HTTP/1.1"
    for line in (b"api-key: **", b"Cookie: **", b"X-Team: **", b"X-Custom-Token: **", b"A: k5"):
        assert line in lines
    assert b"\r\nX-Team: *****\r\n" in call
    assert answered == answer.replace(b"a=b; c", b"******").replace(b"X-Key: q", b"X-Key: *")


@pytest.mark.parametrize(
    ("text", "kept"), [(b'{"error":"no"}', True), (TOKEN_OF_SERVER.encode(), False)]
)
async def test_a_compressed_answer_is_kept_if_there_is_nothing_to_hide_in_it(
    text: bytes, kept: bool, tmp_path: Path
) -> None:
    body = gzip.compress(text, mtime=0)
    answer = response(body, status=400, headers=b"Content-Encoding: gzip\r\n")
    async with (
        Upstream(same(answer)) as upstream,
        penstock(guarded(upstream.url, tmp_path)) as proxy,
    ):
        await proxy.ask(CHAT, chat(), headers={"Authorization": f"Bearer {KEY}"})
        (capture,) = await captures(tmp_path)

    (answered,) = data(capture, "upstream-1", "received")
    assert answered == (answer if kept else answer.replace(body, b"*" * len(body)))


async def test_the_name_that_a_model_hides_is_masked_and_no_word_of_the_protocol(
    tmp_path: Path,
) -> None:
    def answer(name: bytes) -> bytes:
        return b'{"model": "%b","content":"data","data":{"x":"data-data mydata"}}' % name

    async with Upstream(same(response(answer(b"data"), status=400))) as upstream:
        config = capturing(upstream.url, tmp_path, VERBOSE)
        (model,) = config["modelConfiguration"]["modelOverrides"]
        model["serverSideConfig"] = {"type": "openaicompatible", "apiModel": "data"}
        async with penstock(config) as proxy:
            await proxy.ask(CHAT, chat(stream=False))
            (capture,) = await captures(tmp_path)

    (call,) = data(capture, "upstream-1", "sent")
    (answered,) = data(capture, "upstream-1", "received")
    assert b'"model":"****"' in call
    assert answered.partition(b"\r\n\r\n")[2] == (
        b'{"model": "****","content":"****","data":{"x":"****-**** mydata"}}'
    )
    assert msgspec.json.decode(answered.partition(b"\r\n\r\n")[2])
