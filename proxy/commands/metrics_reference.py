"""The families of `/metrics` as a page of Markdown: `docs/metrics.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

from parsers.events import FaultKind
from proxy.metrics.collector import FINE_MODELS
from proxy.metrics.engines import SERIES
from proxy.metrics.families import SECTIONS
from proxy.metrics.family import Family
from proxy.metrics.tally import (
    DURATION_BOUNDS,
    FIRST_TOKEN_BOUNDS,
    INTER_TOKEN_BOUNDS,
    MAX_MODELS,
    PARTS,
    QUEUE_BOUNDS,
)
from proxy.outcome import Outcome, Verdict

_HEAD = """\
# Metrics

<!-- Made by `make docs` from proxy/metrics. Change that. -->

`GET /metrics` on the operators' port, as text or as OpenMetrics.
[runbook.md](runbook.md) says what to do when an alert fires, and [dashboard.svg](dashboard.svg)
shows the main panels of [penstock.json](../deploy/grafana/penstock.json) for Grafana.

Every value of a label comes from the configuration or from a closed list: nothing that a client
makes up adds a series.
"""

_LABELS: Mapping[str, str] = MappingProxyType(
    {
        "model": "the full reference, `provider::version::id`; `unknown` for a request that named"
        f" none that exists, `other` beyond {MAX_MODELS} models",
        "asked": "the model that was asked in its place",
        "provider": "its id",
        "client": "its name in the configuration; `anonymous` where none has a key",
        "endpoint": "its name, as in `/status`",
        "dialect": "what the client speaks; `none` before that is known",
        "outcome": ", ".join(f"`{each}`" for each in Outcome),
        "verdict": ", ".join(f"`{each}`" for each in Verdict),
        "part": ", ".join(f"`{each}`" for each in PARTS),
        "kind": "of tokens: `input`, `output`, `cached`, `reasoning`; of faults: "
        + ", ".join(f"`{each}`" for each in FaultKind),
        "source": "`reported` by the model server, or `counted` here: events with content",
        "reason": "`client_gone`, or `failed`: the answer broke off, or was begun again elsewhere",
        "origin": "`client`, `proxy`, `upstream`",
        "phase": "`admit`, `decode`, `resolve`, `choose`, `connect`, `stream`",
        "field": "the field's name; see [dialects.md](dialects.md)",
        "result": "`success`, `failure`",
        "version": "penstock's",
    }
)

_PARTS = """\
## Where the time goes

`penstock_request_time_seconds_total` splits the time of each request, and adds it up when it has
ended. All parts but `loop_lag` together are the whole.

| part | |
|---|---|
| `queue` | waiting for room at an endpoint (`admission`, and what servers say they take) |
| `connect` | until there is a connection to it |
| `prefill` | from the request's leaving to the first token; without a stream, to the end |
| `decode` | from the first token to the last |
| `slow_reader` | waiting for a client that does not read |
| `rest` | receiving the request, attempts that failed and the pauses between them, the end |
| `loop_lag` | contained in the others: by how much penstock's own loop was late meanwhile |
"""

_BOUNDS = f"""\
## Bounds of histograms

| histogram | bounds |
|---|---|
| `penstock_request_duration_seconds` | {", ".join(map(str, DURATION_BOUNDS))} |
| `penstock_time_to_first_token_seconds` | {", ".join(map(str, FIRST_TOKEN_BOUNDS))} |
| `penstock_inter_token_seconds` | {", ".join(map(str, INTER_TOKEN_BOUNDS))} |
| `penstock_queue_seconds` | {", ".join(map(str, QUEUE_BOUNDS))} |

A model's objectives (`slo`) are bounds of its own histograms too, so that what is within them is
counted and not estimated. Where models have different objectives, take quantiles by model.
With more than {FINE_MODELS} models every fifth bound is shown, and the objectives; a page for 200
models stays under a megabyte so.

Where a request comes with a `traceparent` whose trace is kept, OpenMetrics has its `trace_id` as
an exemplar in the histograms. Self-hosted servers get `traceparent` and `tracestate` as they came.
"""

_SWITCHED: Mapping[str, str] = MappingProxyType(
    {
        "OpenTelemetry's names": "Only with `penstock.metrics.genAi`. The conventions' bounds, and"
        " their names for services; self-hosted servers have none there and are called by their"
        " `type` in `serverSideConfig`.",
    }
)

_ENGINES = """\
## What model servers say of themselves

Only with `penstock.metrics.engineSeconds`: penstock asks each self-hosted server for its `/metrics`
that often, and shows these under its own labels, model and endpoint; `shared` stands for the model
where an endpoint serves several. Series of one name are added up, or the highest is shown of a
share. A server that does not answer has no series until it does.
"""


def page() -> str:
    """All of it."""
    sections = [_section(title, families) for title, families in SECTIONS.items()]
    engines = _ENGINES + "\n" + _table(series.family for series in SERIES.values())
    return "\n".join([_HEAD, *sections, engines, _labels(), _PARTS, _BOUNDS])


def _section(title: str, families: Iterable[Family]) -> str:
    note = f"{_SWITCHED[title]}\n\n" if title in _SWITCHED else ""
    return f"## {title}\n\n{note}{_table(families)}"


def _table(families: Iterable[Family]) -> str:
    rows = "".join(
        f"| `{each.shown}` | {each.kind} | {', '.join(each.labels)} | {each.text} |\n"
        for each in families
    )
    return f"| name | kind | labels | |\n|---|---|---|---|\n{rows}"


def _labels() -> str:
    rows = "".join(f"| {name} | {text} |\n" for name, text in _LABELS.items())
    return f"## Labels\n\n| label | values |\n|---|---|\n{rows}"


def main(path: str) -> None:
    """Write it."""
    Path(path).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
