"""What differs between two configurations for those who call: data, for `diff` to write.

Registries are compared, not files: what makes no difference to what is served is no difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import msgspec

from proxy.commands.plain import SHOWN, Json, plain
from proxy.config.load import Config
from proxy.config.modelref import Defaults, Names
from proxy.registry import Client, Model, Registry

# Lists of which the order means nothing.
_SETS = frozenset({"capabilities", "stopSequences"})


class Change(msgspec.Struct, frozen=True, omit_defaults=True):
    """One difference. `rerouted` is a model that is called elsewhere, or in another way."""

    kind: Literal["added", "removed", "rerouted", "changed"]
    what: Literal["model", "name", "default", "client", "setting"]
    name: str
    field: str = ""
    old: object = None
    new: object = None


def changes(old: Registry, new: Registry) -> tuple[Change, ...]:
    """Every difference, models first."""
    return (
        *_models(old.models, new.models),
        *_defaults(old.config.defaults, new.config.defaults),
        *_names(old.config.names, new.config.names),
        *_clients(_by_name(old), _by_name(new)),
        *_settings(old.config, new.config),
    )


def _models(old: Mapping[str, Model], new: Mapping[str, Model]) -> Iterator[Change]:
    yield from (Change("removed", "model", ref) for ref in old if ref not in new)
    yield from (Change("added", "model", ref) for ref in new if ref not in old)
    for ref in old:
        if ref in new:
            yield from _of("rerouted", "model", ref, _route(old[ref]), _route(new[ref]))
            if _says_otherwise(old[ref], new[ref]):
                yield Change("rerouted", "model", ref, "headers", SHOWN, SHOWN)
            yield from _of("changed", "model", ref, _facts(old[ref]), _facts(new[ref]))


def _says_otherwise(old: Model, new: Model) -> bool:
    """Whether the same endpoints are sent other headers or keys, or a name that is secret."""
    if _route(old) != _route(new):
        return False
    is_renamed = old.upstream_name != new.upstream_name
    return is_renamed or old.provider.heads != new.provider.heads


def _route(model: Model) -> Json:
    """Where and how a model is called, as far as it may be shown."""
    provider = model.provider
    return {
        "provider": provider.kind,
        "endpoints": sorted(endpoint.url for endpoint in provider.endpoints),
        "upstreamName": SHOWN if model.config.has_secret_name else model.upstream_name,
        "usage": provider.asks_usage,
        "routes": provider.paths,
    }


def _facts(model: Model) -> Json:
    """What clients are told of a model and what limits it."""
    found = plain(model.config.settings)
    server = found.pop("serverSideConfig", {})
    return {**dict(_leaves(found)), **dict(_leaves({"serverSideConfig": server}))}


def _leaves(value: Json, path: str = "") -> Iterator[tuple[str, object]]:
    """The members of an object that are none themselves, by dotted path."""
    for key, member in value.items():
        where = f"{path}.{key}" if path else key
        if isinstance(member, dict):
            yield from _leaves(member, where)
        elif isinstance(member, list) and key in _SETS:
            yield where, sorted(member)
        else:
            yield where, member


def _of(
    kind: Literal["rerouted", "changed"],
    what: Literal["model", "client", "default", "setting"],
    name: str,
    old: Json,
    new: Json,
) -> Iterator[Change]:
    """The members that differ."""
    for field in {**old, **new}:
        if old.get(field) != new.get(field):
            yield Change(kind, what, name, field, old.get(field), new.get(field))


def _defaults(old: Defaults, new: Defaults) -> Iterator[Change]:
    for name, before, after in (
        ("chat", old.chat, new.chat),
        ("fastChat", old.fast_chat, new.fast_chat),
        ("codeCompletion", old.code_completion, new.code_completion),
    ):
        if before != after:
            shown = (None if ref is None else str(ref) for ref in (before, after))
            yield Change("changed", "default", name, "", *shown)


def _names(old: Names, new: Names) -> Iterator[Change]:
    """Short names that meant one model and mean another; both have to be there in both."""
    for spelling, ref in old.refs.items():
        after = new.refs.get(spelling)
        if after is not None and after != ref and not spelling.startswith("/"):
            yield Change("changed", "name", spelling, "", str(ref), str(after))


def _by_name(registry: Registry) -> dict[str, Client]:
    return {client.name: client for client in registry.clients.values()}


def _clients(old: Mapping[str, Client], new: Mapping[str, Client]) -> Iterator[Change]:
    yield from (Change("removed", "client", name) for name in old if name not in new)
    yield from (Change("added", "client", name) for name in new if name not in old)
    for name in old:
        if name in new:
            before, after = old[name], new[name]
            if before.key_digest != after.key_digest:
                yield Change("changed", "client", name, "key", SHOWN, SHOWN)
            yield from _of("changed", "client", name, _rights(before), _rights(after))


def _rights(client: Client) -> Json:
    """What a client may do, and when its turn is."""
    return {"models": _sorted(client.models), "priority": client.priority}


def _sorted(models: frozenset[str] | None) -> list[str] | str:
    return "all" if models is None else sorted(models)


def _settings(old: Config, new: Config) -> Iterator[Change]:
    before, after = dict(_leaves(_switches(old))), dict(_leaves(_switches(new)))
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            yield Change("changed", "setting", name, "", before.get(name), after.get(name))


def _switches(config: Config) -> Json:
    """What the file says of all requests."""
    penstock = plain(config.site.penstock)
    penstock.pop("clients", None)
    scoped = {place: penstock.pop(place, {}) for place in ("providers", "models")}
    return {
        **penstock,
        "rules": scoped,  # of traffic, where they are not those of all
        "codyEnabled": config.serves_cody,
        "contextFilters": config.wants_recent_clients,
        "configFeatures": plain(config.features),
        "systemPreInstruction": config.system_pre_instruction,
        "smartContextWindow": config.smart_context_window,
        "disableClientConfigAPI": config.disables_client_config,
        "providers": {each.id: each.display_name for each in config.providers},
    }
