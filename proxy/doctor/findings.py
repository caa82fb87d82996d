"""What an examination comes to: findings, each with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from proxy.doctor.redaction import Redaction


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"  # it works, and not as well as it could; or it cannot be told
    FAILURE = "failure"  # requests will fail


class Finding(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one check found; `remedy` is what to do, empty where nothing is to be done."""

    check: str
    level: Level
    message: str
    remedy: str = ""


class Shown(msgspec.Struct, frozen=True):
    """One read of a stream: when it came, in seconds since the request, and how it began."""

    at: float
    size: int
    begins: str


class Examined(msgspec.Struct, frozen=True):
    """All that was found at one endpoint."""

    provider: str
    endpoint: str
    model: str | None
    engine: str | None
    findings: tuple[Finding, ...]
    wire: tuple[Shown, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether nothing failed."""
        return all(each.level is not Level.FAILURE for each in self.findings)


def ok(check: str, message: str) -> Finding:
    """Nothing to be done."""
    return Finding(check, Level.OK, message)


def warning(check: str, message: str, remedy: str) -> Finding:
    """Something to think about."""
    return Finding(check, Level.WARNING, message, remedy)


def failure(check: str, message: str, remedy: str) -> Finding:
    """Something to mend."""
    return Finding(check, Level.FAILURE, message, remedy)


def redacted(findings: Iterable[Finding], redaction: Redaction) -> tuple[Finding, ...]:
    """The findings without anything secret in their words."""
    return tuple(
        msgspec.structs.replace(
            each, message=redaction(each.message), remedy=redaction(each.remedy)
        )
        for each in findings
    )


def listed(names: Sequence[str], most: int = 5) -> str:
    """A few names for a sentence."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f'"{name}"' for name in names[:most]) + more
