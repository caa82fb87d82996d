"""Writes penstock.json, the dashboard for Grafana: `python deploy/grafana/dashboard.py`.

A panel is a line here. A test runs each query against a real Prometheus.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

WIDTH, HEIGHT = 24, 8  # of a row in Grafana's grid, of a panel

MODEL = '{model=~"$model"}'


class Panel(NamedTuple):
    """A panel; each query with what its lines are called."""

    title: str
    unit: str  # Grafana's word for it
    queries: tuple[tuple[str, str], ...]
    text: str = ""
    stacked: bool = False


def rate(series: str, by: str) -> str:
    """Per second, added up by these labels."""
    return f"sum by ({by}) (rate({series}[$__rate_interval]))"


def quantile(share: float, family: str) -> str:
    """By model: objectives make its bounds its own."""
    return f"histogram_quantile({share}, {rate(f'{family}_bucket{MODEL}', 'model, le')})"


def quantiles(family: str) -> tuple[tuple[str, str], ...]:
    """The middle, and the slow ones."""
    return tuple(
        (quantile(share, family), f"{{{{model}}}} p{share * 100:g}") for share in (0.5, 0.95)
    )


ROWS: dict[str, tuple[Panel, ...]] = {
    "Overview": (
        Panel(
            "Requests by ending",
            "reqps",
            ((rate(f"penstock_requests_total{MODEL}", "outcome"), "{{outcome}}"),),
            "Every request ends in exactly one of these.",
            stacked=True,
        ),
        Panel(
            "Where the time goes",
            "none",
            (
                (
                    rate(
                        'penstock_request_time_seconds_total{model=~"$model",part!="loop_lag"}',
                        "part",
                    ),
                    "{{part}}",
                ),
            ),
            "Seconds of requests' time per second, counted when they end: who is slow.",
            stacked=True,
        ),
        Panel(
            "In flight and waiting",
            "none",
            (
                ("sum(penstock_requests_in_flight)", "in flight"),
                ("sum by (provider) (penstock_queue_length)", "waiting for {{provider}}"),
            ),
        ),
    ),
    "Objectives": (
        Panel(
            "Missed now",
            "percentunit",
            (("penstock:slo_errors:ratio_rate5m", "{{model}} {{slo}}"),),
            "Of the requests of the last five minutes; needs what `penstock rules` prints.",
        ),
        Panel(
            "Missed in an hour",
            "percentunit",
            (("penstock:slo_errors:ratio_rate1h", "{{model}} {{slo}}"),),
        ),
        Panel(
            "Budget in use",
            "percentunit",
            (
                (
                    "penstock:slo_errors:ratio_rate3d"
                    " / on (model, slo) group_left () (1 - penstock:slo_target:ratio)",
                    "{{model}} {{slo}}",
                ),
            ),
            "Of three days: above 100 % what is allowed for 30 days does not last.",
        ),
    ),
    "Models": (
        Panel("First token", "s", quantiles("penstock_time_to_first_token_seconds")),
        Panel("Between tokens", "s", quantiles("penstock_inter_token_seconds")),
        Panel("Whole request", "s", quantiles("penstock_request_duration_seconds")),
        Panel(
            "Requests",
            "reqps",
            ((rate(f"penstock_requests_total{MODEL}", "model"), "{{model}}"),),
        ),
        Panel(
            "Tokens",
            "none",
            ((rate(f"penstock_tokens_total{MODEL}", "model, kind"), "{{model}} {{kind}}"),),
            "Per second.",
        ),
        Panel(
            "Wait for room",
            "s",
            ((quantile(0.95, "penstock_queue_seconds"), "{{model}} p95"),),
            "Of those that had to wait.",
        ),
    ),
    "What goes wrong": (
        Panel(
            "Faults",
            "reqps",
            ((rate("penstock_faults_total", "kind, origin"), "{{kind}} ({{origin}})"),),
            "Whose fault a failure is stands in brackets.",
        ),
        Panel(
            "Tried again",
            "reqps",
            (
                (rate(f"penstock_retries_total{MODEL}", "model"), "{{model}} again"),
                (
                    rate(f"penstock_fallbacks_total{MODEL}", "model, asked"),
                    "{{asked}} for {{model}}",
                ),
            ),
        ),
        Panel(
            "Tokens for nobody",
            "none",
            (
                (
                    rate(f"penstock_wasted_tokens_total{MODEL}", "model, reason"),
                    "{{model}} {{reason}}",
                ),
            ),
            "Per second, made by model servers and read by no client.",
        ),
    ),
    "Endpoints": (
        Panel(
            "Requests held",
            "none",
            (
                (
                    "sum by (provider, endpoint) (penstock_endpoint_in_flight)",
                    "{{provider}} {{endpoint}}",
                ),
            ),
        ),
        Panel(
            "Calls by verdict",
            "reqps",
            (
                (
                    rate(f"penstock_upstream_attempts_total{MODEL}", "endpoint, verdict"),
                    "{{endpoint}} {{verdict}}",
                ),
            ),
        ),
        Panel(
            "Up, circuit",
            "none",
            (
                (
                    "min by (provider, endpoint) (penstock_endpoint_up)",
                    "{{provider}} {{endpoint}} up",
                ),
                (
                    "max by (provider, endpoint) (penstock_endpoint_circuit)",
                    "{{provider}} {{endpoint}} circuit",
                ),
            ),
            "Up: 1. Circuit: 0 closed, 1 half open, 2 open.",
        ),
    ),
    "Engines": (
        Panel(
            "In the batch",
            "none",
            (
                ("penstock_engine_tgi_batch_current_size", "{{model}} {{endpoint}}"),
                ("penstock_engine_vllm_num_requests_running", "{{model}} {{endpoint}}"),
            ),
            "What model servers say of themselves; needs penstock.metrics.engineSeconds.",
        ),
        Panel(
            "Waiting in the engine",
            "none",
            (
                ("penstock_engine_tgi_queue_size", "{{model}} {{endpoint}}"),
                ("penstock_engine_vllm_num_requests_waiting", "{{model}} {{endpoint}}"),
            ),
        ),
        Panel(
            "KV cache in use",
            "percentunit",
            (("penstock_engine_vllm_kv_cache_usage_perc", "{{model}} {{endpoint}}"),),
        ),
    ),
    "penstock": (
        Panel(
            "Configuration",
            "none",
            (
                ("penstock_config_generation", "{{instance}} generation"),
                ("penstock_config_last_reload_successful", "{{instance}} last load worked"),
                ("penstock_config_warnings", "{{instance}} warnings"),
                ('count(count by (value) (count_values("value", penstock_config_hash)))', "files"),
            ),
            "Files: how many different ones serve; more than one for long is wrong.",
        ),
        Panel(
            "Event loop",
            "percentunit",
            (
                (
                    "rate(penstock_event_loop_lag_seconds_total[$__rate_interval])",
                    "{{instance}} late",
                ),
            ),
            "Of the time; much of it means that one core is not enough.",
        ),
        Panel(
            "Ready, draining, log lines lost",
            "none",
            (
                ("penstock_ready", "{{instance}} ready"),
                ("penstock_draining", "{{instance}} draining"),
                (
                    "increase(penstock_log_lines_dropped_total[$__rate_interval])",
                    "{{instance}} lines lost",
                ),
            ),
        ),
    ),
}

Json = dict[str, object]
SOURCE: Json = {"type": "prometheus", "uid": "${datasource}"}


def panels() -> list[Json]:
    """Row by row, three panels beside each other."""
    found: list[Json] = []
    top = 0
    for title, row in ROWS.items():
        found.append(
            {"type": "row", "title": title, "gridPos": {"x": 0, "y": top, "w": WIDTH, "h": 1}}
        )
        top += 1
        for index, panel in enumerate(row):
            width = WIDTH // 3
            place: Json = {"x": index % 3 * width, "y": top, "w": width, "h": HEIGHT}
            found.append(graph(panel, place))
            if index % 3 == 2:
                top += HEIGHT
    return [{"id": number, **panel} for number, panel in enumerate(found, 1)]


def graph(panel: Panel, place: Json) -> Json:
    """A panel of lines over time."""
    custom: Json = {"fillOpacity": 40 if panel.stacked else 0}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal"}
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0, "custom": custom}},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expr, "legendFormat": name}
            for index, (expr, name) in enumerate(panel.queries)
        ],
    }


def dashboard() -> Json:
    """All of it."""
    return {
        "uid": "penstock",
        "title": "penstock",
        "tags": ["penstock"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                {
                    "name": "model",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": "label_values(penstock_requests_total, model)",
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".+",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": panels(),
    }


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("penstock.json")
    target.write_bytes(msgspec.json.format(msgspec.json.encode(dashboard())) + b"\n")
