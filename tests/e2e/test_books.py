"""A thousand mixed requests, and every book balances."""

from __future__ import annotations

import pytest

from tests.e2e.books import assert_balanced, lab

REQUESTS = 1000
SEED = 20261120


@pytest.mark.timeout(90)
async def test_a_thousand_mixed_requests_leave_balanced_books_and_nothing_else() -> None:
    async with lab() as books:
        await books.load(SEED, REQUESTS)
        page = await books.metrics()
        await books.at_rest()
        left = (books.running, books.demo.connections)
        state = await books.demo.state(running=0)

    assert_balanced(books, page)
    assert left == (0, 0)
    assert state.running == 0
    # The load was as mixed as it was meant to be.
    assert set(books.outcomes) >= {
        "client_gone",
        "complete",
        "length",
        "rejected",
        "timeout_idle",
        "truncated",
        "upstream_error",
    }
    assert state.aborted > REQUESTS // 20
