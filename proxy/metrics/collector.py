"""All series of one penstock: what requests added up to, and the state at the scrape.

Labels come from the configured registry and from closed lists only, and what they add up to is
bounded: more models than a registry has room for are `other`. With many models the histograms show
fewer of their bounds, so that the page stays under a megabyte with 200.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from parsers.events import FaultKind
from proxy.config.schema.traffic import Objectives
from proxy.metrics import families
from proxy.metrics.engines import Reading, engine_families
from proxy.metrics.gauges import Sources, config_gauges, endpoint_gauges, process_gauges
from proxy.metrics.genai import GenAi
from proxy.metrics.tally import MAX_MODELS, OTHER, OVERHEAD_BOUNDS, PARTS, Distribution, Tally
from proxy.outcome import Account, Outcome
from proxy.registry import Registry
from proxy.reload import ReloadStatus

FINE_MODELS = 50  # with more than that, histograms show fewer of their bounds

OVERSIZE = "too_large"  # the kind of malformed answer with an event beyond the limit

_NO_OBJECTIVES = Objectives()
# Which limit a request ran into, by its fault's kind and origin and the phase that it ended in.
_LIMITS = MappingProxyType(
    {
        (FaultKind.RATE_LIMITED, "client", "resolve"): "daily",
        (FaultKind.OVERLOADED, "proxy", "admit"): "concurrent",
        (FaultKind.OVERLOADED, "proxy", "choose"): "queue",
    }
)

K = TypeVar("K")


class Metrics(Collector):
    """All series of one penstock, in a registry of their own.

    Counting a request costs a handful of additions to plain numbers, kept per model.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.started = 0
        self._tallies: dict[str, Tally] = {}
        self._objectives: Mapping[str, Objectives] = {}
        self._kinds: Mapping[str, str] = {}  # of the models' providers
        self._faults: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._retries: defaultdict[str, int] = defaultdict(int)
        self._fallbacks: defaultdict[tuple[str, str, str], int] = defaultdict(int)
        self._limited: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._malformed: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._overhead = Distribution(OVERHEAD_BOUNDS)
        self._events = [0, 0]  # in, out
        self._dropped: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._reloads: defaultdict[str, int] = defaultdict(int)
        self._status: ReloadStatus | None = None
        self._warnings = 0
        self._gen_ai: GenAi | None = None  # None: not wanted
        self._sources = Sources()
        self._readings: Callable[[], Iterable[Reading]] = tuple
        self.registry.register(self)

    def watch(self, sources: Sources) -> None:
        """Read the gauges from these, at each scrape."""
        self._sources = sources

    def watch_engines(self, readings: Callable[[], Iterable[Reading]]) -> None:
        """Read from this what model servers say of themselves, at each scrape."""
        self._readings = readings

    def reloaded(self, status: ReloadStatus, serving: Registry) -> None:
        """Count an attempt to load the configuration, and take up what serves."""
        self._reloads["success" if status.ok else "failure"] += 1
        self._status = status
        self._warnings = len(serving.warnings)
        models = serving.models.items()
        self._kinds = {label: model.provider.kind for label, model in models}
        self._objectives = {label: model.pool.rules.slo for label, model in models}
        for label, tally in self._tallies.items():
            tally.aim(self._objectives.get(label, _NO_OBJECTIVES))
        if not serving.config.site.penstock.metrics.gen_ai:
            self._gen_ai = None
        elif self._gen_ai is None:
            self._gen_ai = GenAi()

    def count_attempt(self, model: str, endpoint: str, verdict: str) -> None:
        """Count a call to a model server."""
        (self._tallies.get(model) or self._begun(model)).add_attempt(endpoint, verdict)

    def count_retry(self, model: str) -> None:
        """Count a call that is made again."""
        self._retries[self._bounded(model)] += 1

    def count_fallback(self, model: str, other: str, cause: str) -> None:
        """Count a request that another model is asked in the place of this one."""
        self._fallbacks[self._bounded(model), self._bounded(other), cause] += 1

    def count_malformed(self, endpoint: str, kind: str) -> None:
        """Count an answer that was not as it should be."""
        key = (endpoint, kind)
        known = key in self._malformed or len(self._malformed) < MAX_MODELS
        self._malformed[key if known else (OTHER, kind)] += 1

    def merge(self, account: Account) -> None:
        """Count the events of a stream that came since the last time; it may go on."""
        before_in, before_out = account.events_merged
        self._events[0] += account.events_in - before_in
        self._events[1] += account.events_out - before_out
        account.events_merged = (account.events_in, account.events_out)

    def count(self, account: Account) -> None:
        """Count a request that has ended; called once for each."""
        tally = self._tallies.get(account.model) or self._begun(account.model)
        self._overhead.observe(tally.add(account))
        if account.events_in or account.events_out:
            self.merge(account)
        for name in account.dropped:
            self._dropped[account.dialect, name] += 1
        fault = account.fault
        if fault is not None:
            self._faults[fault.kind, fault.origin, account.phase] += 1
            limit = _LIMITS.get((fault.kind, fault.origin, account.phase))
            if limit is not None and account.outcome is not Outcome.DRAINED:
                self._limited[limit, self._known_client(account.client)] += 1
        if self._gen_ai is not None:
            self._gen_ai.add(self._bounded(account.model), account)

    def _begun(self, model: str) -> Tally:
        """The tally of a model that has none yet; that of all others, where there are too many."""
        label = self._bounded(model)
        tally = self._tallies.get(label)
        if tally is None:
            tally = self._tallies[label] = Tally(self._objectives.get(label, _NO_OBJECTIVES))
        return tally

    def _bounded(self, model: str) -> str:
        known = model in self._tallies or len(self._tallies) < MAX_MODELS
        return model if known else OTHER

    def _known_client(self, client: str) -> str:
        """Its name, which is of the configuration; files that come and go could have too many."""
        known = len(self._limited) < MAX_MODELS or any(c == client for _, c in self._limited)
        return client if known else OTHER

    def collect(self) -> Iterator[Metric]:
        """The families, as of now; runs in a thread, so it reads copies."""
        yield from self._of_requests(list(self._tallies.items()))
        yield families.OVERHEAD.over([((), self._overhead)])
        yield families.EVENTS.of(zip((("in",), ("out",)), tuple(self._events), strict=True))
        yield from self._of_faults()
        yield from process_gauges(self._sources)
        yield families.CONFIG_RELOADS.of([((result,), n) for result, n in _copy(self._reloads)])
        if self._status is not None:
            yield from config_gauges(self._status, self._warnings)
        yield from endpoint_gauges(self._sources.endpoints())
        yield from engine_families(self._readings())
        if self._gen_ai is not None:
            coarse = len(self._tallies) > FINE_MODELS
            yield from self._gen_ai.collect(self._kinds, coarse=coarse)

    def _of_requests(self, tallies: list[tuple[str, Tally]]) -> Iterator[Metric]:
        coarse = len(tallies) > FINE_MODELS
        yield families.STARTED.at(self.started)
        yield families.REQUESTS.of(
            ((model, *key), n) for model, tally in tallies for key, n in _copy(tally.outcomes)
        )
        durations = [((model,), tally.durations) for model, tally in tallies]
        yield families.DURATION.over(durations, coarse=coarse)
        firsts = [((model,), tally.first_token) for model, tally in tallies]
        yield families.FIRST_TOKEN.over(firsts, coarse=coarse)
        betweens = [((model,), tally.inter_token) for model, tally in tallies]
        yield families.INTER_TOKEN.over(betweens, coarse=coarse)
        queues = [((model,), tally.queue) for model, tally in tallies if tally.queue is not None]
        yield families.QUEUE.over(queues, coarse=coarse)
        yield families.TIME.of(
            ((model, part), seconds)
            for model, tally in tallies
            for part, seconds in zip(PARTS, tuple(tally.seconds), strict=True)
        )
        yield families.TOKENS.of(
            ((model, *key), n) for model, tally in tallies for key, n in _copy(tally.tokens)
        )
        yield families.WASTED.of(
            ((model, reason), n) for model, tally in tallies for reason, n in _copy(tally.wasted)
        )
        yield families.ATTEMPTS.of(
            ((model, *key), n) for model, tally in tallies for key, n in _copy(tally.attempts)
        )

    def _of_faults(self) -> Iterator[Metric]:
        yield families.FAULTS.of(list(self._faults.items()))
        yield families.RETRIES.of(((model,), n) for model, n in _copy(self._retries))
        yield families.FALLBACKS.of(list(self._fallbacks.items()))
        yield families.LIMITED.of(list(self._limited.items()))
        yield families.DROPPED_FIELDS.of(list(self._dropped.items()))
        malformed = list(self._malformed.items())
        yield families.MALFORMED.of(malformed)
        yield families.OVERSIZE.at(sum(n for (_, kind), n in malformed if kind == OVERSIZE))


def _copy(counts: dict[K, int]) -> list[tuple[K, int]]:
    return list(counts.items())
