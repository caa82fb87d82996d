"""The mixed load of `test_books`, for as long as one likes: SOAK_REQUESTS=100000 make soak."""

from __future__ import annotations

import os

import pytest

from tests.e2e.books import assert_balanced, lab, open_files, resident_bytes

SHORT = 300  # requests, where nothing else is asked for
LONG = 20_000  # the allocator needs about as many before its arenas stop growing
BATCH = 5_000
GROWTH_BYTES = 5 * 2**20
SEED = 1


@pytest.fixture
def requests() -> int:
    """How many requests to send."""
    return int(os.environ.get("SOAK_REQUESTS", SHORT))  # noqa: TID251 - how `make soak` says it


async def test_a_long_mixed_load_leaves_nothing_behind(requests: int) -> None:
    sizes = [BATCH] * (requests // BATCH) + [requests % BATCH]
    async with lab() as books:
        files = open_files()
        resident = []
        for number, size in enumerate(sizes):
            await books.load(SEED + number, size)
            resident.append(resident_bytes())
        page = await books.metrics()
        await books.at_rest()
        left = (books.running, books.demo.connections)
        resident.append(resident_bytes())
        more_files = open_files() - files

    assert_balanced(books, page)
    assert books.sent == requests
    assert left == (0, 0)
    if requests >= LONG:
        warmed_up = resident[len(resident) // 2]
        assert resident[-1] - warmed_up < GROWTH_BYTES, resident
        assert more_files <= 0
