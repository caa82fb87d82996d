"""What one request and one token cost in machine instructions: a figure that no neighbour disturbs.

The recorded figures are for one CPython; where another runs, only the counting itself is tested.
After a change that is meant to cost more, or that saves, write the printed figures into
tests/bench/instructions.json, in the same commit.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

BENCH = Path(__file__).parent / "bench"
GROWTH = 1.10
SHORT, LONG = 100, 600
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


class Recorded(msgspec.Struct):
    """The figures to hold."""

    python: str
    unary: int
    stream: int


def instructions(kind: str, count: int) -> int:
    """What a whole run of this length took."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        sys.executable,
        str(BENCH / "instructions.py"),
        kind,
        str(count),
    ]
    environment = {"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"}
    run = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    found = re.search(r"Collected : (\d+)", run.stderr)
    assert found is not None, run.stderr
    return int(found[1])


def each(kind: str) -> int:
    """What one more request or token takes."""
    compiled = [sys.executable, str(BENCH / "instructions.py"), kind, "1"]
    subprocess.run(compiled, check=True)  # so that no run has to compile modules
    with ThreadPoolExecutor(2) as pool:
        short, long = pool.map(lambda count: instructions(kind, count), (SHORT, LONG))
    return (long - short) // (LONG - SHORT)


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_a_request_and_a_token_cost_no_more_than_they_did(kind: str) -> None:
    recorded = msgspec.json.decode((BENCH / "instructions.json").read_bytes(), type=Recorded)
    limit = GROWTH * getattr(recorded, kind) if recorded.python == PYTHON else float("inf")
    # The count is the same each time, but what a start takes is not, once in a hundred times.
    counts = [each(kind)]
    while len(counts) < 3 and not 1000 < counts[-1] < limit:
        counts.append(each(kind))

    assert 1000 < counts[-1] < limit, f"{kind}: {counts} instructions"
