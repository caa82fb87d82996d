"""Where a model is served, and the live state that outlives a reload.

An `Endpoint` is identity, an `EndpointState` is what is known about it right now. States are held
by the registries that use them and listed weakly by `LiveState`, so a new generation inherits the
state of every endpoint it keeps, and an endpoint that was removed is forgotten when the last
request of the last registry that knew it ends. There are no reference counts and no clean-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from time import monotonic
from types import TracebackType
from typing import TypeVar, cast
from weakref import WeakValueDictionary

import msgspec

from proxy.config.rules import HealthRules
from proxy.outcome import Verdict
from proxy.traffic.breaker import Breaker
from proxy.traffic.budget import RetryBudget
from proxy.traffic.line import Line
from proxy.transport import Pool

_BUSY_SECONDS = 1.0  # an endpoint that said "busy" and not for how long


class Endpoint(msgspec.Struct, frozen=True):
    """One address of a model server. `name` is what metrics and logs may show of it."""

    name: str
    url: str
    base_path: str = ""  # what every route's path is appended to; no slash at its end
    authority: str | None = None  # for the `host` header; the name if not given
    weight: float = 1.0
    max_concurrent: int | None = None  # None: as many as the server itself says
    checked: bool = False  # its health can be asked for
    address: str | None = None  # where to connect; None: wherever the URL's name leads
    resolve_all: bool = False  # each address behind the name is an endpoint of its own


class Health(StrEnum):
    """What the last checks of an endpoint came to."""

    UNKNOWN = "unknown"  # not checked, or not yet
    UP = "up"
    STARTING = "starting"  # nothing listens: servers open their port when the model is loaded
    DOWN = "down"


class EndpointState(msgspec.Struct, weakref=True, eq=False):
    """What is known about an endpoint right now; shared by all generations that use it."""

    provider: str
    endpoint_name: str
    url: str
    line: Line[Lease]
    address: str | None = None
    breaker: Breaker = msgspec.field(default_factory=Breaker)
    inflight: int = 0
    health: Health = Health.UNKNOWN
    failed_checks: int = 0  # in a row
    next_check: float = 0.0  # when it is to be checked; monotonic seconds
    told_limit: int | None = None  # how many requests at once, in the server's own words
    busy_until: float = 0.0  # it said so; monotonic seconds
    pool: Pool | None = None  # its connections; `upstream` makes them when it is first called


class ModelState(msgspec.Struct, weakref=True, eq=False):
    """How many requests for a model hold an endpoint; shared by all generations."""

    inflight: int = 0


class ProviderState(msgspec.Struct, weakref=True, eq=False):
    """What the requests for all models of a provider share, over all generations."""

    line: Line[Lease]
    budget: RetryBudget


S = TypeVar("S")


class LiveState:
    """Every state in use by some registry: of endpoints, models and providers."""

    def __init__(self) -> None:
        self._endpoints: WeakValueDictionary[tuple[str, str, str | None], EndpointState] = (
            WeakValueDictionary()
        )
        self._models: WeakValueDictionary[str, ModelState] = WeakValueDictionary()
        self._providers: WeakValueDictionary[str, ProviderState] = WeakValueDictionary()
        self._shared: WeakValueDictionary[tuple[str, ...], object] = WeakValueDictionary()

    def state_of(self, provider: str, endpoint: Endpoint) -> EndpointState:
        """The state this endpoint already has, or a new one; the caller keeps it alive."""
        key = (provider, endpoint.url, endpoint.address)
        state = self._endpoints.get(key)
        if state is None:
            line = self.of_provider(provider).line
            name, url, address = endpoint.name, endpoint.url, endpoint.address
            state = EndpointState(provider, name, url, line, address)
            self._endpoints[key] = state
        return state

    def of_model(self, label: str) -> ModelState:
        """The state this model already has, or a new one; the caller keeps it alive."""
        state = self._models.get(label)
        if state is None:
            state = self._models[label] = ModelState()
        return state

    def of_provider(self, provider: str) -> ProviderState:
        """The state this provider already has, or a new one; the caller keeps it alive."""
        state = self._providers.get(provider)
        if state is None:
            state = ProviderState(Line(monotonic), RetryBudget(monotonic()))
            self._providers[provider] = state
        return state

    def shared(self, key: tuple[str, ...], make: Callable[[], S]) -> S:
        """What stands under a key of the caller's, such as credentials; made if nothing does.

        The caller keeps it alive. Whoever uses a key always keeps the same type under it.
        """
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = make()
        return cast("S", found)

    def __len__(self) -> int:
        return len(self._endpoints)

    def states(self) -> list[EndpointState]:
        """The states alive at this moment; may be asked in any thread, so it iterates a copy."""
        return [state for ref in self._endpoints.valuerefs() if (state := ref()) is not None]


class Member(msgspec.Struct, frozen=True, eq=False):
    """An endpoint of a pool, with its state."""

    endpoint: Endpoint
    state: EndpointState

    @property
    def key(self) -> str:
        """What it is known by, also after a restart and in another replica."""
        url, address = self.endpoint.url, self.endpoint.address
        return url if address is None else f"{url} at {address}"

    @property
    def inflight(self) -> int:
        """How many requests it has."""
        return self.state.inflight

    @property
    def weight(self) -> float:
        """Its share, relative to the others."""
        return self.endpoint.weight

    @property
    def limit(self) -> int | None:
        """How many requests at once: the file's word, else the server's own."""
        own = self.endpoint.max_concurrent
        return self.state.told_limit if own is None else own

    @property
    def is_full(self) -> bool:
        """Whether it has as many requests as it may."""
        limit = self.limit
        return limit is not None and self.state.inflight >= limit


class Group:
    """The endpoints behind one name; shared by all generations.

    Until its addresses are known it is one endpoint, which the system resolves.
    """

    def __init__(self, provider: str, live: LiveState) -> None:
        self._provider = provider
        self._live = live
        self.addresses: tuple[str, ...] = ()

    def members(self, endpoint: Endpoint) -> tuple[Member, ...]:
        """The endpoints, each like this one but for its address."""
        return tuple(self._member(each) for each in _at_each(endpoint, self.addresses))

    def _member(self, endpoint: Endpoint) -> Member:
        return Member(endpoint, self._live.state_of(self._provider, endpoint))


def _at_each(endpoint: Endpoint, addresses: Sequence[str]) -> Sequence[Endpoint]:
    if not addresses:
        return (endpoint,)
    return [
        msgspec.structs.replace(endpoint, name=f"{endpoint.name} at {address}", address=address)
        for address in addresses
    ]


class Lease:
    """One request's hold on one endpoint; released by leaving the `with` block."""

    __slots__ = ("_is_probe", "_model", "_released", "endpoint", "state")

    def __init__(self, member: Member, model: ModelState) -> None:
        self.endpoint = member.endpoint
        self.state = member.state
        self._model = model
        self._is_probe = member.state.breaker.begin()
        self._released = False
        self.state.inflight += 1
        model.inflight += 1

    def settle(
        self, verdict: Verdict, rules: HealthRules, now: float, retry_after: float | None = None
    ) -> None:
        """Say how the request ended; `retry_after` is for how long a busy server wants peace."""
        self.state.breaker.record(verdict, rules, now, probe=self._is_probe)
        self._is_probe = False
        if verdict is Verdict.BUSY:
            seconds = min(retry_after or _BUSY_SECONDS, rules.max_eject_seconds)
            self.state.busy_until = now + seconds
        elif verdict is Verdict.SUCCESS:
            self.state.busy_until = 0.0

    def release(self) -> None:
        """Give the endpoint back, once; whoever waits for it is let in."""
        if self._released:
            return
        self._released = True
        if self._is_probe:  # it was never sent: the next one may find out
            self.state.breaker.withdraw()
        self.state.inflight -= 1
        self._model.inflight -= 1
        if self.state.line:
            self.state.line.wake()

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()
