"""Writes `docs/cli.md`: `python -m proxy.manual docs/cli.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from proxy.cli import parser
from proxy.commands.cli_reference import page


def manual() -> str:
    """The page of the command line."""
    return page(parser())


def main(path: str) -> None:
    """Write it."""
    Path(path).write_text(manual(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
