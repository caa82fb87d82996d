"""The unit: what systemd makes of it, and how little it leaves penstock."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

from proxy.app import EX_CONFIG
from tests.deploy.manifests import DEPLOY
from tests.e2e.program import run

UNIT = DEPLOY / "systemd/penstock.service"
LOWEST_MARK = 2.0


@pytest.fixture
def analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    return found


def settings() -> dict[str, str]:
    """The unit's [Service]; of what is there twice the last."""
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # as its documentation says
    unit.read(UNIT)
    return dict(unit["Service"])


def test_systemd_finds_nothing_to_complain_of(analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/penstock/bin/penstock", sys.executable))

    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)

    # It warns of an unknown value and exits 0 all the same. Units that are not ours do not count.
    assert [line for line in done.stderr.splitlines() if "penstock" in line] == []


def test_the_linter_is_awake(analyze: str, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("Type=exec", "Type=exce"))

    done = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)

    assert "exce" in done.stderr


def test_the_exposure_is_low(analyze: str) -> None:
    command = [analyze, "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    (mark,) = re.findall(r"exposure level for penstock\.service: ([\d.]+)", done.stdout)
    assert float(mark) <= LOWEST_MARK


def test_it_stops_after_the_longest_answer_and_does_not_repeat_a_bad_start() -> None:
    unit = settings()

    (drain,) = re.findall(r"--drain-seconds (\d+)", unit["ExecStart"])
    assert int(unit["TimeoutStopSec"]) == int(drain) + 30
    assert unit["RestartPreventExitStatus"] == str(EX_CONFIG)


async def test_penstock_takes_the_arguments_of_the_unit(tmp_path: Path) -> None:
    config = tmp_path / "penstock.jsonc"
    config.write_text("{")
    words = settings()["ExecStart"].replace("/etc/penstock/penstock.jsonc", str(config)).split()

    finished = await run(*words[1:])

    assert finished.status == EX_CONFIG  # 2 would be the arguments
