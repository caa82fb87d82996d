"""Who can talk to whom, and what is lost on the way: tables of `docs/dialects.md` and the README.

They are made from the code by `make docs`: the providers are asked for their routes and the
dialects for their words, so nothing here says what is true, only how it is shown.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

from parsers.chat import Operation
from parsers.dialects.anthropic import ANTHROPIC, ANTHROPIC_TOKEN_COUNT
from parsers.dialects.base import ClientDialect, UpstreamDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.openai.beside import HINTS, TERMS
from parsers.dialects.passthrough import DETOKENIZE, EMBEDDINGS, RERANK, TOKENIZE
from parsers.dialects.policy import FIELDS
from parsers.dialects.responses import RESPONSES
from parsers.dialects.sourcegraph import dialect_for
from parsers.dialects.tgi import TGI, TGI_COMPAT
from proxy.endpoints import LiveState
from proxy.providers import PROVIDERS
from proxy.providers.base import Provider
from proxy.registry import build


class Client(msgspec.Struct, frozen=True):
    """Routes that clients call, and the dialect that is spoken there."""

    paths: tuple[str, ...]
    dialect: ClientDialect
    relays: bool = True  # where a server speaks it too, its bytes are the answer
    translates: bool = True


CODY_CHAT = dialect_for(Operation.CHAT, None)
CODY_CODE = dialect_for(Operation.COMPLETION, None)

# Each route on which a model can be asked; a test compares them with those of the listener. Those
# under `/models/{ref}` are the same again.
CLIENTS = (
    Client(("/v1/chat/completions",), OPENAI_CHAT),
    Client(("/v1/completions",), OPENAI_COMPLETIONS),
    Client(("/v1/responses",), RESPONSES),
    Client(("/v1/messages",), ANTHROPIC),
    Client(("/v1/messages/count_tokens",), ANTHROPIC_TOKEN_COUNT, translates=False),
    Client(("/generate", "/generate_stream"), TGI),
    Client(("/",), TGI_COMPAT),
    Client(("/.api/completions/stream",), CODY_CHAT),
    Client(("/.api/completions/code",), CODY_CODE),
    Client(("/.api/llm/chat/completions",), OPENAI_CHAT, relays=False),
    Client(("/v1/embeddings",), EMBEDDINGS, translates=False),
    Client(("/v1/rerank", "/rerank"), RERANK, translates=False),
    Client(("/tokenize",), TOKENIZE, translates=False),
    Client(("/detokenize",), DETOKENIZE, translates=False),
)

# Where a server's route is not the clients' own: Cody's dialect is spoken by no server.
_PROBES = {Operation.CHAT: CODY_CHAT, Operation.COMPLETION: CODY_CODE}

_Settings: TypeAlias = dict[str, Any]  # JSON of any shape

# Any kind of provider can make something of one of these; none is ever called.
_URL = "https://bedrock-runtime.us-east-1.amazonaws.com"
_ENDPOINTS = [{"url": _URL}]
_SWITCHES = ("dialect", "responses")  # settings that choose other routes

_CHAT_ONLY = frozenset(
    {
        *("images", "parallel_tool_calls", "reasoning_effort", "response_format", "thinking"),
        *("tool_choice", "tools"),
    }
)
_TEXT_ONLY = frozenset({"echo", "suffix"})

EXACT, TRANSLATED, REFUSED = "exact", "translated", "\N{EN DASH}"


class Server(msgspec.Struct, frozen=True):
    """A kind of provider, by its `serverSideConfig`."""

    label: str
    provider: Provider

    def way_of(self, client: Client) -> str:
        """How a request of such a client is answered."""
        route = self.provider.route_for(client.dialect)
        if route is None:
            return REFUSED
        if client.relays and route.dialect.name == client.dialect.name:
            return EXACT
        return TRANSLATED if client.translates else REFUSED


def servers() -> list[Server]:
    """Every kind of provider, once for each setting that chooses its routes."""
    return [
        Server(_label(name, settings), _provider(name, settings))
        for name, kind in PROVIDERS.items()
        for settings in _variants(kind.settings)
    ]


def _variants(settings: type[Any]) -> Iterator[_Settings]:
    fields = {each.encode_name: each for each in _fields(settings)}
    place: _Settings = {"endpoints": _ENDPOINTS} if "endpoints" in fields else {"endpoint": _URL}
    yield place
    for name in _SWITCHES:
        for value in _choices(fields[name].type) if name in fields else ():
            if value != fields[name].default:
                yield {**place, name: value}


def _fields(settings: type[Any]) -> tuple[inspect.Field, ...]:
    described = inspect.type_info(settings)
    return described.fields if isinstance(described, inspect.StructType) else ()


def _choices(type_: inspect.Type) -> tuple[object, ...]:
    if isinstance(type_, inspect.Metadata):
        type_ = type_.type
    return tuple(type_.values) if isinstance(type_, inspect.LiteralType) else (True, False)


def _label(name: str, settings: _Settings) -> str:
    switched = {key: settings[key] for key in _SWITCHES if key in settings}
    words = [f'`"{key}": {msgspec.json.encode(value).decode()}`' for key, value in switched.items()]
    return ", ".join([f"`{name}`", *words])


def _provider(name: str, settings: _Settings) -> Provider:
    block = {
        "providerOverrides": [{"id": "p", "serverSideConfig": {"type": name, **settings}}],
        "modelOverrides": [{"modelRef": "p::v1::m"}],
    }
    config = msgspec.json.encode({"modelConfiguration": {"sourcegraph": None, **block}})
    return build(config, 1, LiveState()).models["p::v1::m"].provider


# Who can talk to whom

_Columns: TypeAlias = dict[tuple[str, ...], list[str]]


def matrix() -> str:
    """A row for each dialect of clients, a column for each way to be a server."""
    columns = _columns()
    heads = ["client calls", *("; ".join(labels) for labels in columns.values())]
    ways = zip(*columns, strict=True)
    return _table(
        heads, [[_paths(client), *way] for client, way in zip(CLIENTS, ways, strict=True)]
    )


def summary() -> str:
    """The same, shorter: a row for each way to be a server; what is not in it is translated."""
    rows = [
        ["; ".join(labels), _where(EXACT, ways), _where(REFUSED, ways)]
        for ways, labels in _columns().items()
    ]
    return _table(["server", "exact", "400"], rows)


def _columns() -> _Columns:
    """The servers that answer each client in the same way, by these ways."""
    columns: _Columns = {}
    for server in servers():
        ways = tuple(server.way_of(client) for client in CLIENTS)
        columns.setdefault(ways, []).append(server.label)
    return columns


def _where(wanted: str, ways: tuple[str, ...]) -> str:
    clients = [client for client, way in zip(CLIENTS, ways, strict=True) if way == wanted]
    return "everything" if len(clients) == len(CLIENTS) else ", ".join(map(_paths, clients))


def _paths(client: Client) -> str:
    return ", ".join(f"`{path}`" for path in client.paths)


# What is lost


def fields() -> str:
    """Every optional field of a request, and what happens where a server has no word for it."""
    rows = [
        [f"`{name}`", field.meaning, "dropped" if field.is_hint else "400"]
        for name, field in FIELDS.items()
    ]
    return _table(["field", "what it says", "where a server has no word for it"], rows)


def losses() -> str:
    """What each server has no word for: the hints that are dropped, the terms that are refused."""
    found: dict[tuple[str, ...], list[str]] = {}
    for server in servers():
        for operation, probe in _PROBES.items():
            route = server.provider.route_for(probe)
            if route is not None:
                words = (
                    f"{operation}",
                    f"`{route.dialect.name}`",
                    *_lost(route.dialect, operation),
                )
                found.setdefault(words, []).append(server.label)
    rows = [["; ".join(labels), *words] for words, labels in found.items()]
    return _table(["server", "work", "asked in", "dropped", "400"], rows)


def _lost(dialect: UpstreamDialect, operation: Operation) -> tuple[str, str]:
    meant = FIELDS.keys() - (_TEXT_ONLY if operation is Operation.CHAT else _CHAT_ONLY)
    lost = [name for name in FIELDS if name in meant - dialect.spoken]
    hints = [name for name in lost if FIELDS[name].is_hint]
    return _list(hints), _list(name for name in lost if name not in hints)


def words() -> str:
    """What clients call the fields, where it is not their name above."""
    rows = []
    for client in CLIENTS:
        said = {name: client.dialect.words.get(name) for name in FIELDS}
        names = [f"`{name}`: `{word}`" for name, word in said.items() if word is not None]
        if names:
            rows.append([_paths(client), ", ".join(names)])
    return _table(["client calls", "field: its word"], rows)


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- ", "|---")


# The pages

SECTIONS: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "matrix": matrix,
        "summary": summary,
        "fields": fields,
        "losses": losses,
        "words": words,
        "hints": lambda: _list(sorted(HINTS)) + "\n",
        "terms": lambda: _list(sorted(TERMS)) + "\n",
    }
)
_SECTION = re.compile(r"(<!-- (\w+):begin -->\n).*?(<!-- \2:end -->)", re.DOTALL)


def filled(page: str) -> str:
    """A page with its sections made anew: `<!-- name:begin -->` to `<!-- name:end -->`."""

    def made(section: re.Match[str]) -> str:
        make = SECTIONS.get(section[2])
        return section[0] if make is None else f"{section[1]}{make()}{section[3]}"

    return _SECTION.sub(made, page)


def main(paths: Iterable[str]) -> None:
    """Fill these pages."""
    for path in map(Path, paths):
        page = path.read_text(encoding="utf-8")
        path.write_text(filled(page), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
