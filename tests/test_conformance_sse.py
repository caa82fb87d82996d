"""The language-neutral vectors for server-sent events, each fed in every way its runner knows."""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from parsers.errors import FrameTooLarge, SizeLimit
from parsers.sse import SSEEvent, SSEParser

ROOT = Path(__file__).parent.parent
VECTORS = ROOT / "tests/fixtures/conformance"


class Repeated(msgspec.Struct, frozen=True):
    """A chunk of many equal parts."""

    b64: str
    times: int


class Expected(msgspec.Struct, frozen=True):
    """An event, or `times` equal ones; large data only by length and digest."""

    event: str
    id: str
    retry: int | Literal["*"] | None
    data: str | None = None
    data_len: int | None = None
    data_sha256: str | None = None
    times: int = 1

    def matches(self, got: SSEEvent) -> bool:
        return (
            (got.event or "message", got.id) == (self.event, self.id)
            and self.retry in ("*", got.retry)
            and self._matches_data(got.data)
        )

    def _matches_data(self, data: bytes) -> bool:
        if self.data is not None:
            return data == self.data.encode()
        return (len(data.decode()), hashlib.sha256(data).hexdigest()) == (
            self.data_len,
            self.data_sha256,
        )


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the parser is built with."""

    flush_at_eof: bool = False
    max_line_bytes: int | None = None
    max_event_bytes: int | None = None

    def parser(self) -> SSEParser:
        return SSEParser(
            flush_at_eof=self.flush_at_eof,
            max_line_bytes=self.max_line_bytes,
            max_event_bytes=self.max_event_bytes,
        )


class Vector(msgspec.Struct, frozen=True):
    """A stream and what it says."""

    name: str
    chunks: list[str | Repeated]
    events: list[Expected]
    options: Options = Options()
    last_event_id: str = ""
    retry: int | Literal["*"] | None = None
    error: SizeLimit | None = None

    def as_given(self) -> list[bytes]:
        return [
            base64.b64decode(chunk)
            if isinstance(chunk, str)
            else base64.b64decode(chunk.b64) * chunk.times
            for chunk in self.chunks
        ]


class Collection(msgspec.Struct, frozen=True):
    """The file."""

    count: int
    vectors: list[Vector]


COLLECTION = msgspec.json.decode((VECTORS / "sse.json").read_bytes(), type=Collection)


def sliced(stream: bytes, size: int) -> list[bytes]:
    return [stream[i : i + size] for i in range(0, len(stream), size)]


def ways(vector: Vector) -> dict[str, list[bytes]]:
    given = vector.as_given()
    stream = b"".join(given)
    if len(stream) > 20_000:
        return {"whole": [stream], "given": given, "1000 bytes": sliced(stream, 1000)}
    threes = [piece for three in sliced(stream, 3) for piece in (three, b"")]
    return {"whole": [stream], "given": given, "bytes": sliced(stream, 1), "threes": threes}


CASES = [
    pytest.param(vector, pieces, id=f"{vector.name}-{way}")
    for vector in COLLECTION.vectors
    for way, pieces in ways(vector).items()
]


def drive(parser: SSEParser, pieces: list[bytes]) -> tuple[list[SSEEvent], SizeLimit | None]:
    events: list[SSEEvent] = []
    try:
        for piece in pieces:
            events += parser.feed(piece)
        events += parser.close()
    except FrameTooLarge as error:
        events += [event for event in error.events if isinstance(event, SSEEvent)]
        return events, error.kind
    return events, None


def test_no_vector_is_missing() -> None:
    assert len(COLLECTION.vectors) == COLLECTION.count == 139


@pytest.mark.parametrize(("vector", "pieces"), CASES)
def test_vector(vector: Vector, pieces: list[bytes]) -> None:
    parser = vector.options.parser()
    expected = [event for event in vector.events for _ in range(event.times)]

    events, error = drive(parser, pieces)

    assert error == vector.error
    assert len(events) == len(expected)
    assert [got for got, want in zip(events, expected, strict=True) if not want.matches(got)] == []
    if error is None:
        assert parser.last_event_id == vector.last_event_id
        assert vector.retry in ("*", parser.retry)


def test_runner_finds_no_fault_and_no_late_event() -> None:
    options = ["--parser", "parsers.sse:SSEParser", "--path", str(ROOT), "--strict-prompt"]
    command = [sys.executable, str(VECTORS / "run_sse.py"), *options]

    run = subprocess.run(command, capture_output=True, text=True, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "pass 139/139" in run.stdout
    assert "unsupported options: 0  late dispatch: 0" in run.stdout
