"""Who may use penstock: the keys of the file, and the models each of them opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from proxy.config.decoder import items_of
from proxy.config.modelref import ModelRef, Names
from proxy.config.problems import Path, Problems
from proxy.config.schema import ClientKey, Secret
from proxy.config.wording import hint, quoted


class Client(msgspec.Struct, frozen=True):
    """One client that may use penstock; `models` is None where it may use all."""

    name: str
    key: Secret
    models: frozenset[ModelRef] | None = None
    priority: int = 0


def clients_of(keys: Sequence[ClientKey], names: Names, problems: Problems) -> tuple[Client, ...]:
    """The clients; what is wrong with them is added to the problems."""
    owners: dict[str, str] = {}  # by key
    clients: dict[str, Client] = {}
    for path, client in items_of(keys, ("penstock", "clients")):
        if client.name in clients:
            problems.add((*path, "name"), f"client {quoted(client.name)} specified twice")
        _check_key(client, owners, (*path, "key"), problems)
        models = _allowed(client.models, names, (*path, "models"), problems)
        clients[client.name] = Client(client.name, client.key, models, client.priority)
        owners.setdefault(client.key.reveal(), client.name)
    return tuple(clients.values())


def _check_key(
    client: ClientKey, owners: Mapping[str, str], path: Path, problems: Problems
) -> None:
    key = client.key.reveal()
    if not key or key != key.strip():
        problems.add(path, "a key must not be empty, nor begin or end with a space")
    elif key in owners:
        problems.add(path, f"client {quoted(owners[key])} has the same key")


def _allowed(
    models: Sequence[str] | None, names: Names, path: Path, problems: Problems
) -> frozenset[ModelRef] | None:
    """The models that these spellings mean."""
    if models is None:
        return None
    refs = []
    for place, model in items_of(models, path):
        if model in names.refs:
            refs.append(names.refs[model])
        else:
            text = f"unknown model {quoted(model)}; {hint(model, names.refs)}"
            problems.add(place, text)
    return frozenset(refs)
