"""What clients that do not read cost: little memory, no tokens made ahead, and an end."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from pathlib import Path

from proxy.reply import SLOW_READER_SECONDS
from tests.e2e.program import Program, serving
from tests.e2e.rawclient import raw_client
from tests.e2e.replicas import CHAT, until
from tests.e2e.test_clocks import BIG, COUNT, Flood
from tests.harness import chat, config_for
from tests.scripted import Conversation, Upstream

CLIENTS = 50
LIMIT_BYTES = 1024 * 1024  # for each of them
SOCKETS_BYTES = 16 * 1024 * 1024  # what the kernel takes in on both sides, at most


class Floods:
    """Sends to each client as fast as it is let, and knows how much it could."""

    def __init__(self) -> None:
        self.each: list[Flood] = []

    async def __call__(self, up: Conversation) -> None:
        flood = Flood()
        self.each.append(flood)
        await flood(up)

    @property
    def sent(self) -> list[int]:
        return [flood.sent for flood in self.each]

    async def stuck(self) -> None:
        """Until nothing more can be sent to anybody; being stuck has no event."""
        before = [-1]
        while self.sent != before:
            before = self.sent
            await asyncio.sleep(0.3)


def resident_bytes(program: Program) -> int:
    pages = Path(f"/proc/{program.process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def test_a_client_that_makes_no_room_is_let_go_after_half_a_minute() -> None:
    """That it is let go at all is shown in `test_clocks`, with a shorter one."""
    assert SLOW_READER_SECONDS == 30.0


async def test_clients_that_do_not_read_cost_under_a_mebibyte_each() -> None:
    floods = Floods()
    async with (
        Upstream(floods) as upstream,
        serving(config_for(upstream.url)) as program,
        AsyncExitStack() as stack,
    ):

        async def stall(count: int) -> int:
            begun = len(floods.each)
            for _ in range(count):
                client = raw_client(program.url, receive_bytes=16 * 1024)
                (await stack.enter_async_context(client)).ask(CHAT, chat())
            await until(lambda: len(floods.each) == begun + count)
            await floods.stuck()
            return resident_bytes(program)

        before = await stall(2)  # what is loaded once is loaded
        after = await stall(CLIENTS)

    assert 0 < max(floods.sent) * len(BIG) < SOCKETS_BYTES
    assert max(floods.sent) < COUNT
    assert (after - before) / CLIENTS < LIMIT_BYTES
