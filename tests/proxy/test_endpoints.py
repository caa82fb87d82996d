"""The live state of endpoints, which the loop writes and other threads read."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from proxy.endpoints import Endpoint, EndpointState, Lease, LiveState, Member, ModelState
from proxy.providers.base import UpstreamRequest
from proxy.transport import Connection
from proxy.upstream import Upstream
from tests.proxy.transport.recorder import GET, Recorder
from tests.scripted import Upstream as Server
from tests.scripted import response


class Attempt(Recorder):
    """A recorder that may be sent."""

    def attach(self, connection: Connection) -> None:
        """Nothing: it never aborts."""


def test_a_scrape_can_list_the_states_while_reloads_replace_them() -> None:
    live = LiveState()
    serving: deque[EndpointState] = deque(maxlen=500)
    usual = sys.getswitchinterval()

    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(1) as scraper:
        scrapes = scraper.submit(lambda: [len(live.states()) for _ in range(3000)])
        for number in count():
            serving.append(live.state_of("lab", Endpoint("host", f"http://host-{number}")))
            if scrapes.done():
                break
    sys.setswitchinterval(usual)

    assert len(scrapes.result()) == 3000


async def test_whichever_thread_forgets_an_endpoint_the_loop_closes_its_connections() -> None:
    asyncio.get_running_loop().set_debug(True)  # makes asyncio complain of the wrong thread
    async with Server() as server:
        upstream, endpoint = Upstream(), Endpoint("server", server.url)
        member = Member(endpoint, LiveState().state_of("lab", endpoint))
        lease = [Lease(member, ModelState())]
        del member
        attempt = Attempt()
        await upstream.send(UpstreamRequest(GET, b""), lease[0], attempt, connect_seconds=1)
        up = await server.accept()
        await up.request()
        up.send(response(b"hi"))
        assert await attempt.ended() == "whole"

        await asyncio.to_thread(lease.clear)

        async with asyncio.timeout(5):
            await up.gone()
