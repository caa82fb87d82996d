"""A family of series: its name, its kind, its labels, and how values become samples of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeAlias

import msgspec
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar

# What stands at a bound of a histogram: the bound, how many values were at most that, an example.
Bucket: TypeAlias = tuple[str, float] | tuple[str, float, Exemplar]


class Spread(Protocol):
    """What a histogram is made of."""

    @property
    def total(self) -> float:
        """The sum of all values."""

    def buckets(self, *, coarse: bool) -> list[Bucket]:
        """Each bound, in order; fewer of them if `coarse`."""


class Family(msgspec.Struct, frozen=True):
    """A name, and what its series have in common; a counter's ends in `_total` on the page."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()

    @property
    def shown(self) -> str:
        """Its name on the page and in queries."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def of(self, values: Iterable[tuple[Sequence[str], float]]) -> Metric:
        """The family with these values, by their labels."""
        kind = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = kind(self.name, self.text, labels=self.labels)
        for key, value in values:
            family.add_metric(key, value)
        return family

    def at(self, value: float) -> Metric:
        """The family with its one value."""
        return self.of([((), value)])

    def over(
        self, values: Iterable[tuple[Sequence[str], Spread]], *, coarse: bool = False
    ) -> Metric:
        """The histograms with these values, by their labels."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for key, spread in values:
            family.add_metric(key, spread.buckets(coarse=coarse), spread.total)
        return family
