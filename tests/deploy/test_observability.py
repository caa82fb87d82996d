"""The rules, the dashboard and their pages fit each other and the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from io import StringIO
from pathlib import Path

import msgspec
import pytest
import yaml

from proxy.commands import rules
from proxy.commands.alerts import ALERTS, BURN_ALERTS
from proxy.commands.metrics_reference import page
from proxy.commands.rules import RUNBOOK, rules_for

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus"
NEEDS_PROMTOOL = pytest.mark.skipif(
    shutil.which("promtool") is None,
    reason="promtool is not installed (Debian: apt-get install prometheus)",
)


def headings(path: Path) -> set[str]:
    """The anchors of a page, as forges make them."""
    found = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in found}


def test_the_rules_that_are_shipped_are_those_that_penstock_prints() -> None:
    out = StringIO()

    assert rules(RULES / "objectives.jsonc", out, sys.stderr) == 0
    assert (RULES / "objectives.yml").read_text() == out.getvalue()
    assert (RULES / "rules.yml").read_text() == rules_for({})


def test_each_alert_has_its_entry_in_the_runbook_and_no_other_has() -> None:
    found = headings(ROOT / RUNBOOK) - {"runbook"}

    assert found == {alert.name.lower() for alert in (*ALERTS, *BURN_ALERTS)}


def test_each_alert_says_where_its_entry_is() -> None:
    file = yaml.safe_load((RULES / "objectives.yml").read_text())
    alerts = [rule for group in file["groups"] for rule in group["rules"] if "alert" in rule]

    assert len(alerts) == len(ALERTS) + len(BURN_ALERTS)
    for alert in alerts:
        place, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert anchor in headings(ROOT / place)


@pytest.mark.parametrize("name", ["runbook.md", "metrics.md"])
def test_each_link_leads_somewhere(name: str) -> None:
    path = ROOT / "docs" / name
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        place, _, anchor = link.partition("#")
        target = path if not place else (path.parent / place).resolve()
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


def test_panels_that_the_runbook_names_are_on_the_dashboard() -> None:
    board = msgspec.json.decode((ROOT / "deploy/grafana/penstock.json").read_bytes())
    titles = {panel["title"] for panel in board["panels"]}
    named = set(re.findall(r"(?<!\*)\*([A-Z][a-z ]+)\*(?!\*)", (ROOT / RUNBOOK).read_text()))

    assert named
    assert named <= titles


def test_the_page_of_metrics_is_as_the_code_makes_it() -> None:
    assert (ROOT / "docs/metrics.md").read_text() == page(), "run `make docs`"


def test_the_dashboard_is_as_its_script_makes_it(tmp_path: Path) -> None:
    made = tmp_path / "penstock.json"
    subprocess.run([sys.executable, ROOT / "deploy/grafana/dashboard.py", made], check=True)

    assert made.read_text() == (ROOT / "deploy/grafana/penstock.json").read_text()


@NEEDS_PROMTOOL
@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "rules", "rules.yml"),
        ("check", "rules", "objectives.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "rules_test.yml"),
        ("test", "rules", "objectives_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=RULES, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_is_tested_in_its_own_time() -> None:
    tested = "".join(path.read_text() for path in RULES.glob("*_test.yml"))

    assert set(re.findall(r'alertname="(\w+)"', tested)) == {
        alert.name for alert in (*ALERTS, *BURN_ALERTS)
    }


def test_a_file_that_is_refused_gives_no_rules(tmp_path: Path) -> None:
    file, out, err = tmp_path / "x.jsonc", StringIO(), StringIO()
    file.write_text("{}")

    assert rules(file, out, err) == 78
    assert out.getvalue() == ""
    assert '"modelConfiguration" is missing' in err.getvalue()
