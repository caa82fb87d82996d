"""The JSON Schema of the file as a page of Markdown: `docs/configuration.md`."""

from __future__ import annotations

from collections.abc import Iterator
from inspect import cleandoc
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import asdict

from proxy.config.jsonschema import SECRET
from proxy.config.rules import DEFAULTS

_Schema: TypeAlias = dict[str, Any]  # JSON of any shape

_HEAD = """\
# Configuration

<!-- Made by `make docs` from proxy/config/schema and proxy/providers. Change those. -->

The file is JSON with comments and trailing commas, in the form of a Sourcegraph site
configuration. `penstock check FILE` says everything that is wrong with one, `penstock show FILE`
what it comes to, and `penstock schema` prints the JSON Schema of what follows. What `show` prints
has `***` for every secret: put them back before you serve it, since no two clients may have the
same key.

A secret is a text, `{"env": "NAME"}` or `{"file": "/path"}`. Files are read again at each reload,
and looked at every ten seconds.
"""

_IMPLIED: dict[str, _Schema] = {
    type(each).__name__: msgspec.json.decode(msgspec.json.encode(each))
    for each in asdict(DEFAULTS).values()
    if isinstance(each, msgspec.Struct)
}


def reference(schema: bytes) -> str:
    """The page: a section for each object, a row for each key."""
    whole: _Schema = msgspec.json.decode(schema)
    sections = (_section(name, each) for name, each in _objects(whole))
    return "\n".join((_HEAD, *sections))


def _objects(whole: _Schema) -> Iterator[tuple[str, _Schema]]:
    """The objects in the order in which a reader meets them, each once."""
    definitions: _Schema = whole["$defs"]
    seen: set[str] = set()
    waiting = [_target(whole)]
    while waiting:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        found = definitions[name]
        yield name, found
        waiting.extend(_mentioned(found))


def _target(reference: _Schema) -> str:
    return str(reference["$ref"]).rpartition("/")[2]


def _mentioned(value: object) -> Iterator[str]:
    """The names of the objects that a schema refers to."""
    if isinstance(value, dict):
        if "$ref" in value:
            yield _target(value)
        for member in value.values():
            yield from _mentioned(member)
    elif isinstance(value, list):
        for member in value:
            yield from _mentioned(member)


def _section(name: str, schema: _Schema) -> str:
    lines = [f"## {name}", "", cleandoc(schema.get("description", "")), ""]
    tag = schema["properties"].get("type")
    if tag is not None:
        lines += [f'`"type": "{tag.get("const") or tag["enum"][0]}"`', ""]
    implied = _IMPLIED.get(name, {})
    rows = [
        _row(key, _with_default(each, implied.get(key)), schema)
        for key, each in schema["properties"].items()
        if each is not tag
    ]
    if rows:
        lines += ["| key | value | default | |", "|---|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _with_default(member: _Schema, implied: object) -> _Schema:
    """A key that a narrower place may leave to a wider one has its default elsewhere."""
    return member if member.get("default") is not None else {**member, "default": implied}


def _row(key: str, member: _Schema, schema: _Schema) -> str:
    default = "required" if key in schema.get("required", ()) else _default(member)
    text = str(member.get("description", "")).replace("|", "\\|").replace("<", "&lt;")
    return f"| `{key}` | {_kind(member)} | {default} | {text} |"


def _default(member: _Schema) -> str:
    default = member.get("default")
    if default in (None, "", [], {}) or isinstance(default, dict):
        return ""
    return f"`{msgspec.json.encode(default).decode()}`"


def _kind(schema: _Schema) -> str:
    """What may stand there, in a few words."""
    if "$ref" in schema:
        name = _target(schema)
        return f"[{name}](#{_anchor(name)})"
    if schema.get("title") == SECRET:
        return SECRET
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices is not None:
        return _either([_kind(each) for each in choices])
    if "enum" in schema:
        return _either([f"`{msgspec.json.encode(each).decode()}`" for each in schema["enum"]])
    return _plain_kind(schema)


def _plain_kind(schema: _Schema) -> str:
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    if "additionalProperties" in schema and "properties" not in schema:
        return f"object of {_kind(schema['additionalProperties'])}"
    return str(schema.get("type", "any"))


def _either(kinds: list[str]) -> str:
    """The kinds, but for null: it is the same as leaving the key out."""
    return " or ".join(kind for kind in dict.fromkeys(kinds) if kind not in ("null", "`null`"))


def _anchor(name: str) -> str:
    """Where forges put the link of a heading."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or letter == "-")
