"""Decoded JSON as structs, strictly, with every mistake in it and not only the first.

msgspec stops at its first error, so structs, tuples and dictionaries are taken apart here, and
msgspec judges what has no parts. What is wrong is left out: a member that has a default gets it,
an item becomes None. So the rest can still be checked against each other, and `Problems`
remembers that the result must not be used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin

import msgspec
from msgspec import Meta

from proxy.config.problems import Path, Problems
from proxy.config.schema import Block, EnvSecret, FileSecret, Secret, SecretUnavailable
from proxy.config.wording import hint, listed, quoted, unsupported

_S = TypeVar("_S", bound=msgspec.Struct)
_T = TypeVar("_T")


# What msgspec calls the things of JSON, and what people do.
_MSGSPEC_WORD = re.compile(r"`(\w+)`")
_WORDS = {
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "str": "a string",
    "null": "null",
}


class _Wrong:
    """Stands for a value that was reported."""


_WRONG = _Wrong()


def decode_strict(value: object, struct: type[_S], path: Path, problems: Problems) -> _S | None:
    """The value, `msgspec.Raw` or decoded, as this struct; None if anything in it is wrong.

    Every mistake is added to `problems`; `path` is where the value stands in the file. Unknown
    keys are mistakes if the struct forbids them, and warnings if they are in its `LATER`. Null is
    no mistake where a default can take its place. A ValueError of its `__post_init__` is a mistake
    of the whole.
    """
    before = len(problems)
    decoded = decode_partly(value, struct, path, problems)
    return decoded if len(problems) == before else None


def decode_partly(value: object, struct: type[_S], path: Path, problems: Problems) -> _S | None:
    """As `decode_strict`, but gives what there is; None if a required member is missing or wrong.

    Items of tuples may then be None, whatever their type says: go through them with `items_of`.
    """
    if isinstance(value, msgspec.Raw):
        value = msgspec.json.decode(value)
    decoded = _struct(value, struct, path, problems)
    return None if isinstance(decoded, _Wrong) else decoded


def items_of(items: Sequence[_T | None], path: Path) -> Iterator[tuple[Path, _T]]:
    """The items that could be decoded, each with its own path."""
    return (((*path, index), item) for index, item in enumerate(items) if item is not None)


def _decode(value: object, kind: object, path: Path, problems: Problems) -> object:
    """The value as this type; `_WRONG` after reporting why it is none."""
    kind = _narrowed(kind, value)
    bare, bounds = _without_bounds(kind)
    if structs := _tagged(bare):
        return _union(value, structs, path, problems)
    if bare is Secret:
        return _secret(value, path, problems)
    if isinstance(bare, type) and issubclass(bare, msgspec.Struct):
        return _struct(value, bare, path, problems)
    if get_origin(bare) is tuple:
        return _tuple(value, get_args(bare)[0], bounds, path, problems)
    if get_origin(bare) is dict:
        return _dict(value, get_args(bare)[1], path, problems)
    return _leaf(value, kind, path, problems)


def _narrowed(kind: object, value: object) -> object:
    """Of `T | None`, the one that the value should be; any other type as it is."""
    bare, _ = _without_bounds(kind)
    if not _is_union(bare) or NoneType not in get_args(bare):
        return kind
    if value is None:
        return NoneType
    others = [member for member in get_args(bare) if member is not NoneType]
    return others[0] if len(others) == 1 else kind


def _is_union(kind: object) -> bool:
    return get_origin(kind) in (Union, UnionType)


def _tagged(kind: object) -> Mapping[str, type[msgspec.Struct]]:
    """The structs of a tagged union, by their tags; empty for any other type."""
    members = get_args(kind) if _is_union(kind) else ()
    structs = [each for each in members if isinstance(each, type) and issubclass(each, Block)]
    return {str(struct.__struct_config__.tag): struct for struct in structs}


def _union(
    value: object, structs: Mapping[str, type[msgspec.Struct]], path: Path, problems: Problems
) -> object:
    """One of several structs, the one that the value's tag names."""
    if not isinstance(value, dict):
        return _leaf(value, dict, path, problems)
    field = str(next(iter(structs.values())).__struct_config__.tag_field)
    tag = value.get(field)
    if isinstance(tag, str) and tag in structs:
        rest = {key: member for key, member in value.items() if key != field}
        return _struct(rest, structs[tag], path, problems)
    if field in value:
        problems.add((*path, field), unsupported(tag, structs))
    else:
        problems.add(path, f"{quoted(field)} is missing; known: {listed(structs)}")
    return _WRONG


def _without_bounds(kind: object) -> tuple[object, Sequence[object]]:
    if get_origin(kind) is Annotated:
        bare, *bounds = get_args(kind)
        return bare, bounds
    return kind, ()


