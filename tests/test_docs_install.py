"""What the pages say of installing, done for real: by pip, from a package index, in a clone.

`make run` wants the ports of the pages, so it has a network of its own. As the image, this needs
root and another network than loopback, so it is `make test-image` that runs it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import PIPE
from contextlib import suppress
from pathlib import Path

import pytest

from proxy import __version__
from tests.pages import ROOT, Page

NOT_IN_A_CLONE = shutil.ignore_patterns(".*", "tests", "*.egg-info", "__pycache__")
ALONE = ("unshare", "--net", "sh", "-euc", 'ip link set lo up; exec "$@"', "sh")

pytestmark = [pytest.mark.image, pytest.mark.timeout(300)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What a clone of the repository has, without the tests; its `python3` is that of the tests."""
    made = tmp_path / "clone"
    shutil.copytree(ROOT, made, ignore=NOT_IN_A_CLONE)
    python = tmp_path / "bin/python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return made


def environment(clone: Path) -> dict[str, str]:
    """That of a person who has just come."""
    found = dict(os.environ)  # noqa: TID251 - a person's shell has it too
    for ours in ("MAKEFLAGS", "MAKELEVEL"):  # of the make that runs the tests
        found.pop(ours, None)
    return found | {"PATH": f"{clone.parent}/bin:{found['PATH']}"}


def block(page: str, word: str) -> str:
    """The one block of commands on a page that has this word."""
    (found,) = (each.text for each in Page(ROOT / page).blocks("sh") if word in each.text)
    return found


def done(clone: Path, commands: str) -> str:
    """What commands say that succeed."""
    finished = subprocess.run(
        ("sh", "-euc", commands),
        cwd=clone,
        env=environment(clone),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_pip_installs_what_the_quickstart_says(clone: Path) -> None:
    said = done(clone, block("docs/quickstart.md", "pip install"))

    assert said.splitlines()[-1].split()[:2] == ["penstock", __version__]


async def test_make_run_does_what_the_readme_says(clone: Path) -> None:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("a network of its own needs root, and ip (Debian: apt-get install iproute2)")
    (shown,) = Page(ROOT / "README.md").blocks("text")
    done(clone, "make .venv/.run")  # the half that asks the package index

    process = await asyncio.create_subprocess_exec(
        *(*ALONE, "sh", "-euc", block("README.md", "make run")),
        cwd=clone,
        env=environment(clone),
        stdout=PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = (await process.stdout.readuntil(b"Ctrl-C ends both.\n")).decode()
        os.killpg(process.pid, signal.SIGINT)
        rest = await process.stdout.read()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    assert said.startswith(shown.text)
    assert rest == b""
