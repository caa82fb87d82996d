"""What the command line does besides serving."""

from __future__ import annotations

from proxy.commands.check import check
from proxy.commands.convert import convert
from proxy.commands.diff import diff
from proxy.commands.doctor import Options as DoctorOptions
from proxy.commands.doctor import doctor
from proxy.commands.drain import drain
from proxy.commands.resolve import resolve
from proxy.commands.rules import rules
from proxy.commands.schema import schema
from proxy.commands.show import show

__all__ = [
    "DoctorOptions",
    "check",
    "convert",
    "diff",
    "doctor",
    "drain",
    "resolve",
    "rules",
    "schema",
    "show",
]
