"""Ports for programs that must be told theirs."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from random import SystemRandom

# Below those that the kernel gives to clients: one of them could take a port that was just free.
_RANGE = (20_000, 32_000)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has at the moment."""
    found: list[int] = []
    with ExitStack() as held:
        while len(found) < count:
            port = SystemRandom().randrange(*_RANGE)
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            found.append(port)
    return found
