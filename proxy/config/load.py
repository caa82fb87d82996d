"""Bytes -> `Config`: decoded strictly, secrets read, cross-checked, all problems at once."""

from __future__ import annotations

import errno
import os
import pathlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

import msgspec

from parsers.jsonc import JSONCError, Positions, loads
from proxy.config.decoder import decode_partly, items_of
from proxy.config.modelconfig import Merged, ModelConfig, ProviderConfig, merge
from proxy.config.modelref import Defaults, ModelRef, Names, spellings
from proxy.config.problems import ConfigError, Path, Problem, Problems, Source
from proxy.config.schema import (
    PROVIDER_KINDS,
    ClientKey,
    EnvSecret,
    FileSecret,
    Limits,
    Listen,
    ReadSecret,
    Secret,
    SecretUnavailable,
    SiteConfig,
    Timeouts,
)
from proxy.config.wording import hint, listed, nearest, quoted

# Ten thousand models are some 2 MB. A wrong path must not cost minutes and gigabytes.
MAX_CONFIG_BYTES = 16 * 1024 * 1024
MAX_SECRET_BYTES = 64 * 1024

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE_END = re.compile(rb"\r\n?|\n")

_BLOCKS = ("modelConfiguration", "penstock")
_TOP_LEVEL = (*_BLOCKS, "completions")
# No key of a site configuration is this like one of ours, but a slip of the pen is. It would
# leave the file without its client keys, for everybody to come in.
_SLIP_LIKENESS = 0.8


class Client(msgspec.Struct, frozen=True):
    """One client that may use penstock; `models` is None where it may use all."""

    name: str
    key: Secret
    models: frozenset[ModelRef] | None = None


class Config(msgspec.Struct, frozen=True):
    """What a file says and implies. No `repr` of it, or of anything in it, shows a secret."""

    providers: tuple[ProviderConfig, ...]
    models: tuple[ModelConfig, ...]
    defaults: Defaults
    names: Names
    clients: tuple[Client, ...]  # empty: nobody is asked for a key
    timeouts: Timeouts
    limits: Limits
    listen: Listen
    warnings: tuple[Problem, ...]
    source: Source

    def problems(self) -> Problems:
        """A new, empty collection, for what is found in the providers' settings."""
        return Problems(self.source)


# Adds what is wrong with a provider's settings to the problems.
CheckProvider: TypeAlias = Callable[[ProviderConfig, Problems], None]


def read_secret(ref: EnvSecret | FileSecret) -> str:
    """The secret in an environment variable or a file. Raises SecretUnavailable.

    A relative path is one from the working directory. Line breaks at a file's end are dropped.
    """
    return _from_environment(ref.env) if isinstance(ref, EnvSecret) else _from_file(ref.file)


def load(
    data: bytes,
    *,
    read_secret: ReadSecret = read_secret,
    kinds: Collection[str] = PROVIDER_KINDS,
    check_provider: CheckProvider | None = None,
) -> Config:
    """The configuration in a file's bytes. Raises ConfigError with everything that is wrong.

    `kinds` are the types of provider that the caller can build. `check_provider` looks into their
    settings, so that what is wrong there is reported together with the rest.
    """
    document, source = _parsed(_text(data), read_secret)
    problems = Problems(source)
    _check_keys(document, problems)
    site = decode_partly(document, SiteConfig, (), problems) or SiteConfig()
    merged = _merged(site, kinds, problems)
    if check_provider is not None:
        for provider in merged.providers:
            check_provider(provider, problems)
    names = spellings([model.ref for model in merged.models])
    _warn_of_ambiguity(names, merged.models, problems)
    _check_listen(site.penstock.listen, problems)
    clients = _clients(site.penstock.clients or (), names, problems)
    problems.raise_any()
    return Config(
        providers=merged.providers,
        models=merged.models,
        defaults=merged.defaults,
        names=names,
        clients=clients,
        timeouts=site.penstock.timeouts,
        limits=site.penstock.limits,
        listen=site.penstock.listen,
        warnings=problems.warnings,
        source=source,
    )


