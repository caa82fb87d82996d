"""Relays requests without sockets, so that what the interpreter does for one can be counted.

    python tests/bench/instructions.py unary 1000
    python tests/bench/instructions.py stream 1000

runs that many requests, or one stream of that many tokens, through everything between the request's
head and its log line; only the sockets at both ends do nothing. Under `valgrind --tool=callgrind`
two runs of different length give the instructions of one request or one token, the same each time.
"""

from __future__ import annotations

import asyncio
import io
import sys
import tempfile
from pathlib import Path

import msgspec
from aiohttp import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy

from parsers.dialects.openai import OPENAI_CHAT
from proxy.config.watch import digest_of
from proxy.endpoints import LiveState
from proxy.exchange import Exchange
from proxy.log import Log
from proxy.metrics import Metrics
from proxy.planning import Ask
from proxy.registry import build
from proxy.reload import Reloader
from proxy.service import Service
from proxy.transport import Pool
from proxy.transport.framing import ResponseReader

CONFIG = {
    "modelConfiguration": {
        "sourcegraph": None,
        "providerOverrides": [
            {
                "id": "lab",
                "serverSideConfig": {
                    "type": "openaicompatible",
                    "endpoints": [{"url": "http://127.0.0.1:9/v1"}],
                },
            }
        ],
        "modelOverrides": [{"modelRef": "lab::v1::m", "capabilities": ["chat"]}],
    },
    "penstock": {"clients": [{"name": "bench", "key": "sk-bench-0123456789"}]},
}
TEXT = "x" * 48
ANSWER = {
    "id": "a",
    "choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 9},
}
TOKEN = b'data: {"id":"a","choices":[{"index":0,"delta":{"content":"%06d"},"finish_reason":null}]}\n\n'
FINISH = b'data: {"id":"a","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


class Socket(asyncio.Transport):
    """A client's end that takes everything at once."""

    def write(self, data):
        """Taken."""

    def is_closing(self):
        """Never."""
        return False

    def get_write_buffer_size(self):
        """Nothing waits."""
        return 0


class Body:
    """A request's body that has come already."""

    def __init__(self, data):
        self._data = data

    def is_eof(self):
        """It has."""
        return True

    def read_nowait(self):
        """All of it."""
        return self._data


class Request:
    """What an exchange asks of aiohttp's request."""

    version = HttpVersion11
    keep_alive = True
    raw_headers = ()
    writer = None
    transport = Socket()

    def __init__(self, body):
        self.content = Body(body)
        self.content_length = len(body)
        self.headers = CIMultiDictProxy(
            CIMultiDict({"Host": "x", "Authorization": "Bearer sk-bench-0123456789"})
        )


class Upstream:
    """A connection on which the answer comes at once: parsed, pushed, ended as by the real one."""

    reused = True
    response_started = True

    def __init__(self, reads):
        self._reads = reads

    def send(self, head, body, receiver):
        """Push the answer."""
        reader = ResponseReader()
        head_given = False
        for data in self._reads:
            reader.feed(data)
            if not head_given:
                head_given = True
                receiver.on_head(reader.head)
            if reader.pieces:
                piece = b"".join(reader.pieces)
                reader.pieces.clear()
                receiver.on_data(piece)
        receiver.on_end(None)
        reader.close()

    def abort(self):
        """Nothing to close."""


def chunk(data):
    """Data in a chunk of its own."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def unary_reads():
    """A whole answer, in one read."""
    body = msgspec.json.encode(ANSWER)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return [head % len(body) + body]


def stream_reads(tokens):
    """A streamed answer, a read per token."""
    middle = [chunk(TOKEN % number) for number in range(tokens)]
    return [STREAM_HEAD, *middle, chunk(FINISH), chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


async def run(reads, requests, *, stream):
    """This many requests, each answered with these reads."""
    data = msgspec.json.encode(CONFIG)
    live = LiveState()
    registry = build(data, 1, live)
    with tempfile.NamedTemporaryFile() as file:
        reloader = Reloader(
            Path(file.name), lambda *_: registry, registry, data, lambda _: None
        )
    assert reloader.status.digest == digest_of(data)
    service = Service(reloader, live, Metrics(), Log(io.BytesIO()))
    Pool.kept = lambda _: Upstream(reads)
    body = msgspec.json.encode(
        {"model": "lab/m", "stream": stream, "messages": [{"role": "user", "content": TEXT}]}
    )
    ask = Ask(OPENAI_CHAT, exact=OPENAI_CHAT)
    for _ in range(requests):
        await Exchange(service, Request(body), ask).run()
        service.log.flush()


def main():
    """Run as the command line says."""
    kind, count = sys.argv[1], int(sys.argv[2])
    if kind == "unary":
        asyncio.run(run(unary_reads(), count, stream=False))
    else:
        asyncio.run(run(stream_reads(count), 1, stream=True))


if __name__ == "__main__":
    main()
