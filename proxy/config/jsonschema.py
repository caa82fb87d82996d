"""The JSON Schema of the file, made from the structs: for editors, and for the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from proxy.config.schema import PROVIDER_KINDS, EnvSecret, FileSecret, Secret, SiteConfig

_Schema: TypeAlias = dict[str, Any]  # JSON of any shape, and so typed by msgspec
_DEFINITIONS = "#/$defs/"


def json_schema(settings: Mapping[str, type[msgspec.Struct]] | None = None) -> bytes:
    """The schema (draft 2020-12) of a configuration file, as indented JSON.

    `settings` are the structs of the providers' serverSideConfig by its `type`; without them only
    the `type` is described. Not every file that is valid is one that `load` takes, since a schema
    cannot compare one key with another.
    """
    structs = [SiteConfig, *(settings or {}).values()]
    (site, *references), definitions = msgspec.json.schema_components(structs, schema_hook=_hook)
    kinds = zip(settings or (), (_definition(ref, definitions) for ref in references), strict=True)
    _require(definitions["SiteConfig"], "modelConfiguration")
    provider = definitions["ProviderOverride"]
    server = provider["properties"]["serverSideConfig"]
    provider["properties"]["serverSideConfig"] = {
        "description": server["description"],
        **_server_side([_kind(kind, schema) for kind, schema in kinds]),
    }
    _require(provider, "serverSideConfig")
    dialect = "https://json-schema.org/draft/2020-12/schema"
    schema = {"$schema": dialect, "title": "penstock configuration", **site, "$defs": definitions}
    return msgspec.json.format(msgspec.json.encode(schema)) + b"\n"


def _hook(kind: type) -> _Schema:
    if kind is not Secret:
        raise NotImplementedError
    places, definitions = msgspec.json.schema_components([EnvSecret, FileSecret])
    return {"anyOf": [{"type": "string"}, *(_definition(place, definitions) for place in places)]}


def _definition(reference: _Schema, definitions: Mapping[str, Any]) -> _Schema:  # Any: as above
    schema: _Schema = definitions[reference["$ref"].removeprefix(_DEFINITIONS)]
    return schema


def _require(schema: _Schema, key: str) -> None:
    """The structs take its absence as well, to say more of it than that it is missing."""
    schema["required"] = [*schema.get("required", ()), key]
    member = schema["properties"][key]
    member.pop("default", None)
    if "anyOf" in member:
        member.update(member.pop("anyOf")[0])


def _kind(kind: str, settings: _Schema) -> _Schema:
    return {
        **settings,
        "title": kind,
        "properties": {"type": {"const": kind}, **settings["properties"]},
        "required": ["type", *settings.get("required", ())],
    }


def _server_side(kinds: list[_Schema]) -> _Schema:
    if kinds:
        return {"oneOf": kinds}
    properties = {"type": {"enum": list(PROVIDER_KINDS)}}
    return {"type": "object", "properties": properties, "required": ["type"]}
