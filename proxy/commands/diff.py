"""`penstock diff`: what would change for callers if one file took the place of another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import msgspec

from proxy.commands.changes import Change, changes
from proxy.commands.files import refused, registry_of
from proxy.config.problems import ConfigError

_SIGNS = {"added": "+", "removed": "-", "rerouted": ">", "changed": "~"}


def diff(old: Path, new: Path, out: TextIO, err: TextIO, *, as_json: bool) -> int:
    """Write the changes; 0 whether or not there are any, 78 if a file cannot be served."""
    registries = []
    for path in (old, new):
        try:
            registries.append(registry_of(path))
        except ConfigError as error:
            return refused(path, error, err)
    found = changes(*registries)
    out.write(_json(found) if as_json else _text(found))
    return 0


def _json(found: Sequence[Change]) -> str:
    return msgspec.json.encode({"changes": found}).decode() + "\n"


def _text(found: Sequence[Change]) -> str:
    if not found:
        return "nothing changes for callers\n"
    return "".join(f"{_SIGNS[change.kind]} {_line(change)}\n" for change in found)


def _line(change: Change) -> str:
    subject = f"{change.what} {change.name}"
    if change.kind in ("added", "removed"):
        return f"{subject} {change.kind}"
    field = f" {change.field}" if change.field else ""
    return f"{subject} {change.kind}{field}: {_shown(change.old)} -> {_shown(change.new)}"


def _shown(value: object) -> str:
    return "(none)" if value is None else msgspec.json.encode(value).decode()
