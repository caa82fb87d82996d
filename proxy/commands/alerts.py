"""What is worth waking somebody for, or telling them in the morning: every alert there is.

`docs/runbook.md` has an entry for each, by its name. Sums keep `namespace`, which the Prometheus
operator gives every series; elsewhere it is on none and changes nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec

# What counts against us, and what does not count: clients that leave, or ask for what nobody can.
BROKEN = "truncated|upstream_error|internal_error|timeout_.+"
FAILED = f"{BROKEN}|shed"
NOT_OURS = "client_gone|rejected"


class Alert(msgspec.Struct, frozen=True):
    """A rule that fires. `lasting` is for how long it must hold, as Prometheus writes it."""

    name: str
    expr: str
    lasting: str
    severity: Literal["critical", "warning"]
    summary: str
    description: str


ALERTS = (
    Alert(
        "PenstockDown",
        'up{job=~".*penstock.*"} == 0',
        "2m",
        "critical",
        "{{ $labels.instance }} does not answer Prometheus",
        "Its operators' port is closed, or the process hangs or is gone.",
    ),
    Alert(
        "PenstockNotReady",
        "penstock_ready == 0 unless penstock_draining == 1",
        "5m",
        "critical",
        "{{ $labels.instance }} says that it cannot serve",
        "GET /readyz names the models of which no endpoint is known to be up.",
    ),
    Alert(
        "PenstockStaysDraining",
        "penstock_draining == 1",
        "15m",
        "warning",
        "{{ $labels.instance }} drains and does not go",
        "It takes no requests; whoever began the drain has not ended the process.",
    ),
    Alert(
        "PenstockConfigRefused",
        "penstock_config_last_reload_successful == 0",
        "5m",
        "warning",
        "{{ $labels.instance }} refuses the new configuration and serves the old one",
        "GET /status on its operators' port lists every problem.",
    ),
    Alert(
        "PenstockConfigsDiffer",
        "max by (namespace, job) (penstock_config_hash)\n"
        "  != min by (namespace, job) (penstock_config_hash)",
        "15m",
        "warning",
        "penstocks of job {{ $labels.job }} serve different configurations",
        "A ConfigMap reaches every Pod within about a minute; penstock_config_hash tells who did"
        " not take it.",
    ),
    Alert(
        "PenstockAnswersBreakOff",
        f'sum by (namespace, model) (rate(penstock_requests_total{{outcome=~"{BROKEN}"}}[10m]))\n'
        "  / sum by (namespace, model)"
        f' (rate(penstock_requests_total{{outcome!~"{NOT_OURS}"}}[10m])) > 0.05',
        "10m",
        "critical",
        "{{ $value | humanizePercentage }} of the answers of {{ $labels.model }} fail",
        "penstock_faults_total says by kind, origin and phase why.",
    ),
    Alert(
        "PenstockNoEndpointUp",
        "max by (namespace, job, provider) (penstock_endpoint_up) == 0",
        "2m",
        "critical",
        "no endpoint of {{ $labels.provider }} answers its checks",
        "Requests for its models fail, or go to their fallbacks.",
    ),
    Alert(
        "PenstockEndpointDown",
        "max by (namespace, provider, endpoint) (penstock_endpoint_up) == 0",
        "10m",
        "warning",
        "{{ $labels.endpoint }} of {{ $labels.provider }} does not answer its checks",
        "It gets no requests while others are left.",
    ),
    Alert(
        "PenstockCircuitOpen",
        "max by (namespace, provider, endpoint)"
        " (max_over_time(penstock_endpoint_circuit[5m])) == 2",
        "5m",
        "warning",
        "{{ $labels.endpoint }} of {{ $labels.provider }} fails requests and is left out",
        "penstock_upstream_attempts_total by verdict says how many.",
    ),
    Alert(
        "PenstockRequestsWait",
        "min_over_time(penstock_queue_length[5m]) > 0",
        "5m",
        "warning",
        "there is always somebody waiting for {{ $labels.provider }}",
        "Its model servers have as many requests as they may; more replicas would help.",
    ),
    Alert(
        "PenstockShedsRequests",
        'sum by (namespace, model) (rate(penstock_requests_total{outcome="shed"}[10m]))\n'
        "  / sum by (namespace, model) (rate(penstock_requests_total[10m])) > 0.01",
        "5m",
        "warning",
        "{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} are turned away",
        "The line is full, or the wait in it too long.",
    ),
    Alert(
        "PenstockRetriesMuch",
        "sum by (namespace, model) (rate(penstock_retries_total[10m]))\n"
        "  / sum by (namespace, model) (rate(penstock_requests_total[10m])) > 0.1",
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the requests for {{ $labels.model }} are tried again",
        "Callers see little of it yet: some endpoint fails, and the budget of retries hides it.",
    ),
    Alert(
        "PenstockWastesTokens",
        "sum by (namespace, model) (rate(penstock_wasted_tokens_total[30m]))\n"
        "  / sum by (namespace, model)"
        ' (rate(penstock_tokens_total{kind="output"}[30m])) > 0.25',
        "15m",
        "warning",
        "{{ $value | humanizePercentage }} of what {{ $labels.model }} makes is for nobody",
        "penstock_wasted_tokens_total says whether clients leave or answers break off.",
    ),
    Alert(
        "PenstockLoopLags",
        "rate(penstock_event_loop_lag_seconds_total[5m]) > 0.25",
        "5m",
        "warning",
        "{{ $labels.instance }} is late by {{ $value | humanizePercentage }} of the time",
        "It has more to do than one core can, or too little CPU is left to it: every stream"
        " is slower.",
    ),
    Alert(
        "PenstockLosesLogLines",
        "increase(penstock_log_lines_dropped_total[15m]) > 0",
        "0m",
        "warning",
        "{{ $labels.instance }} lost {{ $value | humanize }} log lines",
        "Whoever reads its standard output is slow or gone. No request waits for that.",
    ),
)


class Burn(msgspec.Struct, frozen=True):
    """A rate at which the errors allowed in 30 days are used up, over a long and a short window.

    The short one ends the alert soon after the trouble. Google's SRE workbook, chapter 5.
    """

    rate: float
    long: str
    short: str


FAST = (Burn(14.4, "1h", "5m"), Burn(6, "6h", "30m"))
SLOW = (Burn(3, "1d", "2h"), Burn(1, "3d", "6h"))
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

ERRORS = "penstock:slo_errors:ratio_rate"  # and a window
TARGET = "penstock:slo_target:ratio"


def _burning(burns: tuple[Burn, ...]) -> str:
    return "\nor\n".join(
        f"(\n  {_above(b, b.long)}\n  and\n  {_above(b, b.short)}\n)" for b in burns
    )


def _above(burn: Burn, window: str) -> str:
    return f"{ERRORS}{window} > on (model, slo) group_left () {burn.rate:g} * (1 - {TARGET})"


_BURN_SUMMARY = "{{ $labels.model }} misses its objective ({{ $labels.slo }})"

BURN_ALERTS = (
    Alert(
        "PenstockBudgetBurnsFast",
        _burning(FAST),
        "2m",
        "critical",
        _BURN_SUMMARY,
        "{{ $value | humanizePercentage }} of its requests are outside it: at this pace what is"
        " allowed for 30 days is gone in days.",
    ),
    Alert(
        "PenstockBudgetBurnsSlowly",
        _burning(SLOW),
        "15m",
        "warning",
        _BURN_SUMMARY,
        "{{ $value | humanizePercentage }} of its requests are outside it: what is allowed for"
        " 30 days will not last.",
    ),
)
