"""`penstock schema`: every key of the file, for editors or for people."""

from __future__ import annotations

from typing import BinaryIO

from proxy.commands.reference import reference
from proxy.config.jsonschema import json_schema
from proxy.providers import PROVIDERS


def schema(out: BinaryIO, *, markdown: bool) -> int:
    """Write the JSON Schema, or the same as a page; the exit status."""
    found = json_schema({name: kind.settings for name, kind in PROVIDERS.items()})
    out.write(reference(found).encode() if markdown else found)
    return 0
