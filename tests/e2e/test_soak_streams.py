"""Short streams, many of them cancelled, failing or slow: every token and every byte comes back.

2,000 here; `make soak` sends 100,000 and looks at the memory too.
"""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import msgspec
import pytest
from prometheus_client import generate_latest

from proxy.app import Options, running
from proxy.log import Log
from tests.e2e.books import open_files, resident_bytes, samples, total, until
from tests.e2e.soak_streams import Lines, Load, cases, model_server
from tests.harness import config_for

SHORT = 2_000
BATCH = 2_000  # the log is flushed in between: it holds ten thousand lines
LONG = 20_000
WARM_UP = 0.3  # of the streams
GROWTH_BYTES = 5 * 2**20


@pytest.mark.timeout(60)
async def test_every_token_is_counted_once_and_nothing_is_left(tmp_path: Path) -> None:
    count = int(os.environ.get("SOAK_REQUESTS", SHORT))  # noqa: TID251 - how `make soak` says it
    lines = Lines()
    config = tmp_path / "config.jsonc"
    async with model_server() as (url, connections):
        config.write_bytes(msgspec.json.encode(config_for(url)))
        async with running(Options(config=config, port=0, admin_port=0), Log(lines)) as penstock:
            service, load = penstock.service, Load(penstock.url)
            await load.run(cases(0, 100))  # what is made once has been made
            await until(lambda: service.in_flight == 0)
            tasks, files = len(asyncio.all_tasks()), open_files() - len(connections)
            resident = []
            for seed in range(1, count // BATCH + 1):
                await load.run(cases(seed, BATCH))
                service.log.flush()
                resident.append(resident_bytes())
            await until(lambda: not connections and service.in_flight == 0)
            gc.collect()
            more_tasks = len(asyncio.all_tasks()) - tasks
            left = (len(service.sweep), len(connections))
            held = [state.inflight for state in service.live.states()]
            more_files = open_files() - files
            service.log.flush()
            page = generate_latest(service.metrics.registry).decode()

    assert load.wrong == []
    assert lines.outcomes == load.sent
    assert sum(load.sent.values()) == count + 100
    by_outcome = {labels["outcome"]: n for labels, n in samples(page, "penstock_requests_total")}
    assert by_outcome == load.sent
    assert total(page, "penstock_requests_started_total") == count + 100
    assert total(page, "penstock_tokens_total") == load.delivered
    assert samples(page, "penstock_requests_in_flight") == [({}, 0)]
    assert (left, set(held)) == ((0, 0), {0})
    assert more_tasks <= 0
    assert more_files <= 0
    if count >= LONG:
        warm = resident[int(len(resident) * WARM_UP)]
        assert resident[-1] - warm < GROWTH_BYTES, resident
