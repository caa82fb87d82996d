"""A capture served back: penstock in front of it does again what it did."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.capture import CaptureFile
from tests.e2e.captured import captures, capturing
from tests.e2e.frames import DONE, FINISH, ROLE, TOKEN, in_reads
from tests.e2e.program import killed, run, started
from tests.harness import chat, penstock
from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Script, Upstream, chunk, response

CHAT = "/v1/chat/completions"
VERBOSE = {"enableVerboseLogs": True}
ERROR = b'data: {"error":{"message":"out of memory","code":507}}\n\n'


class Seen(NamedTuple):
    """What one request came to."""

    status: int
    body: bytes
    outcome: str
    capture: CaptureFile


async def seen(url: str, directory: Path, *, streamed: bool = True) -> Seen:
    """What a client of a penstock in front of this gets, and its capture."""
    config = capturing(url, directory, VERBOSE)
    config["penstock"]["timeouts"] = {"idleSeconds": 0.3}
    async with penstock(config) as proxy:
        status, body = await proxy.ask(
            CHAT, chat(stream=streamed), headers={"X-Request-Id": "same"}
        )
        (line,) = await proxy.ended()
        (capture,) = await captures(directory)
    return Seen(status, body, line.outcome, capture)


@asynccontextmanager
async def replaying(directory: Path, *options: str) -> AsyncIterator[str]:
    """The program, serving the one capture of a directory; its URL."""
    (file,) = directory.glob("*.capture")
    process = await started("replay", str(file), "--port", "0", *options)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = (await process.stdout.readline()).decode()
        assert line.startswith("penstock replay: 1 recorded answer, on http://127.0.0.1:")
        yield line.split()[-1]
        process.send_signal(signal.SIGTERM)
        assert (await process.wait(), await process.stderr.read()) == (0, b"")
    finally:
        await killed(process)


async def odd_reads(up: Conversation) -> None:
    reads = [ROLE[:5], ROLE[5:] + TOKEN + TOKEN[:1], TOKEN[1:], FINISH, DONE[:3], DONE[3:]]
    await in_reads(up, reads)
    up.send(LAST_CHUNK)


async def cut_in_a_chunk(up: Conversation) -> None:
    up.send(STREAM_HEAD + chunk(TOKEN) + b"400\r\ndata: {")
    await up.pause()


async def no_chunk(up: Conversation) -> None:
    await in_reads(up, [TOKEN])
    up.send(b"no chunk\r\n")
    await up.gone()


async def an_error(up: Conversation) -> None:
    await in_reads(up, [TOKEN, ERROR])
    up.send(LAST_CHUNK)


async def a_reset(up: Conversation) -> None:
    await in_reads(up, [TOKEN, TOKEN])
    up.reset()


async def a_truncation(up: Conversation) -> None:
    await in_reads(up, [TOKEN])
    up.finish()
    await up.gone()


async def silence(up: Conversation) -> None:
    await in_reads(up, [TOKEN])
    await up.gone()


async def without_framing(up: Conversation) -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    up.send(head + TOKEN)
    await up.pause()
    up.send(FINISH + DONE)


async def an_overload(up: Conversation) -> None:
    body = b'{"error":{"message":"busy"}}'
    up.send(response(body, status=429, headers=b"Retry-After: 7\r\n"))


async def nothing(up: Conversation) -> None:
    up.finish()


ANSWERS = [
    *(odd_reads, cut_in_a_chunk, no_chunk, an_error, a_reset, a_truncation, silence),
    *(without_framing, an_overload, nothing),
]


def reads_of(capture: CaptureFile) -> list[bytes]:
    """The reads of the first answer."""
    return [event.data for event in capture.of("upstream-1", "received")]


async def replayed(tmp_path: Path, name: str) -> Seen:
    """What comes of the first capture once more."""
    async with replaying(tmp_path / "first") as url:
        return await seen(url, tmp_path / name)


@pytest.mark.parametrize("answer", ANSWERS)
async def test_a_replayed_answer_comes_to_the_same(answer: Script, tmp_path: Path) -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        await answer(up)

    async with Upstream(script) as upstream:
        before = await seen(upstream.url, tmp_path / "first")
    after = await replayed(tmp_path, "second")
    if reads_of(after.capture) != reads_of(before.capture):
        # The kernel joins two writes where the reader was not scheduled; not always.
        after = await replayed(tmp_path, "third")

    assert after[:3] == before[:3]
    assert reads_of(after.capture) == reads_of(before.capture)
    endings = [each.capture.of("upstream-1", "ended")[0].data for each in (before, after)]
    assert endings[0] == endings[1]


async def test_a_replay_takes_the_time_that_it_took(tmp_path: Path) -> None:
    async def script(up: Conversation) -> None:
        await up.request()
        await in_reads(up, [TOKEN])
        await asyncio.sleep(0.2)
        up.send(chunk(FINISH + DONE) + LAST_CHUNK)

    def took(capture: CaptureFile) -> float:
        reads = capture.of("upstream-1", "received")
        return reads[-1].at - reads[0].at

    async with Upstream(script) as upstream:
        await seen(upstream.url, tmp_path / "recorded")
    times = {}
    for pace in ("1.0", "0"):
        async with replaying(tmp_path / "recorded", "--pace", pace) as url:
            times[pace] = took((await seen(url, tmp_path / pace)).capture)

    assert times["1.0"] >= 0.19
    assert times["0"] < 0.15


async def test_a_whole_answer_is_replayed_on_a_connection_that_is_kept(tmp_path: Path) -> None:
    body = b'{"choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}]}'

    async def script(up: Conversation) -> None:
        async for _ in up.requests():
            up.send(response(body))

    async with Upstream(script) as upstream:
        await seen(upstream.url, tmp_path / "recorded", streamed=False)
    async with (
        replaying(tmp_path / "recorded") as url,
        penstock(capturing(url, tmp_path / "second")) as proxy,
    ):
        asked = [await proxy.ask(CHAT, chat(stream=False)) for _ in range(3)]
        async with proxy._session.get(f"{url}/health") as checked:
            assert checked.status == 200

    assert asked == [(200, body)] * 3


BAD: list[Any] = [
    (b"", "the first line is not that of a capture"),
    (b'{"format":"other/1","time":"","reason":"","request":{}}\n', "the format is not"),
    (b'{"format":"penstock-capture/1","time":"","reason":"","request":{}}\nx', "no marker"),
    (b'{"format":"penstock-capture/1","time":"","reason":"","request":{}}\n', "no model server"),
]


@pytest.mark.parametrize(("content", "said"), BAD)
async def test_what_cannot_be_replayed_is_said(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "x.capture"
    file.write_bytes(content)

    ended = await run("replay", str(file))

    assert (ended.status, ended.out) == (1, "")
    assert said in ended.err


async def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    ended = await run("replay", str(tmp_path / "x"))

    assert (ended.status, ended.err) == (69, "penstock replay: No such file or directory\n")
