"""The JSON Schema of the file, made from the structs: for editors, and for the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from proxy.config.schema import PROVIDER_KINDS, EnvSecret, FileSecret, Secret, SiteConfig

_Schema: TypeAlias = dict[str, Any]  # JSON of any shape, and so typed by msgspec
_DEFINITIONS = "#/$defs/"

SECRET = "a secret"  # noqa: S105 - the title of such a value in the schema
_OF_KIND = "The kind of these settings."


def json_schema(settings: Mapping[str, type[msgspec.Struct]] | None = None) -> bytes:
    """The schema (draft 2020-12) of a configuration file, as indented JSON.

    `settings` are the structs of the providers' serverSideConfig by its `type`; without them only
    the `type` is described. Not every file that is valid is one that `load` takes, since a schema
    cannot compare one key with another.
    """
    kinds = dict(settings or {})
    (site, *references), definitions = msgspec.json.schema_components(
        [SiteConfig, *kinds.values()], schema_hook=_hook
    )
    for kind, reference in zip(kinds, references, strict=True):
        definitions[kind] = _of_kind(kind, _definition(reference, definitions))
    for reference in references:
        definitions.pop(_name(reference), None)  # the kinds took their places
    _describe_tags(definitions)
    blocks = ("modelConfiguration", "completions")
    definitions["SiteConfig"]["anyOf"] = [
        {"required": [block], "properties": {block: {"type": "object"}}} for block in blocks
    ]
    _require_server_side(definitions["ProviderOverride"], kinds)
    dialect = "https://json-schema.org/draft/2020-12/schema"
    schema = {"$schema": dialect, "title": "penstock configuration", **site, "$defs": definitions}
    return msgspec.json.format(msgspec.json.encode(schema)) + b"\n"


def _hook(kind: type) -> _Schema:
    if kind is not Secret:
        raise NotImplementedError
    places, definitions = msgspec.json.schema_components([EnvSecret, FileSecret])
    forms = [{"type": "string"}, *(_definition(place, definitions) for place in places)]
    return {"title": SECRET, "anyOf": forms}


def _name(reference: _Schema) -> str:
    return str(reference["$ref"]).removeprefix(_DEFINITIONS)


def _definition(reference: _Schema, definitions: Mapping[str, Any]) -> _Schema:  # Any: as above
    schema: _Schema = definitions[_name(reference)]
    return schema


def _of_kind(kind: str, settings: _Schema) -> _Schema:
    return {
        **settings,
        "title": kind,
        "properties": {"type": {"const": kind}, **settings["properties"]},
        "required": ["type", *settings.get("required", ())],
    }


def _describe_tags(definitions: Mapping[str, _Schema]) -> None:
    for definition in definitions.values():
        if "type" in definition["properties"]:
            definition["properties"]["type"].setdefault("description", _OF_KIND)


def _require_server_side(provider: _Schema, kinds: Mapping[str, object]) -> None:
    """The struct takes its absence as well, to say more of it than that it is missing."""
    key = "serverSideConfig"
    provider["required"] = [*provider.get("required", ()), key]
    described = provider["properties"][key]["description"]
    provider["properties"][key] = {"description": described, **_server_side(kinds)}


def _server_side(kinds: Mapping[str, object]) -> _Schema:
    if kinds:
        return {"oneOf": [{"$ref": f"{_DEFINITIONS}{kind}"} for kind in kinds]}
    properties = {"type": {"enum": list(PROVIDER_KINDS)}}
    return {"type": "object", "properties": properties, "required": ["type"]}
