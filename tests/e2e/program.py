"""The real program in a process of its own: `python -m proxy …`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec


class Finished(NamedTuple):
    """A program that has ended."""

    status: int
    out: str
    err: str


class Program:
    """A running `penstock serve`; its standard output is read as it comes."""

    def __init__(self, process: Process, config: Path) -> None:
        self.process = process
        self.config = config
        self.events: list[dict[str, Any]] = []  # what it logged so far
        self.url = ""
        self.admin_url = ""
        self._more = asyncio.Event()

    async def read(self) -> None:
        """Take in its log, until it ends."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.events.append(msgspec.json.decode(line))
            self._more.set()
        self._more.set()

    async def logged(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """The last of the first so many lines of this kind, as soon as there are that many."""
        wanted = {"event": event, **fields}
        while True:
            self._more.clear()
            found = [line for line in self.events if line.items() >= wanted.items()]
            if len(found) >= count:
                return found[count - 1]
            await self._more.wait()

    def requests(self) -> list[dict[str, Any]]:
        """The lines of requests so far."""
        return [line for line in self.events if line["event"] == "request"]

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self) -> Finished:
        """Its exit status and what it said on standard error."""
        assert self.process.stderr is not None
        err = await self.process.stderr.read()
        return Finished(await self.process.wait(), "", err.decode())


async def started(*arguments: str | Path, stdout: int = PIPE) -> Process:
    """The program, running with these arguments."""
    command = (sys.executable, "-m", "proxy", *map(str, arguments))
    # As people run it: without a buffer some of what can go wrong does not.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}  # noqa: TID251
    return await asyncio.create_subprocess_exec(
        *command, stdout=stdout, stderr=PIPE, env=environment
    )


async def run(*arguments: str | Path) -> Finished:
    """The program run to its end with these arguments."""
    process = await started(*arguments)
    try:
        out, err = await process.communicate()
    finally:
        await killed(process)
    return Finished(process.returncode or 0, out.decode(), err.decode())


async def killed(process: Process) -> None:
    """Make sure that it is gone."""
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()


@asynccontextmanager
async def serving(config: Mapping[str, Any], *arguments: str) -> AsyncIterator[Program]:
    """`penstock serve` with this configuration, on free ports; killed at the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.jsonc"
        path.write_bytes(msgspec.json.encode(config))
        ports = ("--port", "0", "--admin-port", "0")
        process = await started("serve", "--config", path, *ports, *arguments)
        program = Program(process, path)
        async with asyncio.TaskGroup() as group:
            group.create_task(program.read())
            try:
                line = await program.logged("listening")
                program.url, program.admin_url = line["clients"], line["admin"]
                yield program
            finally:
                await killed(process)
