#!/usr/bin/env python3
"""What `make bench` runs: penstock beside nginx and what else there is, and a word on each goal.

All targets run at the same time, each scenario goes through them one after the other, and ratios
are taken within a run: what else the machine does then falls on all of them alike. Exit status 1
means that requests failed or answers were changed; a goal that was missed is only said.
"""
import argparse
import contextlib
import datetime
import json
import os
import shutil
import socket
import subprocess
import statistics
import sys

import bench

EXACT, TRANSLATED, BASE = "penstock", "penstock-tgi", "nginx"
# Looked for on PATH; an environment variable may name another program.
PROXIES = {"nginx": "NGINX", "haproxy": "HAPROXY"}
# Measured only where an environment variable names the program.
PEERS = {"envoy": "ENVOY", "caddy": "CADDY", "vllm-router": "VLLM_ROUTER", "sglang-router": "SGLANG_ROUTER",
         "smg": "SMG", "portkey": "PORTKEY_SERVER", "litellm": "LITELLM"}
ROUTERS = ("vllm-router", "sglang-router", "smg", "envoy")
SCENARIOS = ["unary", "unary_32k", "stream_mid", "stream_short", "stream_low", "idle"]
REQUEST, EVENT = "cpu_us_per_request", "cpu_us_per_event"
MIB = 1 << 20
MISSED = "NOT REACHED"


