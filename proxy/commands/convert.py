"""`penstock convert`: a `completions` block as the `modelConfiguration` that it means."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from proxy.commands.files import content_of, refused
from proxy.commands.plain import indented, plain
from proxy.config.load import converted
from proxy.config.problems import ConfigError
from proxy.config.schema import Secret


def convert(path: Path, out: TextIO, err: TextIO) -> int:
    """Write the newer block as JSON, with tokens and ARNs as they stand in the file."""
    try:
        block = converted(content_of(path))
    except ConfigError as error:
        return refused(path, error, err)
    # `sourcegraph` is null by default; said aloud, as every published example does.
    whole = {"sourcegraph": None, **plain(block, Secret.reveal)}
    out.write(indented({"modelConfiguration": whole}))
    return 0
