"""What the command line does with a configuration file besides serving it."""

from __future__ import annotations

from proxy.commands.check import check
from proxy.commands.convert import convert
from proxy.commands.diff import diff
from proxy.commands.resolve import resolve
from proxy.commands.schema import schema
from proxy.commands.show import show

__all__ = ["check", "convert", "diff", "resolve", "schema", "show"]
