"""Who calls AWS: keys out of the configuration, or those that AWS gives to where we run.

The latter are AWS's own chain: environment, profile, web identity (IRSA), container (EKS Pod
Identity, ECS), instance. There are a dozen ways, and each changes with AWS, so a library of theirs
walks it; it is an extra, for it is large.
"""

from __future__ import annotations

import asyncio
import logging
from importlib import import_module
from importlib.util import find_spec
from time import monotonic
from typing import Protocol

from parsers.events import FaultKind
from proxy.config.schema import Secret
from proxy.errors import RequestFailed, upstream_fault
from proxy.providers.sigv4 import Keys

LOOKUP_SECONDS = 15.0  # the chain asks up to three servers, each for a second or two
PAUSE_SECONDS = 5.0  # who asks again sooner gets the same refusal

_LIBRARY = "aiobotocore"

_logger = logging.getLogger(__name__)


class Credentials(Protocol):
    """Where keys come from."""

    async def keys(self) -> Keys:
        """Keys that are valid now. Raises RequestFailed."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of the keys known so far nobody must see."""


class GivenKeys:
    """Keys that the configuration holds."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.secrets = keys.secrets

    async def keys(self) -> Keys:
        """The keys."""
        return self._keys


class _Frozen(Protocol):
    """botocore's ReadOnlyCredentials."""

    access_key: str
    secret_key: str
    token: str | None


class _Found(Protocol):
    """aiobotocore's AioCredentials: refreshes itself in time, once for all who wait."""

    async def get_frozen_credentials(self) -> _Frozen: ...


class _Session(Protocol):
    """aiobotocore's AioSession."""

    def get_config_variable(self, name: str) -> object: ...

    def set_config_variable(self, name: str, value: object) -> None: ...

    async def get_credentials(self) -> _Found | None: ...


def can_look_up() -> bool:
    """Whether the library that walks the chain is installed."""
    return find_spec(_LIBRARY) is not None


class AmbientKeys:
    """The keys of where we run, looked up once and refreshed before they expire.

    `region` is where web identities are exchanged for keys, unless the environment names another.
    Needs the library.
    """

    def __init__(self, region: str) -> None:
        # Imported here, for it takes 0.1 s and few configurations need it.
        self._session_type = import_module(f"{_LIBRARY}.session").AioSession
        self._region = region
        self._found: _Found | None = None
        self._lock = asyncio.Lock()
        self._failed_at: float | None = None
        self._keys: Keys | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Those of the keys that were used last."""
        return () if self._keys is None else self._keys.secrets

    async def keys(self) -> Keys:
        """Keys that are valid now. Raises RequestFailed where there are none, or not in time."""
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                found = self._found or await self._look_up()
                frozen = await found.get_frozen_credentials()
        except RequestFailed:
            raise
        except Exception as error:  # the chain reads files and runs programs of others
            self._failed_at = monotonic()
            # Its text is not told: what went wrong may be what was read.
            _logger.warning("AWS credentials cannot be had: %s", type(error).__name__)
            raise _refused() from error
        session = None if frozen.token is None else Secret(frozen.token)
        keys = Keys(frozen.access_key, Secret(frozen.secret_key), session)
        if keys != self._keys:
            self._keys = keys
        return self._keys

    async def _look_up(self) -> _Found:
        async with self._lock:
            if self._found is not None:
                return self._found
            if self._failed_at is not None and monotonic() < self._failed_at + PAUSE_SECONDS:
                raise _refused()
            found = await self._session().get_credentials()
            if found is None:
                raise LookupError
            self._found = found
            return found

    def _session(self) -> _Session:
        session: _Session = self._session_type()
        if session.get_config_variable("region") is None:
            session.set_config_variable("region", self._region)
        return session


def _refused() -> RequestFailed:
    message = "penstock has no AWS credentials to call the model with"
    return RequestFailed(upstream_fault(FaultKind.UNAUTHENTICATED, message))
