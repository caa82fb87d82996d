"""The defaults that docs/traffic.md tells are those that hold."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from proxy.config.rules import provider_rules
from proxy.config.schema import Penstock

DOCS = Path(__file__).parent.parent / "docs" / "traffic.md"
_ROW = re.compile(r"^\| `((?:\w+\.)\w+|balance)` \| `([^`]+)` \|", re.MULTILINE)


def test_every_default_that_is_told_holds() -> None:
    rules = provider_rules(Penstock(), "any")
    told = dict(_ROW.findall(DOCS.read_text()))
    told.pop("health.path")  # the kind's own

    found = {key: _value(rules, key) for key in told}

    assert len(told) >= 20
    assert found == told


def _value(rules: msgspec.Struct, key: str) -> str:
    value: object = rules
    for name in key.split("."):
        value = getattr(value, re.sub(r"[A-Z]", lambda m: f"_{m[0].lower()}", name))
    return f"{value:g}" if isinstance(value, float) else str(value)
