"""`penstock resolve`: which model a name means, by the very function that requests go through."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TextIO, TypeAlias

import msgspec

from parsers.chat import Operation
from parsers.dialects.base import RequestHead
from proxy.api import sourcegraph
from proxy.commands.files import refused, registry_of
from proxy.config.problems import ConfigError
from proxy.errors import RequestFailed, status_of

Feature: TypeAlias = Literal["chat", "code"]
FEATURES: tuple[Feature, ...] = ("chat", "code")
_OPERATIONS = {"chat": Operation.CHAT, "code": Operation.COMPLETION}


def resolve(
    path: Path, name: str, out: TextIO, err: TextIO, *, feature: Feature, fast: bool
) -> int:
    """Write one JSON object, the model or the error; 0 if there is a model, else 1."""
    try:
        registry = registry_of(path)
    except ConfigError as error:
        return refused(path, error, err)
    head = RequestHead(model=name, fast=fast)
    found: dict[str, object]
    try:
        model = sourcegraph.resolve(registry, head, operation=_OPERATIONS[feature])
    except RequestFailed as failure:
        found = {"error": failure.fault.message, "status": status_of(failure.fault)}
    else:
        found = {"modelRef": model.label}
    out.write(msgspec.json.encode(found).decode() + "\n")
    return 1 if "error" in found else 0