def _text(data: bytes) -> str:
    if len(data) > MAX_CONFIG_BYTES:
        raise _unreadable(f"larger than {MAX_CONFIG_BYTES} bytes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        start = error.start
    else:
        if text.startswith("\ufeff"):
            raise _unreadable("begins with a byte order mark; save it as UTF-8 without one")
        return text
    # Not raised from the error above, which holds the whole file.
    lines = _LINE_END.split(data[:start])
    raise _unreadable("not UTF-8", len(lines), len(lines[-1].decode()) + 1)


def _parsed(text: str, read_secret: ReadSecret) -> tuple[object, Source]:
    try:
        return loads(text), Source(Positions(text), read_secret)
    except JSONCError as error:
        message = str(error).removesuffix(f" at line {error.line}, column {error.column}")
        raise _unreadable(message, error.line, error.column) from None


def _unreadable(message: str, line: int = 1, column: int = 1) -> ConfigError:
    return ConfigError((Problem("", line, column, message),))


def _check_keys(document: object, problems: Problems) -> None:
    """Warns of top-level keys that mean nothing here, and of keys that stand twice."""
    members = document if isinstance(document, dict) else {}
    ignored = [key for key in members if key not in _TOP_LEVEL]
    for block in _BLOCKS:
        if block not in members and (slip := nearest(block, ignored, _SLIP_LIKENESS)) is not None:
            text = f"unknown key {quoted(slip)}; did you mean {quoted(block)}?"
            problems.add((slip,), text, at_key=True)
    if ignored:
        problems.warn((ignored[0],), f"ignored: {listed(ignored)}", at_key=True)
    for path in problems.source.positions.duplicates:
        if path[0] in _TOP_LEVEL:
            problems.warn(path, "this key stands here twice; the last one counts", at_key=True)


def _merged(site: SiteConfig, kinds: Collection[str], problems: Problems) -> Merged:
    if site.model_configuration is not None:
        return merge(site.model_configuration, kinds, problems)
    if site.completions is not None:
        text = "not supported by this version; write a modelConfiguration block"
        problems.add(("completions",), text, at_key=True)
    elif not problems.is_reported(()) and not problems.is_reported(("modelConfiguration",)):
        problems.add((), '"modelConfiguration" is missing')
    return Merged((), (), Defaults())


def _warn_of_ambiguity(names: Names, models: Sequence[ModelConfig], problems: Problems) -> None:
    paths = {model.ref: model.path for model in models}
    for spelling, (first, second, *_) in names.ambiguous.items():
        text = f"{quoted(spelling)} may mean this model too; it means {quoted(str(first))}"
        problems.warn(paths[second], text)


def _check_listen(listen: Listen, problems: Problems) -> None:
    if listen.port == listen.admin_port != 0 and listen.host == listen.admin_host:
        text = f"port {listen.port} is also that for clients"
        problems.add(("penstock", "listen", "adminPort"), text)


def _clients(keys: Sequence[ClientKey], names: Names, problems: Problems) -> tuple[Client, ...]:
    owners: dict[str, str] = {}  # by key
    clients: dict[str, Client] = {}
    for path, client in items_of(keys, ("penstock", "clients")):
        if client.name in clients:
            problems.add((*path, "name"), f"client {quoted(client.name)} specified twice")
        _check_key(client, owners, (*path, "key"), problems)
        models = _allowed(client.models, names, (*path, "models"), problems)
        clients[client.name] = Client(client.name, client.key, models)
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


def _from_environment(name: str) -> str:
    # A key that was written here by mistake must not be shown.
    if _ENV_NAME.fullmatch(name) is None:
        raise SecretUnavailable("this is not the name of an environment variable")
    text = os.environ.get(name)  # noqa: TID251 - the one place that reads it
    if not text:
        state = "is not set" if text is None else "is empty"
        raise SecretUnavailable(f"environment variable {quoted(name)} {state}")
    return text


def _from_file(name: str) -> str:
    try:
        text = _content(pathlib.Path(name)).decode().rstrip("\r\n")
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
    except UnicodeDecodeError:
        reason = "not UTF-8"
    else:
        if text:
            return text
        reason = "empty"
    # Not raised from a decoding error, which holds the content.
    raise SecretUnavailable(f"file {quoted(name)}: {reason}")


def _content(path: pathlib.Path) -> bytes:
    if not path.is_file():  # a pipe could keep us waiting for ever
        raise FileNotFoundError(errno.ENOENT, "there is no such file")
    with path.open("rb") as file:
        content = file.read(MAX_SECRET_BYTES + 1)
    if len(content) > MAX_SECRET_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_SECRET_BYTES} bytes")
    return content
