"""The benchmark works: it builds, starts penstock and its peers, and finds no answer changed.

Times are never judged here; `make bench` does that.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

BENCH = Path(__file__).parent / "bench" / "run.py"

needs_compiler = pytest.mark.skipif(
    not (shutil.which("make") and shutil.which("cc") and shutil.which("taskset")),
    reason="the load generator is built with make and a C compiler, and pinned with taskset",
)
needs_nginx = pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")


class Load(msgspec.Struct):
    """What the load generator counted."""

    requests: int
    events: int
    failed: int
    body_bytes_min: int
    body_bytes_max: int


class Target(msgspec.Struct):
    """The scenarios measured here."""

    unary: Load
    stream_mid: Load


class Report(msgspec.Struct):
    """What `run.py --out` writes, as far as it is asked for here."""

    goals: list[str]
    runs: list[dict[str, Target]]


def benchmarked(folder: Path, *targets: str) -> Report:
    """A run of half a second per target and scenario."""
    out = folder / "bench.json"
    chosen = [word for target in ("direct", *targets) for word in ("--target", target)]
    scenarios = ["--scenario", "unary", "--scenario", "stream_mid"]
    command = [sys.executable, str(BENCH), "--quick", "--seconds", "0.8", "--bin", str(folder)]
    done = subprocess.run(
        [*command, *chosen, *scenarios, "--out", str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return msgspec.json.decode(out.read_bytes(), type=Report)


@needs_compiler
def test_penstock_under_load_fails_nothing_and_changes_nothing(tmp_path: Path) -> None:
    (run,) = benchmarked(tmp_path, "penstock", "penstock-tgi").runs

    for name in ("direct", "penstock", "penstock-tgi"):
        for load in (run[name].unary, run[name].stream_mid):
            assert load.requests > 0
            assert load.failed == 0
    plain, relayed = run["direct"], run["penstock"]
    for sent, got in ((plain.unary, relayed.unary), (plain.stream_mid, relayed.stream_mid)):
        assert got.body_bytes_min == sent.body_bytes_min
        assert got.body_bytes_max == sent.body_bytes_max


@needs_compiler
@needs_nginx
def test_nginx_is_there_to_be_compared_with(tmp_path: Path) -> None:
    (run,) = benchmarked(tmp_path, "nginx").runs

    assert run["nginx"].unary.failed == 0
    assert run["nginx"].stream_mid.failed == 0
