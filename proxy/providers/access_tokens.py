"""Access tokens of other services: fetched once for all who wait, renewed before they expire.

Fetching one blocks, so it is done in a thread; the old token serves until the new one is there,
and nobody waits but who comes first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

import msgspec

from parsers.events import Fault, FaultKind
from proxy.config.schema import Secret
from proxy.errors import RequestFailed, upstream_fault

FETCH_SECONDS = 15.0  # how long a request may wait for a token
PAUSE_SECONDS = 2.0  # who asks again sooner gets the same refusal
# Google's own margin; its metadata server gives the same token until five minutes before its end.
RENEW_SECONDS = 225.0
SPARE_SECONDS = 10.0  # a token must outlive the way to the server

_logger = logging.getLogger(__name__)


class Token(msgspec.Struct, frozen=True):
    """What goes with a request, and for how long."""

    value: Secret
    headers: bytes  # whole lines; the token is in them
    seconds: float  # from when it was fetched


class NoToken(Exception):
    """There is no token to be had; `kind` is what clients are told."""

    def __init__(self, kind: FaultKind = FaultKind.UNAUTHENTICATED) -> None:
        super().__init__(kind)
        self.kind = kind


class Tokens:
    """The access tokens of one identity. `fetch` gets one, in a thread, or raises NoToken.

    `issuer` is who gives them out, by the name that clients are told.
    """

    def __init__(
        self,
        fetch: Callable[[], Token],
        issuer: str,
        *,
        clock: Callable[[], float] = monotonic,
        patience_seconds: float = FETCH_SECONDS,
    ) -> None:
        self._fetch = fetch
        self._issuer = issuer
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._token: Token | None = None
        self._previous: Token | None = None  # requests that carry it are still under way
        self._renew_at = 0.0
        self._expires_at = 0.0
        self._fetching: asyncio.Future[Token] | None = None
        self._refusal: Fault | None = None
        self._refused_at = 0.0

    @property
    def secrets(self) -> tuple[str, ...]:
        """The tokens that requests under way may carry."""
        known = (self._token, self._previous)
        return tuple(token.value.reveal() for token in known if token is not None)

    async def token(self) -> Token:
        """A token that is valid now. Raises RequestFailed where there is none, or not in time."""
        now, token = self._clock(), self._token
        if token is None or now >= self._renew_at:
            self._begin(now)
        if token is not None and now < self._expires_at - SPARE_SECONDS:
            return token
        if self._fetching is not None:
            await self._finished(self._fetching)
        if self._token is None or self._refusal is not None:
            raise RequestFailed(self._refusal or self._fault_of(NoToken()))
        return self._token

    def _begin(self, now: float) -> None:
        """Fetch a token, unless that is being done or was refused just now."""
        paused = self._refusal is not None and now < self._refused_at + PAUSE_SECONDS
        if self._fetching is None and not paused:
            loop = asyncio.get_running_loop()
            self._fetching = loop.run_in_executor(None, self._fetch)
            self._fetching.add_done_callback(self._settle)

    async def _finished(self, fetching: asyncio.Future[Token]) -> None:
        """Wait for what others wait for too, and who goes away does not end it."""
        await asyncio.wait((fetching,), timeout=self._patience_seconds)
        if not fetching.done():
            message = f"{self._issuer}'s token server did not answer in time"
            raise RequestFailed(upstream_fault(FaultKind.TIMEOUT, message))

    def _settle(self, fetching: asyncio.Future[Token]) -> None:
        """Note how it ended, before whoever waits for it goes on."""
        self._fetching = None
        now = self._clock()
        try:
            token = fetching.result()
        except NoToken as refusal:
            self._refusal, self._refused_at = self._fault_of(refusal), now
            cause = type(refusal.__cause__).__name__
            _logger.warning("%s: %s", self._refusal.message, cause)
            return
        self._previous, self._token, self._refusal = self._token, token, None
        self._expires_at = now + token.seconds
        self._renew_at = self._expires_at - min(RENEW_SECONDS, token.seconds / 2)

    def _fault_of(self, refusal: NoToken) -> Fault:
        if refusal.kind is FaultKind.UNREACHABLE:
            message = f"{self._issuer}'s token server cannot be reached"
        else:
            message = f"{self._issuer} gives penstock no access token"
        return upstream_fault(refusal.kind, message)
