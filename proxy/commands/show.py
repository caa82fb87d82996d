"""`penstock show`: the configuration with everything merged, as a file that means the same.

Its secrets are `***`, and those of clients must differ: a file with two clients that is shown so
can be compared and read, and loaded only with its secrets put back.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO, cast

from proxy.commands.files import refused, registry_of
from proxy.commands.plain import Json, indented, plain
from proxy.config.decoder import decode_partly
from proxy.config.load import Config
from proxy.config.modelconfig import ProviderConfig
from proxy.config.problems import ConfigError
from proxy.providers import PROVIDERS


def show(path: Path, out: TextIO, err: TextIO) -> int:
    """Write the configuration as JSON, secrets as `***`; the exit status."""
    try:
        config = registry_of(path).config
    except ConfigError as error:
        return refused(path, error, err)
    out.write(indented(shown(config)))
    return 0


def shown(config: Config) -> Json:
    """The file that this configuration could have been read from, but for its secrets."""
    site = plain(config.site)
    block = cast("Json", site["modelConfiguration"])
    overrides = cast("list[Json]", block["providerOverrides"])
    for override, provider in zip(overrides, config.providers, strict=True):
        # As written it may hold a secret in the plain.
        override["serverSideConfig"] = _settings(provider, config)
    return {key: value for key, value in site.items() if value is not None}


def _settings(provider: ProviderConfig, config: Config) -> Json:
    struct = PROVIDERS[provider.kind].settings
    settings = decode_partly(provider.settings, struct, provider.path, config.problems())
    return {"type": provider.kind, **({} if settings is None else plain(settings))}
