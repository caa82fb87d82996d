"""`penstock check`: whether a file would be served, with everything that is wrong or odd in it."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import msgspec

from proxy.commands.files import EX_CONFIG, registry_of, told
from proxy.config.problems import ConfigError, Problem


class _Verdict(msgspec.Struct, frozen=True):
    ok: bool
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def check(path: Path, out: TextIO, *, as_json: bool) -> int:
    """Write the verdict; 0 for a file that can be served, else 78. Warnings do not count."""
    verdict = _verdict(path)
    if as_json:
        out.write(msgspec.json.encode(verdict).decode() + "\n")
    else:
        told(path, verdict.problems, "error", out)
        told(path, verdict.warnings, "warning", out)
        if verdict.ok:
            out.write(f"{path}: ok\n")
    return 0 if verdict.ok else EX_CONFIG


def _verdict(path: Path) -> _Verdict:
    try:
        config = registry_of(path).config
    except ConfigError as error:
        return _Verdict(ok=False, problems=error.problems, warnings=())
    return _Verdict(ok=True, problems=(), warnings=config.warnings)
