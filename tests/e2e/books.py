"""A penstock under mixed load whose books are kept beside it, and compared with its own."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from proxy.app import Options, Penstock, running
from proxy.demo import Settings
from proxy.log import Log
from tests.e2e.demo_server import Demo, demo_server
from tests.e2e.mixed import KEY, MODELS, SILENCE_SECONDS, Case, Seen, cases, send_all
from tests.e2e.watched import Entry, families
from tests.harness import provider

FLUSH_EVERY = 100  # requests; the log holds ten thousand lines
PATIENCE_SECONDS = 20.0  # an idle upstream connection is closed after four


class Ledger(io.BytesIO):
    """Where the log is written: keeps the requests' lines by their ids, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[str, Entry] = {}
        self.others: list[bytes] = []

    def write(self, data: Any) -> int:
        """Take in some lines."""
        for line in bytes(data).splitlines():
            entry = msgspec.json.decode(line, type=Entry)
            if entry.event == "request":
                assert entry.request_id not in self.entries, "two lines for one request"
                self.entries[entry.request_id] = entry
            else:
                self.others.append(line)
        return len(data)


class Lab:
    """The penstock, the demo before which it stands, and both sets of books."""

    def __init__(self, penstock: Penstock, demo: Demo, ledger: Ledger) -> None:
        self.penstock = penstock
        self.demo = demo
        self.ledger = ledger
        self.sent = 0
        self.outcomes: Counter[str] = Counter()
        self.wrong: list[tuple[Case, Seen, Entry]] = []
        self.tasks = len(asyncio.all_tasks())

    async def load(self, seed: int, count: int) -> None:
        """Send so many mixed requests, and settle each with its line in the log."""
        waiting: dict[str, tuple[Case, Seen]] = {}
        async for case, seen in send_all(self.penstock.url, cases(seed, count)):
            waiting[case.request_id] = (case, seen)
            self.sent += 1
            if self.sent % FLUSH_EVERY == 0:
                self._settle(waiting)
        await until(lambda: self._settle(waiting) == 0)

    def _settle(self, waiting: dict[str, tuple[Case, Seen]]) -> int:
        """Compare what has its line; how many still wait for theirs."""
        self.penstock.service.log.flush()
        for request_id in self.ledger.entries.keys() & waiting.keys():
            entry = self.ledger.entries.pop(request_id)
            case, seen = waiting.pop(request_id)
            self.outcomes[entry.outcome] += 1
            # Who left before an answer does not know what it would have been.
            told_otherwise = seen.status and entry.status != seen.status
            if entry.outcome not in seen.outcomes or told_otherwise:
                self.wrong.append((case, seen, entry))
        return len(waiting)

    async def at_rest(self) -> None:
        """Wait until nothing runs and no connection is left; returns in any case."""
        await until(lambda: self.demo.connections == 0 and self.running == 0)
        gc.collect()

    @property
    def running(self) -> int:
        """How many tasks there are beyond those at the start."""
        return len(asyncio.all_tasks()) - self.tasks

    async def metrics(self) -> str:
        """The page that Prometheus would get."""
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.penstock.admin_url}/metrics") as answer,
        ):
            return await answer.text()


async def until(holds: Callable[[], bool]) -> None:
    """Wait until this holds, or for as long as is sensible."""
    for _ in range(int(PATIENCE_SECONDS / 0.05)):
        if holds():
            return
        await asyncio.sleep(0.05)


def samples(page: str, name: str) -> list[tuple[dict[str, str], float]]:
    """All samples of this name."""
    return [
        (sample.labels, sample.value)
        for family in families(page)
        for sample in family.samples
        if sample.name == name
    ]


def total(page: str, name: str) -> float:
    """The sum of all samples of this name."""
    return sum(value for _, value in samples(page, name))


def assert_balanced(books: Lab, page: str) -> None:
    """The proxy's books agree with each other, and with those of its clients."""
    assert [f"{case}\n{seen}\n{entry}" for case, seen, entry in books.wrong] == []
    assert books.ledger.entries == {}  # one line for each request
    counted = {labels["outcome"]: 0.0 for labels, _ in samples(page, "penstock_requests_total")}
    for labels, value in samples(page, "penstock_requests_total"):
        counted[labels["outcome"]] += value
    assert counted == books.outcomes
    assert total(page, "penstock_requests_started_total") == books.sent
    assert total(page, "penstock_requests_total") == books.sent
    assert total(page, "penstock_request_duration_seconds_count") == books.sent
    assert samples(page, "penstock_requests_in_flight") == [({}, 0)]
    assert {value for _, value in samples(page, "penstock_endpoint_in_flight")} == {0}
    assert [line for line in books.ledger.others if b'"event":"log"' in line] == []  # no traceback


def open_files() -> int:
    """How many file descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - the count is what is meant


def resident_bytes() -> int:
    """How much memory this process holds."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@asynccontextmanager
async def lab() -> AsyncIterator[Lab]:
    """Three models on one demo, called in three ways; nobody may ask without a key."""
    async with demo_server(Settings(pace_seconds=0)) as demo:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "config.jsonc"
            path.write_bytes(msgspec.json.encode(_config(demo.url)))
            ledger = Ledger()
            options = Options(config=path, port=0, admin_port=0)
            async with running(options, Log(ledger)) as penstock:
                for _ in range(10):
                    await asyncio.sleep(0)  # its background tasks begin others
                yield Lab(penstock, demo, ledger)


def _config(url: str) -> dict[str, Any]:
    chat, native, plain = (model.partition("::")[0] for model in MODELS)
    waits = {f"{clock}Seconds": SILENCE_SECONDS for clock in ("headers", "firstToken", "idle")}
    model = {"capabilities": ["chat", "autocomplete"], "category": "balanced"}
    return {
        "modelConfiguration": {
            "sourcegraph": None,
            "providerOverrides": [
                provider(url, name=chat, kind="huggingface-tgi"),
                provider(url, name=native, kind="huggingface-tgi", settings={"dialect": "tgi"}),
                provider(url, name=plain),
            ],
            "modelOverrides": [{"modelRef": ref, **model} for ref in MODELS],
        },
        "penstock": {
            "clients": [{"name": "me", "key": KEY}],
            "timeouts": waits,
            "health": {"intervalSeconds": 0},  # checks are tasks and connections too
        },
    }
