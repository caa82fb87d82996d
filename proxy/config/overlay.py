"""One struct over another: what the upper says holds, and where it is silent the lower does."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TypeVar, cast

import msgspec
from msgspec.structs import fields, replace

_S = TypeVar("_S", bound=msgspec.Struct)


def overlay(upper: _S, lower: msgspec.Struct) -> _S:
    """The upper with the lower's members wherever the upper's are their defaults.

    A struct that is always there is merged member by member; one that may be absent is replaced
    whole, as is everything else (spec 1.12). Members that the lower has no name for stay.
    """
    defaults = _defaults(type(upper))
    changes = {
        name: _member(getattr(upper, name), getattr(lower, name), defaults[name])
        for name in lower.__struct_fields__
        if name in defaults
    }
    return replace(upper, **changes)


def _member(upper: object, lower: object, default: object) -> object:
    if isinstance(default, msgspec.Struct) and isinstance(upper, msgspec.Struct):
        return overlay(upper, cast("msgspec.Struct", lower))
    return lower if upper == default else upper


@cache
def _defaults(struct: type[msgspec.Struct]) -> Mapping[str, object]:
    """The default of each member; of one that must be given a mark that no value equals."""
    return {field.name: field.default for field in fields(struct)}
