"""Where a model is served, and the live state that outlives a reload.

An `Endpoint` is identity, an `EndpointState` is what is known about it right now. States are held
by the registries that use them and listed weakly by `LiveState`, so a new generation inherits the
state of every endpoint it keeps, and an endpoint that was removed is forgotten when the last
request of the last registry that knew it ends. There are no reference counts and no clean-up.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from types import TracebackType
from weakref import WeakValueDictionary

import msgspec


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a model server. `name` is what metrics and logs may show of it."""

    name: str
    url: str
    base_path: str = ""  # what every route's path is appended to; no slash at its end


class EndpointState(msgspec.Struct, weakref=True, eq=False):
    """What is known about an endpoint right now; shared by all generations that use it."""

    provider: str
    endpoint_name: str
    url: str
    inflight: int = 0


class LiveState:
    """Every endpoint state in use by some registry, by provider and URL."""

    def __init__(self) -> None:
        self._states: WeakValueDictionary[tuple[str, str], EndpointState] = WeakValueDictionary()

    def state_of(self, provider: str, endpoint: Endpoint) -> EndpointState:
        """The state this endpoint already has, or a new one; the caller keeps it alive."""
        key = (provider, endpoint.url)
        state = self._states.get(key)
        if state is None:
            state = EndpointState(provider, endpoint.name, endpoint.url)
            self._states[key] = state
        return state

    def __len__(self) -> int:
        return len(self._states)

    def states(self) -> list[EndpointState]:
        """The states alive at this moment; may be asked in any thread, so it iterates a copy."""
        return [state for ref in self._states.valuerefs() if (state := ref()) is not None]


class Lease:
    """One request's hold on one endpoint; released by leaving the `with` block."""

    __slots__ = ("endpoint", "state")

    def __init__(self, endpoint: Endpoint, state: EndpointState) -> None:
        self.endpoint = endpoint
        self.state = state

    def __enter__(self) -> Lease:
        self.state.inflight += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.state.inflight -= 1


class EndpointPool:
    """The endpoints of one provider; chooses by power of two choices on requests in flight."""

    def __init__(
        self, members: Sequence[tuple[Endpoint, EndpointState]], random: Random | None = None
    ) -> None:
        self.members = tuple(members)
        self._random = random or Random()  # noqa: S311 - spreads load, guards nothing

    def lease(self, avoid: Collection[EndpointState] = ()) -> Lease:
        """A lease on the less busy of two endpoints drawn at random.

        Endpoints in `avoid` are passed over while there are others.
        """
        candidates = self.members
        if avoid:
            candidates = tuple(m for m in candidates if m[1] not in avoid) or candidates
        if len(candidates) == 1:
            return Lease(*candidates[0])
        one, other = self._random.sample(candidates, 2)
        return Lease(*(one if one[1].inflight <= other[1].inflight else other))
