"""A configuration file as the server would read it, and what is said of one that it refuses."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from proxy.config.problems import ConfigError, Problem
from proxy.endpoints import LiveState
from proxy.registry import Registry, build

EX_CONFIG = 78  # sysexits.h: a bad configuration


def content_of(path: Path) -> bytes:
    """The file's bytes. Raises ConfigError."""
    try:
        return path.read_bytes()
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ConfigError((Problem("", 1, 1, f"cannot be read: {reason}"),)) from error


def registry_of(path: Path) -> Registry:
    """What would serve from this file; no connection is made. Raises ConfigError."""
    return build(content_of(path), 1, LiveState())


def told(path: Path, problems: Iterable[Problem], kind: str, to: TextIO) -> None:
    """Write the problems as a compiler does: file, line, column, what."""
    for problem in problems:
        place = f"{path}:{problem.line}:{problem.column}"
        what = ": ".join(part for part in (problem.path, problem.message) if part)
        to.write(f"{place}: {kind}: {what}\n")


def refused(path: Path, error: ConfigError, to: TextIO) -> int:
    """Tell of every problem; the exit status."""
    told(path, error.problems, "error", to)
    return EX_CONFIG
