"""Whatever a client sends, a model server receives whole requests of ours or nothing.

Mutants of proper and of refused requests go through a penstock, each with a sentinel behind it on
its own connection, so that something of it that was taken for a request would show. What reached
the model server is read by a parser that knows nothing but what penstock writes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import islice
from random import Random

import msgspec
import pytest
from hypothesis import settings

from tests.e2e.frames import WHOLE
from tests.e2e.rawclient import post, raw_client
from tests.e2e.test_front_door import HARMLESS, REFUSED, SENTINEL
from tests.harness import MODEL, Proxy, chat, config_for, penstock
from tests.scripted import response

RUNS = 4
EACH = max(2000, 5 * settings.default.max_examples) // RUNS if settings.default else 500
AT_ONCE = 32
SOON = 0.2
LATE = 20.0

CHAT = "/v1/chat/completions"
BODY = msgspec.json.encode(chat(stream=False))
CHUNKED = (
    b"POST %b HTTP/1.1\r\nHost: penstock\r\nTransfer-Encoding: chunked\r\n\r\n" % CHAT.encode()
)
PROPER = [
    post(CHAT, BODY),
    post(CHAT, BODY, "Expect: 100-continue", "X-Request-Id: r"),
    post(CHAT, BODY, version="1.0"),
    post("/generate", b'{"inputs":"hi"}', "User-Agent: x"),
    post("/v1/messages", b'{"model":"lab/model","max_tokens":1,"messages":[]}', "X-Api-Key: k"),
    CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY),
    CHUNKED + b"1;a=b\r\n{\r\n%x\r\n%b\r\n0\r\nX-A: b\r\n\r\n" % (len(BODY) - 1, BODY[1:]),
    SENTINEL.replace(b"Connection: close\r\n", b""),
]
SEEDS = 4 * PROPER + [r for r in (*REFUSED.values(), *HARMLESS.values()) if len(r) < 4096]
PIECES = [
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"+",
        b"-",
        b"_",
        b"0x",
        b"\xff",
    ),
    *(
        b"0\r\n\r\n",
        b"\r\n\r\n",
        b"1\r\n",
        b"chunked",
        b"HTTP/1.1",
        b"\r\n ",
        b"GET / HTTP/1.1\r\n",
    ),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n"),
    *(b"Host: evil\r\n", b"Connection: close\r\n", b"Connection: content-length\r\n"),
    *(
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\n",
        b"Upgrade: websocket\r\n",
        b"Trailer: a\r\n",
    ),
]

# All that a request of ours consists of; what clients send is no part of its head.
OURS = re.compile(
    rb"POST /(?:v1/)?(?:chat/)?completions HTTP/1\.1\r\n"
    rb"((?:[a-z-]+: [\x20-\x7e]*\r\n)+)\r\n",
)
NAMES = frozenset({b"host", b"content-type", b"content-length", b"accept", b"accept-encoding"}) | {
    *(b"user-agent", b"x-request-id", b"connection")
}


def mutants(random: Random) -> Iterator[bytes]:
    """Requests with some bytes put in, left out, changed, moved or joined with another's."""
    while True:
        raw = random.choice(SEEDS)
        for _ in range(random.choice((1, 1, 2, 3))):
            raw = mutated(raw, random)
        yield raw


def mutated(raw: bytes, random: Random) -> bytes:
    """One change."""
    start = random.randrange(len(raw) + 1)
    end = min(len(raw), start + random.choice((1, 1, 2, 8, 40)))
    changes: list[Callable[[], bytes]] = [
        lambda: raw[:start] + random.choice(PIECES) + raw[start:],
        lambda: raw[:start] + raw[end:],
        lambda: raw[:start] + random.randbytes(1) + raw[start + 1 :],
        lambda: raw[:end] + raw[start:],
        lambda: raw + random.choice(SEEDS),
        lambda: raw[:start] + random.choice(SEEDS),
        lambda: shifted(raw, random),
    ]
    return random.choice(changes)()