# ---------------------------------------------------------------- measuring
def chosen(names):
    """The targets that can be measured here; says what is left out."""
    found = ["direct"]
    for name, variable in PROXIES.items():
        if shutil.which(os.environ.get(variable, name)):
            found.append(name)
        else:
            print(f"{name}: not installed, left out" + (", and with it every ratio" if name == BASE else ""), file=sys.stderr)
    found += [EXACT, TRANSLATED]
    for name, variable in PEERS.items():
        program = os.environ.get(variable, "")
        if os.path.exists(program) or shutil.which(program):
            found.append(name)
        elif program:
            print(f"{name}: {variable} names nothing that is there, left out", file=sys.stderr)
    return [name for name in found if not names or name in names]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def running(args, name):
    """One target, None if it did not start; and its memory while it has served one request only."""
    target = bench.Target.parse(name, {})
    target.spec["port"] = free_port()
    try:
        target.start(args)
        started = target, {"start_seconds": target.start_seconds, "pss": bench.memory(target.pids())[0]}
    except (OSError, RuntimeError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        started = None, {"error": str(error)}
    try:
        yield started
    finally:
        target.stop()


def one_run(args, names, label):
    """Every scenario on every target, interleaved; figures by target and scenario."""
    with contextlib.ExitStack() as stack:
        # penstock first: memory that it shares with a second Python process would count by half
        order = sorted(names, key=lambda name: name != EXACT)
        started = {name: stack.enter_context(running(args, name)) for name in order}
        figures = {name: {"start": started[name][1]} for name in names}
        for scenario in args.scenario:
            for name in names:
                target = started[name][0]
                if target and fit(target, scenario):
                    figures[name][scenario] = bench.measure(args, target, scenario, label)
        return figures


def fit(target, scenario):
    """Whether a scenario says something about a target that is still alive."""
    if target.name == "direct":
        return scenario not in ("idle", "max_streams")
    return scenario not in target.spec.get("skip", ()) and target.proc.poll() is None


def measured(args, names):
    """All runs: a list of `one_run`."""
    bench.build(args)
    args.up = bench.start_upstream(args)
    args.spinner = bench.spinner(args.target_core) if args.spin else None
    try:
        return [one_run(args, names, f"[{run + 1}/{args.runs}]") for run in range(args.runs)]
    finally:
        bench.stop(args.spinner)
        bench.stop(args.up)


# ---------------------------------------------------------------- figures
def middle(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


class Figures:
    """Medians over the runs; None for what was not measured."""

    def __init__(self, runs):
        self.runs = runs
        self.names = list(runs[0])

    def each(self, name, path):
        return [bench.get(run.get(name), path) for run in self.runs]

    def of(self, name, path):
        return middle(self.each(name, path))

    def pairs(self, name, path):
        return [(a, b) for a, b in zip(self.each(name, path), self.each(BASE, path)) if a is not None and b]

    def ratio(self, name, path):
        return middle([a / b for a, b in self.pairs(name, path)])

    def between(self, name, path):
        """Another's figure, as so many times penstock's."""
        theirs, ours = self.of(name, path), self.of(EXACT, path)
        return theirs / ours if theirs and ours else None

    def to_leanest(self, path):
        """Penstock's figure, as so many times the least of the routers'."""
        found = [ratio for name in ROUTERS if (ratio := self.between(name, path))]
        return 1 / min(found) if found else None

    def over(self, name, path):
        return middle([a - b for a, b in self.pairs(name, path)])

    def other(self):
        """The share of the target's core that went to neither target nor spinner."""
        return middle([result["foreign_util"] for run in self.runs for results in run.values() for result in results.values()
                       if "foreign_util" in result]) or 0.0

    def faults(self, name):
        """What must not happen, in words; empty if it did not."""
        found = []
        for number, run in enumerate(self.runs, 1):
            for scenario, result in run[name].items():
                if result.get("error") or result.get("failed"):
                    found.append(f"run {number}, {scenario}: {result.get('error') or '%d failed' % result['failed']}")
        return found

    def comparable(self, name):
        """The scenarios with answers both through a target and without a proxy, and both results."""
        return [(scenario, run["direct"][scenario], result) for run in self.runs if "direct" in run
                for scenario, result in run.get(name, {}).items() if result.get("requests") and run["direct"].get(scenario, {}).get("requests")]

    def changed(self, name):
        """The scenarios whose answers had another length than without a proxy."""
        return sorted({scenario for scenario, plain, relayed in self.comparable(name) if length(plain) != length(relayed)})


def length(result):
    return result["body_bytes_min"], result["body_bytes_max"]


# ---------------------------------------------------------------- goals
# issue, what, unit, bound, figure
GOALS = [
    ("A", "unary: CPU per request", "us", "at most", 220, lambda f: f.of(EXACT, f"unary.{REQUEST}")),
    ("A", "stream_mid: CPU per event", "us", "at most", 55, lambda f: f.of(EXACT, f"stream_mid.{EVENT}")),
    ("B", "stream_mid, exact: to nginx", "x", "at most", 1.5, lambda f: f.ratio(EXACT, f"stream_mid.{EVENT}")),
    ("B", "stream_mid, translated: to nginx", "x", "at most", 2.0, lambda f: f.ratio(TRANSLATED, f"stream_mid.{EVENT}")),
    ("B", "unary: to nginx", "x", "at most", 3.5, lambda f: f.ratio(EXACT, f"unary.{REQUEST}")),
    ("B", "unary, 32 KiB prompt: to nginx", "x", "at most", 3.5, lambda f: f.ratio(EXACT, f"unary_32k.{REQUEST}")),
    ("B", "stream_short, 8 events: to nginx", "x", "at most", 1.8, lambda f: f.ratio(EXACT, f"stream_short.{REQUEST}")),
    ("B", "first token, p50: over nginx", "us", "at most", 500, lambda f: f.over(EXACT, "stream_low.ttft.p50")),
    ("B", "token delay, p99: to nginx", "x", "at most", 2.0, lambda f: f.ratio(EXACT, "stream_low.event_delay.p99")),
    ("B", "memory per silent stream", "KiB", "at most", 20, lambda f: f.of(EXACT, "idle.kib_per_idle_stream")),
    ("B", "start to the first 200", "s", "at most", 1.0, lambda f: f.of(EXACT, "start.start_seconds")),
    ("B", "memory at rest (PSS)", "MiB", "at most", 60, lambda f: scaled(f.of(EXACT, "start.pss"), MIB)),
    ("B", "unary: to the leanest of the routers", "x", "at most", 1.0, lambda f: f.to_leanest(f"unary.{REQUEST}")),
    ("B", "stream_short: to the leanest of the routers", "x", "at most", 1.0, lambda f: f.to_leanest(f"stream_short.{REQUEST}")),
    ("B", "stream_mid: to the leanest of the routers", "x", "at most", 1.1, lambda f: f.to_leanest(f"stream_mid.{EVENT}")),
    *[("B", f"{path.partition('.')[0]}: LiteLLM's to penstock's", "x", "at least", 50, lambda f, path=path: f.between("litellm", path))
      for path in (f"unary.{REQUEST}", f"unary_32k.{REQUEST}", f"stream_short.{REQUEST}", f"stream_mid.{EVENT}")],
    ("B", "streams at 30 tokens/s", "", "at least", 1800, lambda f: f.of(EXACT, "max_streams.max_streams")),
    ("B", "streams at 30 tokens/s: to vllm-router's", "x", "at least", 1.0, lambda f: inverse(f.between("vllm-router", "max_streams.max_streams"))),
]


def inverse(value):
    return None if not value else 1 / value


def scaled(value, unit):
    return None if value is None else value / unit


def verdicts(figures):
    """One line per goal."""
    lines = []
    for issue, what, unit, bound, limit, figure in GOALS:
        value = figure(figures)
        lines.append(f"{issue}  {what:44} {shown(value):>8} {unit:3} ({bound} {limit:g})  {verdict(value, bound, limit)}")
    return lines


def shown(value):
    return bench.fmt(value) if value is None or value >= 10 else f"{value:.2f}"


def verdict(value, bound, limit):
    if value is None:
        return "not measured"
    return "reached" if (value <= limit if bound == "at most" else value >= limit) else MISSED


def promises(figures):
    """One line for each thing that must hold however fast the machine is."""
    faults = {f"{name}: no failures": figures.faults(name) for name in (EXACT, TRANSLATED) if name in figures.names}
    if figures.comparable(EXACT):
        faults[f"{EXACT}: answers unchanged"] = figures.changed(EXACT)
    return [f"A  {what:44} {MISSED + ': ' + '; '.join(found) if found else 'reached'}" for what, found in faults.items()]


# ---------------------------------------------------------------- tables
# heading, figure, its unit, whether with its ratio to nginx
COLUMNS = [
    ("unary, µs", f"unary.{REQUEST}", 1, True),
    ("unary 32 KiB, µs", f"unary_32k.{REQUEST}", 1, True),
    ("token, µs", f"stream_mid.{EVENT}", 1, True),
    ("8-token stream, µs", f"stream_short.{REQUEST}", 1, True),
    ("first token p50, ms", "stream_low.ttft.p50", 1000, False),
    ("token delay p99, ms", "stream_low.event_delay.p99", 1000, False),
    ("KiB per silent stream", "idle.kib_per_idle_stream", 1, False),
    ("at rest, MiB", "start.pss", MIB, False),
    ("streams at 30 tokens/s", "max_streams.max_streams", 1, False),
]


def table(figures):
    columns = [column for column in COLUMNS if any(figures.of(name, column[1]) for name in figures.names)]
    lines = ["| | " + " | ".join(column[0] for column in columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in figures.names:
        cells = [cell(figures, name, *column[1:]) for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def cell(figures, name, path, unit, with_ratio):
    value = figures.of(name, path)
    if value is None or (name == "direct" and path.startswith("start.")):
        return "-"
    ratio = figures.ratio(name, path) if with_ratio and name != BASE else None
    return bench.fmt(value / unit) + (f" ({ratio:.1f}x)" if ratio else "")


def versions():
    """What penstock says of itself and of its Python, which may be another than ours."""
    program = os.environ.get("PENSTOCK", os.path.join(bench.ROOT, ".venv/bin/penstock"))
    return subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.strip()


def machine(args, figures):
    about, other = bench.meta(), figures.other()
    today = datetime.datetime.now(datetime.timezone.utc).date()
    return (f"{today}, {about['cpu'] or 'unknown processor'}, {about['cores']} cores, Linux {about['kernel'].split('-')[0]}, "
            f"{versions()}: median of {args.runs} interleaved runs, other load on the target's core {100 * other:.0f} %.")


def saved(paths):
    """The runs of earlier measurements; those for the most streams take too long for each run."""
    runs = []
    for path in paths:
        with open(path, encoding="utf-8") as f:
            runs += json.load(f)["runs"]
    return runs


BEGIN, END = "<!-- bench:begin -->\n", "<!-- bench:end -->"


def read_around(path):
    """What stands before and after the table in a file."""
    with open(path, encoding="utf-8") as f:
        before, begin, rest = f.read().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: no place for the table between {BEGIN.strip()} and {END}")
    return before + begin, end + after


def write_between(path, around, lines):
    with open(path, "w", encoding="utf-8") as f:
        f.write(around[0] + "\n".join(lines) + "\n" + around[1])


# ---------------------------------------------------------------- command line
def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="one short run that only tries the harness out")
    add("--full", action="store_true", help="also look for the most streams (minutes per target)")
    add("--runs", type=int, help="default: 3")
    add("--seconds", type=float, help="length of one measurement; default: 5")
    add("--target", action="append", default=[], help="only this target (repeat)")
    add("--scenario", action="append", default=[], choices=list(bench.SCENARIOS), help="only this scenario (repeat)")
    add("--no-spin", dest="spin", action="store_false", help="let the target's core halt")
    add("--saved", action="append", default=[], help="figures that --out wrote, in place of measuring (repeat to join)")
    add("--out", help="write every figure as JSON")
    add("--readme", help="replace the measured table of this file")
    add("--bin", default=os.environ.get("BENCH_BIN", os.path.join(bench.HERE, "bin")), help="where the two C programs are built")
    args = parser.parse_args()
    args.runs = args.runs or (1 if args.quick else 3)
    args.seconds = args.seconds or (2 if args.quick else 5)
    args.scenario = args.scenario or SCENARIOS + (["max_streams"] if args.full else [])
    args.spin = args.spin and not args.quick
    args.idle_streams = 100 if args.quick else 2000
    args.max_streams, args.model, args.header = 6400, "bench-model", []
    cores = sorted(os.sched_getaffinity(0))
    args.target_core, args.load_core, args.upstream_port = cores[0], cores[-1], free_port()
    return args


def main():
    args = options()
    beside = os.path.join(os.path.dirname(sys.executable), "penstock")
    if os.path.exists(beside):
        os.environ.setdefault("PENSTOCK", beside)
    around = read_around(args.readme) if args.readme else None  # before minutes are spent on it
    figures = Figures(saved(args.saved) if args.saved else measured(args, chosen(args.target)))
    musts, goals, rows = promises(figures), verdicts(figures), table(figures)
    print("\n".join([machine(args, figures), "", *rows, "", *musts, *([] if args.quick else goals)]))
    if args.out:
        with open(args.out, "w", encoding="utf-8") as f:
            json.dump({"meta": bench.meta(), "goals": musts + goals, "runs": figures.runs}, f, indent=1)
    broken = any(MISSED in line for line in musts)
    if around and not broken:
        write_between(args.readme, around, [machine(args, figures), "", *rows])
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
