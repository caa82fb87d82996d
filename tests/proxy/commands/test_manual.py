"""The pages of errors and of the command line: true, whole and up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from parsers.events import FaultKind
from proxy.cli import main
from proxy.commands.errors_reference import cases, page
from proxy.manual import main as write_manual
from proxy.manual import manual
from proxy.outcome import Outcome

ROOT = Path(__file__).parents[3]
MADE = re.compile(r"\b(client|proxy|upstream)_fault\(\s*FaultKind\.([A-Z_]+)")


def test_the_page_of_errors_is_up_to_date() -> None:
    text = (ROOT / "docs/errors.md").read_text(encoding="utf-8")

    assert text == page(), "run `make docs`"


def test_the_page_of_the_command_line_is_up_to_date(tmp_path: Path) -> None:
    text = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    write_manual(str(tmp_path / "cli.md"))

    assert text == manual(), "run `make docs`"
    assert (tmp_path / "cli.md").read_text(encoding="utf-8") == text


def test_every_outcome_and_every_kind_of_fault_has_its_row() -> None:
    text = page()

    assert all(f"\n| `{each}` | " in text for each in Outcome)
    assert {case.fault.kind for case in cases()} == set(FaultKind)


def test_a_fault_is_told_of_everyone_whose_it_can_be() -> None:
    """What the code makes by name; what servers say themselves is read from their answers."""
    told = {(case.fault.origin, case.fault.kind.name) for case in cases()}
    made = {
        found.groups()
        for file in (ROOT / "proxy").glob("**/*.py")
        for found in MADE.finditer(file.read_text(encoding="utf-8"))
    }

    assert len(made) > 10
    assert made <= told


def test_the_page_says_what_a_client_meets() -> None:
    text = page()

    assert (
        "| `unauthenticated` | `client` | 401 `authentication_error`, `invalid_api_key`"
        " | 401 `authentication_error` | 401 `unauthenticated` | 401 |\n" in text
    )
    assert "| `drained` | penstock leaves:" in text
    assert '\ndata: {"error":"the model server broke off its answer","error_type":' in text


@pytest.mark.parametrize("command", re.findall(r"^## penstock (\w+)$", manual(), re.MULTILINE))
def test_the_page_names_every_flag_of_a_command(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])

    section = manual().split(f"\n## penstock {command}\n")[1].split("\n## ")[0]
    flags = set(re.findall(r"--[\w-]+", capsys.readouterr().out)) - {"--help"}
    assert flags == set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE))
