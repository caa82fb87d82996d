"""The endpoints that serve one model, and the choice among them.

What an endpoint is, and what is known of it, stands in `endpoints`; how the balancers weigh them,
in `traffic.balance`. Here both meet the rules of a model: who is asked at all, and who is spared.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from time import monotonic

from proxy.config.rules import AffinityRules, Rules
from proxy.endpoints import (
    Endpoint,
    EndpointState,
    Group,
    Health,
    Lease,
    LiveState,
    Member,
    ModelState,
)
from proxy.traffic.balance import Balancer, Key, balancer_for


def _no_key(rules: AffinityRules) -> bytes:
    del rules
    return b""


class EndpointPool:
    """The endpoints that serve one model, and how one of them is chosen."""

    def __init__(
        self,
        provider: str,
        endpoints: Sequence[Endpoint],
        rules: Rules,
        model: ModelState,
        live: LiveState,
        balancer: Balancer | None = None,
    ) -> None:
        self.rules = rules
        self._model = model
        self._balancer = balancer or balancer_for(rules)
        self._parts = [(each, _group_of(provider, each, live)) for each in endpoints]
        self.members: tuple[Member, ...] = ()
        self.refresh()

    @property
    def groups(self) -> list[tuple[Endpoint, Group]]:
        """Those of its endpoints that stand for all addresses of a name."""
        return [(endpoint, group) for endpoint, group in self._parts if endpoint.resolve_all]

    def refresh(self) -> None:
        """Take up what has changed behind the names; requests under way are not disturbed."""
        self.members = tuple(
            member for endpoint, group in self._parts for member in group.members(endpoint)
        )

    @property
    def is_reached(self) -> bool:
        """Whether some endpoint answered its last check; all that are never checked count as such.

        Requests do not matter here: under load they fail for reasons that restarts make worse.
        """
        checked = self.rules.health.interval_seconds > 0
        return any(
            member.state.health is Health.UP
            or (member.state.health is Health.UNKNOWN and not (checked and member.endpoint.checked))
            for member in self.members
        )

    def take(self, avoid: Collection[EndpointState] = (), key: Key = _no_key) -> Lease | None:
        """A lease on the endpoint that the balance says; None where all that are open are full.

        Endpoints in `avoid`, and busy ones, are passed over while there are others.
        """
        limit = self.rules.admission.max_concurrent
        if limit is not None and self._model.inflight >= limit:
            return None
        members = self.members
        if len(members) == 1:  # the usual pool: there is nothing to weigh
            return None if members[0].is_full else Lease(members[0], self._model)
        candidates = self._candidates(avoid)
        if not candidates:
            return None
        if len(candidates) == 1:
            return Lease(candidates[0], self._model)
        return Lease(self._balancer.choose(candidates, key), self._model)

    def _candidates(self, avoid: Collection[EndpointState]) -> Sequence[Member]:
        now = monotonic()
        members = _spared(self.members, now)
        members = [m for m in members if m.state not in avoid] or members
        members = [m for m in members if now >= m.state.busy_until] or members
        return [member for member in members if not member.is_full]


def _group_of(provider: str, endpoint: Endpoint, live: LiveState) -> Group:
    key = ("addresses", provider, endpoint.url)
    return live.shared(key, lambda: Group(provider, live))


def _is_open(member: Member, now: float) -> bool:
    healthy = member.state.health in (Health.UP, Health.UNKNOWN)
    return healthy and member.state.breaker.admits(now)


def _spared(members: Sequence[Member], now: float) -> Sequence[Member]:
    """Those that are open; if checks or faults close more than half, they are not believed.

    A check that fails everywhere is likelier wrong than right, and where nothing works there is
    nothing to lose.
    """
    opened = [member for member in members if _is_open(member, now)]
    if 2 * len(opened) >= len(members):
        return opened
    closed = [member for member in members if member not in opened]
    closed.sort(key=lambda member: member.state.breaker.open_until)
    return [*opened, *closed[: (len(members) + 1) // 2 - len(opened)]]