def _struct(value: object, struct: type[_S], path: Path, problems: Problems) -> _S | _Wrong:
    if not isinstance(value, dict):
        _leaf(value, dict, path, problems)  # says what it is instead
        return _WRONG
    fields = _fields(struct)
    _report_unknown(value, struct, path, problems)
    members: dict[str, object] = {}
    complete = True
    for key, field in fields.items():
        member: object = _WRONG
        if key in value and not _says_nothing(value[key], field):
            member = _decode(value[key], field.kind, (*path, key), problems)
        elif field.is_required:
            problems.add(path, f"{quoted(key)} is missing")
        if not isinstance(member, _Wrong):
            members[field.name] = member
        elif field.is_required:
            complete = False
    return _built(struct, members, path, problems) if complete else _WRONG


def _says_nothing(value: object, field: _Field) -> bool:
    """Whether the value is a null that stands for no value, as it does in a site configuration."""
    may_be_null = field.is_required or _narrowed(field.kind, None) is NoneType
    return value is None and not may_be_null


def _built(
    struct: type[_S], members: Mapping[str, object], path: Path, problems: Problems
) -> _S | _Wrong:
    try:
        return struct(**members)
    except ValueError as error:
        problems.add(path, str(error))
        return _WRONG


class _Field(NamedTuple):
    name: str
    kind: object
    is_required: bool


@cache  # looking into a struct takes longer than decoding one
def _fields(struct: type[msgspec.Struct]) -> Mapping[str, _Field]:
    return {
        field.encode_name: _Field(field.name, field.type, field.required)
        for field in msgspec.structs.fields(struct)
    }


def _report_unknown(
    members: Mapping[str, object], struct: type[msgspec.Struct], path: Path, problems: Problems
) -> None:
    known = _fields(struct)
    later: frozenset[str] = getattr(struct, "LATER", frozenset())
    for key in members:
        if key in later:
            problems.warn((*path, key), "ignored: not supported by this version", at_key=True)
        elif key not in known and struct.__struct_config__.forbid_unknown_fields:
            if problems.is_full:
                return
            text = f"unknown key {quoted(key)}; {hint(key, known)}"
            problems.add((*path, key), text, at_key=True)


def _tuple(
    value: object, kind: object, bounds: Sequence[object], path: Path, problems: Problems
) -> object:
    """A `tuple[T, ...]`; items that are wrong are None."""
    if not isinstance(value, list):
        return _leaf(value, list, path, problems)
    least = max((bound.min_length or 0 for bound in bounds if isinstance(bound, Meta)), default=0)
    if len(value) < least:
        problems.add(path, f"expected at least {least} item{'s' if least > 1 else ''}")
        return _WRONG
    items = (_decode(item, kind, (*path, i), problems) for i, item in enumerate(value))
    return tuple(None if isinstance(item, _Wrong) else item for item in items)


def _dict(value: object, kind: object, path: Path, problems: Problems) -> object:
    """A `dict[str, T]`; members that are wrong are left out."""
    if not isinstance(value, dict):
        return _leaf(value, dict, path, problems)
    members = {key: _decode(value[key], kind, (*path, key), problems) for key in value}
    return {key: member for key, member in members.items() if not isinstance(member, _Wrong)}


def _leaf(value: object, kind: object, path: Path, problems: Problems) -> object:
    """A value that msgspec judges as a whole."""
    if kind is msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(value))
    bare, bounds = _without_bounds(kind)
    if type(value) is bare and not any(map(_is_limit, bounds)):
        return value  # as it would be; msgspec builds its checker anew at each call
    try:
        # msgspec takes any type form; its signature knows only classes.
        return msgspec.convert(value, cast("type[object]", kind))
    except msgspec.ValidationError as error:
        problems.add(path, _worded(str(error), kind))
        return _WRONG


def _is_limit(bound: object) -> bool:
    """Whether there are values that it refuses; a description refuses none."""
    limits = ("gt", "ge", "lt", "le", "multiple_of", "pattern", "min_length", "max_length")
    return any(getattr(bound, limit, None) is not None for limit in limits)


def _worded(message: str, kind: object) -> str:
    """What msgspec says, in our words: without the path, which is the problem's own."""
    bare, _ = _without_bounds(kind)
    if get_origin(bare) is Literal:
        return f"expected {' or '.join(quoted(str(choice)) for choice in get_args(bare))}"
    text = message.partition(" - at `")[0]
    text = _MSGSPEC_WORD.sub(lambda word: _WORDS.get(word[1], word[0]), text)
    return text[:1].lower() + text[1:]


def _secret(value: object, path: Path, problems: Problems) -> Secret | _Wrong:
    """A text, or what the place that is named holds."""
    try:
        return Secret(_one_line(_secret_text(value, problems)))
    except SecretUnavailable as error:
        problems.add(path, str(error))
        return _WRONG


def _secret_text(value: object, problems: Problems) -> str:
    read = problems.source.read_secret
    match value:
        case str(text):
            return text
        case {"env": str(name), **others} if not others:
            return read(EnvSecret(name))
        case {"file": str(name), **others} if not others:
            return read(FileSecret(name))
    raise SecretUnavailable('expected a text, {"env": "NAME"} or {"file": "/path"}')


def _one_line(text: str) -> str:
    # It goes into a header, where a line break would begin another one.
    if any(character < " " or character == "\x7f" for character in text):
        raise SecretUnavailable("a secret must be one line without control characters")
    return text
