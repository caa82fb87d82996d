"""How many requests each user has made today, and who must wait (sourcegraph.md 3.6).

A day is the 24 hours that begin with a user's first request; chat and code are counted apart. The
counts are this process's own. As all days are equally long, the one that began first ends first:
a dictionary in the order of beginnings needs no other.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from math import ceil
from time import monotonic

import msgspec

from parsers.chat import Operation
from parsers.events import Fault, FaultKind
from proxy.errors import client_fault
from proxy.registry import Client

DAY_SECONDS = 24 * 60 * 60
# Some 20 MB. Only addresses can be so many; beyond it the oldest day is forgotten, not the newest
# user refused.
MAX_DAYS = 100_000

_FEATURES = {Operation.CHAT: "chat_completions", Operation.COMPLETION: "code_completions"}
_OWN_NETWORK = 64  # an IPv6 client has as many addresses as it likes below this prefix


class Excess(msgspec.Struct, frozen=True):
    """A request too many."""

    operation: Operation
    limit: int
    used: int  # may be more than the limit, which a reload can lower
    retry_after: float  # seconds

    @property
    def fault(self) -> Fault:
        """What the client is told, in the original's words; a 429 in every dialect."""
        feature = _FEATURES.get(self.operation, self.operation)
        text = (
            f"you exceeded the rate limit for {feature}, only {self.limit}"
            " requests are allowed per day at the moment to ensure the service stays functional."
            f" Current usage: {self.used}. Retry after {ceil(self.retry_after)} s"
        )
        fault = client_fault(FaultKind.RATE_LIMITED, text)
        return msgspec.structs.replace(fault, retry_after=self.retry_after)

    @property
    def headers(self) -> bytes:
        """What programs read, beside `retry-after`, as header lines."""
        remaining = max(self.limit - self.used, 0)
        return b"x-ratelimit-limit: %d\r\nx-ratelimit-remaining: %d\r\n" % (self.limit, remaining)


class _Day:
    """One user's requests of one kind since the first of them."""

    __slots__ = ("began", "used")

    def __init__(self, began: float) -> None:
        self.began = began
        self.used = 0


class Quotas:
    """The days of all users; one per process, so that a reload forgets nothing."""

    def __init__(self, *, clock: Callable[[], float] = monotonic, max_days: int = MAX_DAYS) -> None:
        self._clock = clock
        self._max_days = max_days
        self._days: dict[tuple[str, Operation], _Day] = {}

    def __len__(self) -> int:
        return len(self._days)

    def take(self, user: str, operation: Operation, limit: int) -> Excess | None:
        """Count a request, unless it is one too many: then say so. A limit of 0 is none."""
        if not limit:
            return None
        now = self._clock()
        self._forget_before(now - DAY_SECONDS)
        day = self._days.get((user, operation))
        if day is None:
            day = self._begin(user, operation, now)
        if day.used >= limit:
            return Excess(operation, limit, day.used, day.began + DAY_SECONDS - now)
        day.used += 1
        return None

    def _begin(self, user: str, operation: Operation, now: float) -> _Day:
        if len(self._days) >= self._max_days:
            del self._days[next(iter(self._days))]
        day = self._days[user, operation] = _Day(now)
        return day

    def _forget_before(self, end: float) -> None:
        """Forget the days that are over."""
        while self._days:
            oldest = next(iter(self._days))
            if self._days[oldest].began > end:
                return
            del self._days[oldest]


def user_of(client: Client | None, address: str | None) -> str:
    """Who a request is counted for: its client, or its address where nobody has a key."""
    if client is not None:
        return f"client {client.name}"
    return f"address {_network(address or '')}"


def _network(address: str) -> str:
    """The address; of IPv6 what a client does not choose itself."""
    try:
        ip = ip_address(address)
    except ValueError:  # a Unix socket has none
        return address
    if not isinstance(ip, IPv6Address) or ip.ipv4_mapped is not None:
        return address
    return str(ip_network((int(ip), _OWN_NETWORK), strict=False))
