"""`penstock rules`: what Prometheus is to watch, from the objectives of a configuration.

For each model with an objective: the share of its requests that miss it, over seven windows, and
two alerts for how fast the errors that it allows are used up. Besides, the alerts that need no
objective. Bounds of the model's histograms lie on its objectives, so that the shares are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import indent
from typing import TextIO

import msgspec

from proxy.commands.alerts import (
    ALERTS,
    BURN_ALERTS,
    ERRORS,
    FAILED,
    NOT_OURS,
    TARGET,
    WINDOWS,
    Alert,
)
from proxy.commands.files import refused, registry_of
from proxy.config.problems import ConfigError
from proxy.config.schema.traffic import Objectives

DEFAULT_SHARE = 0.99  # of requests within an objective that says no share
RUNBOOK = "docs/runbook.md"

_HEAD = "# Made by `penstock rules`. Change the configuration's objectives, not this.\n"


class Record(msgspec.Struct, frozen=True):
    """A rule that writes a series."""

    name: str
    expr: str
    labels: Mapping[str, str]


def rules(path: Path, out: TextIO, err: TextIO) -> int:
    """Write the rules as a file for Prometheus; the exit status."""
    try:
        registry = registry_of(path)
    except ConfigError as error:
        return refused(path, error, err)
    out.write(rules_for({label: model.pool.rules.slo for label, model in registry.models.items()}))
    return 0


def rules_for(objectives: Mapping[str, Objectives]) -> str:
    """The file for these objectives, by model."""
    wanted = {model: each for model, each in objectives.items() if each != Objectives()}
    parts = [_HEAD, "groups:\n", _group("penstock", map(_alert, ALERTS))]
    if wanted:
        parts.append(_group("penstock-objectives", map(_record, records(wanted))))
        parts.append(_group("penstock-budgets", map(_alert, BURN_ALERTS)))
    return "".join(parts)


def records(objectives: Mapping[str, Objectives]) -> Iterator[Record]:
    """What is asked for, and how much of it is missed."""
    for model, each in objectives.items():
        share = each.availability or DEFAULT_SHARE
        for slo in _named(each):
            yield Record(TARGET, f"vector({share!r})", {"model": model, "slo": slo})
    for window in WINDOWS:
        if any(each.availability is not None for each in objectives.values()):
            yield Record(f"{ERRORS}{window}", _failing(window), {"slo": "availability"})
        for model, each in objectives.items():
            for slo, family, bound in _bounds(each):
                expr = _above(family, model, bound, window)
                yield Record(f"{ERRORS}{window}", expr, {"model": model, "slo": slo})


def _named(objectives: Objectives) -> Iterator[str]:
    if objectives.availability is not None:
        yield "availability"
    for slo, _, _ in _bounds(objectives):
        yield slo


def _bounds(objectives: Objectives) -> Iterator[tuple[str, str, float]]:
    if objectives.first_token_seconds is not None:
        family = "penstock_time_to_first_token_seconds"
        yield "first_token", family, objectives.first_token_seconds
    if objectives.inter_token_seconds is not None:
        yield "inter_token", "penstock_inter_token_seconds", objectives.inter_token_seconds


def _failing(window: str) -> str:
    """The share of requests that failed; 0 where none ever did."""
    failed = _rate(f'penstock_requests_total{{outcome=~"{FAILED}"}}', window)
    counted = _rate(f'penstock_requests_total{{outcome!~"{NOT_OURS}"}}', window)
    return f"({failed}\n  or 0 * {counted})\n  / {counted}"


def _above(family: str, model: str, bound: float, window: str) -> str:
    """The share of streams that took longer than this."""
    named = f"model={_quoted(model)}"
    within = _rate(f'{family}_bucket{{{named},le="{float(bound)}"}}', window)
    return f"1 - {within}\n  / {_rate(f'{family}_count{{{named}}}', window)}"


def _rate(series: str, window: str) -> str:
    return f"sum by (namespace, model) (rate({series}[{window}]))"


# -- as YAML, of which JSON's texts are part


def _group(name: str, entries: Iterable[str]) -> str:
    return f"  - name: {name}\n    rules:\n" + "".join(entries)


def _alert(alert: Alert) -> str:
    return (
        f"      - alert: {alert.name}\n"
        f"        expr: |-\n{indent(alert.expr, ' ' * 10)}\n"
        f"        for: {alert.lasting}\n"
        f"        labels:\n"
        f"          severity: {alert.severity}\n"
        f"        annotations:\n"
        f"          summary: {_quoted(alert.summary)}\n"
        f"          description: {_quoted(alert.description)}\n"
        f"          runbook: {RUNBOOK}#{alert.name.lower()}\n"
    )


def _record(record: Record) -> str:
    labels = "".join(f"          {name}: {_quoted(text)}\n" for name, text in record.labels.items())
    expr = indent(record.expr, " " * 10)
    return f"      - record: {record.name}\n        expr: |-\n{expr}\n        labels:\n{labels}"


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
