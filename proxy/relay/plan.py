"""What a relay is told before it begins, and what it tells at its end."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from parsers.dialects.base import ClientDialect, ExactDialect, Identity
from parsers.events import Fault
from proxy.config.rules import KeepAliveRules
from proxy.config.schema import Limits, Timeouts
from proxy.outcome import Outcome
from proxy.providers.base import Route


class Plan(msgspec.Struct, frozen=True):
    """How one request is to be answered; settled before anything is sent."""

    client: ClientDialect
    route: Route
    identity: Identity
    exact: ExactDialect | None  # `client`, where the upstream's bytes are its own; None: translated
    stream: bool
    include_usage: bool  # the client asked for a usage report
    timeouts: Timeouts
    limits: Limits
    keep_alive: KeepAliveRules
    headers: bytes = b""  # of the answer, beside those of every answer
    # Secrets the upstream is sent, and likes to quote in errors: all that are known when asked.
    hidden: Callable[[], tuple[str, ...]] = tuple


class Ending(msgspec.Struct, frozen=True):
    """How an attempt ended. A fault whose reply has not started is still to be told."""

    outcome: Outcome
    fault: Fault | None = None
    unanswered: bool = False  # the connection went away without a byte of an answer
