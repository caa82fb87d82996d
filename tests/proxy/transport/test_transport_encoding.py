"""Compressed bodies that came although identity was asked for."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from proxy.transport import MAX_PIECE_BYTES, Inflater, TransportError

TEXT = b"data: hello\n\n" * 1000
GZIPPED = gzip.compress(TEXT, mtime=0)
BARE = zlib.compress(TEXT)[2:-4]
MEGABYTE = 1024 * 1024


def plain(encoding: bytes, *reads: bytes) -> bytes:
    inflater = Inflater(encoding)
    text = b"".join(piece for read in reads for piece in inflater.feed(read))
    inflater.close()
    return text


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", GZIPPED),
        (b"X-GZip ", GZIPPED),
        (b"deflate", zlib.compress(TEXT)),
        (b"deflate", BARE),
        (b"gzip", gzip.compress(TEXT[:5]) + gzip.compress(TEXT[5:])),
    ],
    ids=["gzip", "x-gzip", "zlib", "bare deflate", "two members"],
)
def test_what_was_compressed_comes_back(encoding: bytes, body: bytes) -> None:
    assert plain(encoding, body) == TEXT
    assert plain(encoding, *single_bytes(body)) == TEXT


def test_each_flushed_event_comes_at_once() -> None:
    compressor = zlib.compressobj(wbits=31)
    inflater = Inflater(b"gzip")

    for event in (b"data: a\n\n", b"data: b\n\n"):
        read = compressor.compress(event) + compressor.flush(zlib.Z_SYNC_FLUSH)
        assert b"".join(inflater.feed(read)) == event


def bomb() -> bytes:
    """Half a megabyte that holds half a gigabyte."""
    compressor = zlib.compressobj(9, wbits=31)
    zeros = bytes(MEGABYTE)
    return b"".join(compressor.compress(zeros) for _ in range(512)) + compressor.flush()


def test_a_bomb_is_undone_in_small_pieces() -> None:
    body = bomb()
    inflater = Inflater(b"gzip")
    total = largest = 0

    tracemalloc.start()
    for piece in inflater.feed(body):
        total += len(piece)
        largest = max(largest, len(piece))
        if total > 64 * MEGABYTE:
            break
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert largest == MAX_PIECE_BYTES
    assert peak < 2 * MEGABYTE


@pytest.mark.parametrize("size", [MAX_PIECE_BYTES - 1, MAX_PIECE_BYTES, MAX_PIECE_BYTES + 1])
@pytest.mark.parametrize("encoding", [b"gzip", b"deflate"])
def test_pieces_at_the_bound_lose_nothing(encoding: bytes, size: int) -> None:
    text = bytes(size)
    body = gzip.compress(text) if encoding == b"gzip" else zlib.compress(text)[2:-4]

    assert plain(encoding, body) == text


@pytest.mark.parametrize("encoding", [b"br", b"zstd", b"identity, gzip", b"", b"gzip, gzip"])
def test_other_encodings_are_refused(encoding: bytes) -> None:
    with pytest.raises(TransportError, match="other than gzip and deflate") as caught:
        Inflater(encoding)

    assert caught.value.kind == "framing"


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        (b"gzip", b"data: plain\n\n"),
        (b"gzip", GZIPPED[:-8] + b"\0" * 8),
        (b"gzip", GZIPPED + b"garbage garbage"),
        (b"deflate", b"data: plain\n\n"),
        (b"deflate", zlib.compress(TEXT) + b"more"),
    ],
    ids=["plain", "checksum", "garbage after", "plain deflate", "more after"],
)
def test_what_was_not_compressed_is_refused(encoding: bytes, body: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        plain(encoding, body)

    assert caught.value.kind == "framing"


@pytest.mark.parametrize(
    "body", [b"", GZIPPED[:-1], GZIPPED[:5]], ids=["nothing", "no last byte", "half a header"]
)
def test_an_early_end_is_a_truncation(body: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        plain(b"gzip", body)

    assert caught.value.kind == "truncated"