def shifted(raw: bytes, random: Random) -> bytes:
    """A length that says a little more, or less."""
    numbers = [match.span() for match in re.finditer(rb"(?<=: )\d+|(?<=\n)[0-9a-f]+(?=[;\r])", raw)]
    if not numbers:
        return raw
    start, end = random.choice(numbers)
    by = random.choice((-1, 1, -2, 2, 16, len(SENTINEL), -len(raw)))
    return raw[:start] + b"%d" % max(0, int(raw[start:end], 16) + by) + raw[end:]


class ModelServer:
    """Answers requests of ours, and keeps whatever else it gets."""

    def __init__(self) -> None:
        self.url = ""
        self.requests = 0
        self.foreign: list[bytes] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        held = b""
        try:
            while piece := await reader.read(65536):
                held += piece
                while (rest := self._taken(held)) is not None:
                    held = rest
                    self.requests += 1
                    writer.write(response(WHOLE))
        except ConnectionError:
            held = b""
        finally:
            if held:
                self.foreign.append(held)
            writer.close()

    def _taken(self, held: bytes) -> bytes | None:
        """What follows the request that this begins with; None if it is not whole."""
        match = OURS.match(held)
        if match is None:
            if b"\r\n\r\n" not in held:
                return None
            self.foreign.append(held)
            raise ConnectionResetError
        fields = dict(line.split(b": ", 1) for line in match[1].splitlines())
        end = match.end() + int(fields[b"content-length"])
        if len(held) < end:
            return None
        is_ours = fields.keys() <= NAMES and self.url.endswith(fields[b"host"].decode())
        is_ours &= match[1].count(b"\r\n") == len(fields) and is_object(held[match.end() : end])
        if not is_ours:
            self.foreign.append(held[:end])
        return held[end:]


def is_object(body: bytes) -> bool:
    """Whether it is just one; what is in it is as the client wrote it, and it may be no UTF-8."""
    try:
        msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """One that listens."""
    model = ModelServer()
    server = await asyncio.start_server(model.serve, "127.0.0.1", 0)
    model.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield model
    finally:
        server.close()


async def survives(proxy: Proxy, mutant: bytes) -> None:
    """Send it, read all answers to it, then see that others are still served."""
    async with raw_client(proxy.url) as client:
        client.send(mutant + SENTINEL)
        try:
            async with asyncio.timeout(LATE):
                told = await client.rest()
        except TimeoutError:
            raise AssertionError(mutant) from None
    assert not told or told.startswith(b"HTTP/1."), (mutant, told)
    assert b" 500 " not in told[:13], mutant
    async with raw_client(proxy.url) as client:
        client.send(SENTINEL)
        answer = await client.answer()
    assert answer.status == 200, mutant
    assert MODEL.encode() in answer.body, mutant


async def survives_all(proxy: Proxy, model: ModelServer, sent: Iterator[bytes]) -> None:
    """One after the other; who fails says what was sent meanwhile."""
    for mutant in sent:
        await survives(proxy, mutant)
        assert model.foreign == [], mutant


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", range(RUNS))
async def test_no_request_makes_another(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.admission.BODY_SECONDS", SOON)
    monkeypatch.setattr("proxy.api.server.LINGER_SECONDS", SOON)
    monkeypatch.setattr("proxy.api.server.HEAD_SECONDS", 5 * SOON)  # sentinels are in no hurry
    monkeypatch.setattr("proxy.api.server.KEEPALIVE_SECONDS", 5 * SOON)
    sent = islice(mutants(Random(seed)), EACH)
    async with model_server() as model, penstock(config_for(model.url)) as proxy:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(survives_all(proxy, model, sent))
        lines = proxy.lines()

    assert model.foreign == []
    assert model.requests > EACH // 50  # many mutants are good requests, or hold one
    assert {line.event for line in lines} == {"request"}
    assert "internal_error" not in {line.outcome for line in lines}
