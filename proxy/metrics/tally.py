"""What requests add up to: plain numbers, which become series at a scrape.

prometheus-client's own counters take a lock each time, which together cost a request more than all
its JSON. Nothing here runs per token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf

from prometheus_client.samples import Exemplar

from proxy.config.schema.traffic import Objectives
from proxy.metrics.family import Bucket
from proxy.outcome import Account, Outcome

# From a cache hit to a reasoning model behind a long queue.
DURATION_BOUNDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640, 1280)
FIRST_TOKEN_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 10, 20, 40, 80, 160)
INTER_TOKEN_BOUNDS = (0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 2.5)
OVERHEAD_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)
QUEUE_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)

PARTS = ("queue", "connect", "prefill", "decode", "slow_reader", "rest", "loop_lag")

MAX_MODELS = 500  # that ever were asked; a file may be edited for years
MAX_ATTEMPTS = 200  # series of one model; behind a name, each Pod that ever was has some
OTHER = "other"  # those above

_COARSE_STEP = 5  # every fifth bound


class Distribution:
    """How often a value fell into each bucket, and the sum of all.

    `objective` is a bound too, so that it can be told exactly how many values were within it.
    """

    __slots__ = ("_bounds", "_examples", "counts", "objective", "total")

    def __init__(self, bounds: Sequence[float], objective: float | None = None) -> None:
        self.objective = objective
        self._bounds = bounds if objective is None else sorted({*bounds, objective})
        self._examples: dict[int, Exemplar] = {}
        self.counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0

    def observe(self, value: float, trace_id: str = "", times: int = 1) -> None:
        """Add a value; `trace_id` is of a trace that somebody keeps, if there is one."""
        index = bisect_left(self._bounds, value)
        self.counts[index] += times
        self.total += value * times
        if trace_id:
            now = datetime.now(UTC).timestamp()
            self._examples[index] = Exemplar({"trace_id": trace_id}, value, now)

    def buckets(self, *, coarse: bool = False) -> list[Bucket]:
        """Upper bounds and how many values were at most that, as Prometheus wants them.

        Counts go up from bound to bound, so that bounds can be left out without a lie.
        """
        below, buckets, example = 0, list[Bucket](), None
        for index, (bound, count) in enumerate(zip((*self._bounds, inf), tuple(self.counts))):  # noqa: B905 - as many
            below += count
            example = self._examples.get(index, example)
            if coarse and index % _COARSE_STEP and bound not in (self.objective, inf):
                continue
            name = "+Inf" if bound == inf else str(float(bound))
            buckets.append((name, below) if example is None else (name, below, example))
            example = None
        return buckets


class Tally:
    """What the requests for one model added up to."""

    __slots__ = (
        *("attempts", "durations", "first_token", "inter_token", "outcomes", "queue", "seconds"),
        *("tokens", "wasted"),
    )

    def __init__(self, objectives: Objectives) -> None:
        self.outcomes: defaultdict[tuple[str, str], int] = defaultdict(int)  # dialect, outcome
        self.durations = Distribution(DURATION_BOUNDS)
        self.first_token = Distribution(FIRST_TOKEN_BOUNDS, objectives.first_token_seconds)
        self.inter_token = Distribution(INTER_TOKEN_BOUNDS, objectives.inter_token_seconds)
        self.queue: Distribution | None = None  # None: nobody had to wait
        self.seconds = [0.0] * len(PARTS)
        self.tokens: defaultdict[tuple[str, str], int] = defaultdict(int)  # kind, source
        self.wasted: defaultdict[str, int] = defaultdict(int)  # reason
        self.attempts: defaultdict[tuple[str, str], int] = defaultdict(int)  # endpoint, verdict

    def aim(self, objectives: Objectives) -> None:
        """Take up new objectives; a histogram begins anew where its objective is another."""
        if self.first_token.objective != objectives.first_token_seconds:
            self.first_token = Distribution(FIRST_TOKEN_BOUNDS, objectives.first_token_seconds)
        if self.inter_token.objective != objectives.inter_token_seconds:
            self.inter_token = Distribution(INTER_TOKEN_BOUNDS, objectives.inter_token_seconds)

    def add(self, account: Account) -> float:
        """Add a request that has ended; gives the part of its time that was our own."""
        self.outcomes[account.dialect, account.outcome or Outcome.INTERNAL_ERROR] += 1
        seconds = account.ended - account.started
        self.durations.observe(seconds, account.trace_id)
        rest = self._add_time(account, seconds)
        if account.wasted:
            gone = account.outcome is Outcome.CLIENT_GONE
            self.wasted["client_gone" if gone else "failed"] += account.wasted
        if account.stream:
            self._add_stream(account)
        if account.usage is not None:
            self._add_usage(account)
        return rest

    def add_attempt(self, endpoint: str, verdict: str) -> None:
        """Add a call to a model server."""
        key = (endpoint, verdict)
        if key not in self.attempts and len(self.attempts) >= MAX_ATTEMPTS:
            key = (OTHER, verdict)
        self.attempts[key] += 1

    def _add_time(self, account: Account, whole: float) -> float:
        seconds, queue = self.seconds, account.queue_seconds
        connect, reader = account.connect_seconds, account.reader_seconds
        prefill, decode = _spent(account)
        rest = max(whole - queue - connect - prefill - decode - reader, 0.0)
        seconds[1] += connect
        seconds[2] += prefill
        seconds[3] += decode
        seconds[6] += account.lag_seconds
        if reader:
            seconds[4] += reader
        seconds[5] += rest
        if queue:
            seconds[0] += queue
            if self.queue is None:
                self.queue = Distribution(QUEUE_BOUNDS)
            self.queue.observe(queue)
        return rest

    def _add_stream(self, account: Account) -> None:
        first, last = account.first_token, account.last_token
        if first is None or last is None:
            return
        self.first_token.observe(first - account.started, account.trace_id)
        if account.contents > 1:
            self.inter_token.observe((last - first) / (account.contents - 1), account.trace_id)
        if account.usage is None:
            self.tokens["output", "counted"] += account.contents

    def _add_usage(self, account: Account) -> None:
        usage = account.usage
        assert usage is not None  # noqa: S101 - the caller looked
        self.tokens["input", "reported"] += usage.prompt
        self.tokens["output", "reported"] += usage.completion
        if usage.cached:
            self.tokens["cached", "reported"] += usage.cached
        if usage.reasoning:
            self.tokens["reasoning", "reported"] += usage.reasoning


def _spent(account: Account) -> tuple[float, float]:
    """On prefill and on decode. A first token that was awaited in vain is prefill too."""
    sent, first, last = account.sent_at, account.first_token, account.last_token
    if sent is None:
        return 0.0, 0.0
    if not account.stream or first is None or last is None or first < sent:
        return max(account.ended - sent, 0.0), 0.0
    return first - sent, max(last - first - account.reader_seconds, 0.0)
