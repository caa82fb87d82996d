"""The file's bytes as a JSON document, with the place of everything in it."""

from __future__ import annotations

import re

from parsers.jsonc import JSONCError, Positions, loads
from proxy.config.problems import ConfigError, Problem

# Ten thousand models are some 2 MB. A wrong path must not cost minutes and gigabytes.
MAX_CONFIG_BYTES = 16 * 1024 * 1024

_LINE_END = re.compile(rb"\r\n?|\n")


def parsed(data: bytes) -> tuple[object, Positions]:
    """The document, and where its parts stand. Raises ConfigError."""
    text = _text(data)
    try:
        return loads(text), Positions(text)
    except JSONCError as error:
        message = str(error).removesuffix(f" at line {error.line}, column {error.column}")
        raise _unreadable(message, error.line, error.column) from None


def _text(data: bytes) -> str:
    if len(data) > MAX_CONFIG_BYTES:
        raise _unreadable(f"larger than {MAX_CONFIG_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        start = error.start
    else:
        if text.startswith("\ufeff"):
            raise _unreadable("begins with a byte order mark; save it as UTF-8 without one")
        return text
    # Not raised from the error above, which holds the whole file.
    lines = _LINE_END.split(data[:start])
    raise _unreadable("not UTF-8", len(lines), len(lines[-1].decode()) + 1)


def _unreadable(message: str, line: int = 1, column: int = 1) -> ConfigError:
    return ConfigError((Problem("", line, column, message),))
