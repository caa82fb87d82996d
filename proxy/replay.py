"""`penstock replay`: a capture as a model server, so that what went wrong can be seen again.

Each request gets the next of the answers in the capture, whatever it asks; after the last comes the
first. The bytes, the cuts between reads and the time between them are those of the capture; an
answer that was reset, cut off or never ended is so again. Only what was masked stays masked.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
import struct
import sys
from itertools import cycle
from pathlib import Path
from typing import TypeAlias

import msgspec

from proxy.capture import BadCapture, CaptureFile, Event, read_capture
from proxy.capture.wire import message

MAX_WAIT_SECONDS = 600.0  # a pace that is mistaken for another should not look like a hang
# Two writes without time between them would be one read.
_GAP_SECONDS = 0.002
_BEFORE_RESET_SECONDS = 0.02  # what was not read when it comes may be lost
_MAX_HEAD_BYTES = 256 * 1024
_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
_LINGER = struct.pack("ii", 1, 0)  # closing resets
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*(\d{1,12})[ \t]*\r?$")

_Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answer(msgspec.Struct, frozen=True):
    """What one call to a model server brought."""

    reads: tuple[tuple[float, bytes], ...]  # each with the seconds since what came before
    ending: str  # one of `format.ENDINGS`
    end_wait: float  # seconds between the last read and the end


def answers_in(capture: CaptureFile) -> list[Answer]:
    """The answers in a capture that can be given again; calls that got none only if all did."""
    answers = [_answer(capture, party) for party in capture.upstreams]
    reached = [each for each in answers if each.ending != "unreachable"]
    return [each for each in reached if each.reads] or reached


def _answer(capture: CaptureFile, party: str) -> Answer:
    sent = capture.of(party, "sent")
    ended: list[Event] = capture.of(party, "ended")
    at = sent[0].at if sent else 0.0
    reads = []
    for event in capture.of(party, "received"):
        reads.append((event.at - at, event.data))
        at = event.at
    if not ended:
        return Answer(tuple(reads), "aborted", 0.0)
    return Answer(tuple(reads), ended[0].data.decode(), ended[0].at - at)


class Replay:
    """Serves the answers of a capture; `pace` is by how much slower than it was, 0 for at once."""

    def __init__(self, answers: list[Answer], pace: float) -> None:
        self._answers = cycle(answers)
        self._pace = pace

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            while (method := await _took_request(reader)) is not None:
                if method != b"POST":  # health checks are not what was captured
                    writer.write(_HEALTHY)
                elif not await self._play(next(self._answers), (reader, writer)):
                    break
        writer.close()

    async def _play(self, answer: Answer, streams: _Streams) -> bool:
        """Give one answer; whether the connection may serve another request."""
        reader, writer = streams
        for wait, data in answer.reads:
            await self._wait(wait, _GAP_SECONDS)
            writer.write(data)
            await writer.drain()
        if answer.ending == "whole":
            return _is_framed(b"".join(data for _, data in answer.reads))
        if answer.ending == "reset":
            await self._wait(answer.end_wait, _BEFORE_RESET_SECONDS)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            writer.transport.abort()
        elif answer.ending == "truncated":
            await self._wait(answer.end_wait, _GAP_SECONDS)
        else:  # it was penstock that ended it
            await reader.read()
        return False

    async def _wait(self, seconds: float, least: float) -> None:
        await asyncio.sleep(min(max(seconds * self._pace, least), MAX_WAIT_SECONDS))


async def _took_request(reader: asyncio.StreamReader) -> bytes | None:
    """Read a request and forget all but its method; None if there was none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    length = _LENGTH.search(head)
    left = 0 if length is None else int(length[1])
    while left > 0:
        left -= len(await reader.readexactly(min(left, _MAX_HEAD_BYTES)))
    return head.partition(b" ")[0]


def _is_framed(raw: bytes) -> bool:
    """Whether an answer ends by itself, and not with its connection."""
    head = message(raw)
    if head.value(b"connection").lower() == b"close":
        return False
    return head.is_chunked or bool(head.value(b"content-length"))


def replay(path: Path, host: str, port: int, pace: float) -> int:
    """Serve a capture until SIGINT or SIGTERM; the exit status. Raises OSError."""
    try:
        capture = read_capture(path.read_bytes())
    except BadCapture as error:
        sys.stderr.write(f"penstock replay: {path}: {error}\n")
        return 1
    answers = answers_in(capture)
    if not answers:
        sys.stderr.write(f"penstock replay: {path}: no model server answered\n")
        return 1
    for kind, count in capture.header.incomplete.items():
        sys.stderr.write(f"penstock replay: {kind}: only the beginning of {count} bytes is here\n")
    asyncio.run(_serve(Replay(answers, max(pace, 0.0)), host, port, len(answers)))
    return 0


async def _serve(replay: Replay, host: str, port: int, count: int) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(replay, host, port, limit=_MAX_HEAD_BYTES)
    name, number = server.sockets[0].getsockname()[:2]
    name = f"[{name}]" if ":" in name else name
    noun = "answer" if count == 1 else "answers"
    sys.stdout.write(f"penstock replay: {count} recorded {noun}, on http://{name}:{number}\n")
    sys.stdout.flush()
    await stop.wait()
    server.close()
