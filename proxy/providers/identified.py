"""Providers that are called in somebody's name: with the access tokens of an identity."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from proxy.config.modelconfig import ProviderConfig
from proxy.endpoints import Endpoint
from proxy.providers.access_tokens import Tokens
from proxy.providers.base import Provider, Route, Target, UpstreamCall, UpstreamRequest


class Caller(msgspec.Struct, frozen=True):
    """Whose tokens are sent; the key is that of the identity as it was when it was read."""

    key: tuple[str, ...]
    tokens: Tokens


class Identified(Provider):
    """A provider whose calls carry a token; without a caller the key goes with each, or nothing."""

    def __init__(
        self,
        config: ProviderConfig,
        targets: Sequence[Target],
        routes: Sequence[Route],
        caller: Caller | None,
    ) -> None:
        super().__init__(config, targets, routes)
        self._caller = caller

    def secrets_for(self, endpoint: Endpoint) -> tuple[str, ...]:
        """The key, or the tokens."""
        tokens = () if self._caller is None else self._caller.tokens.secrets
        return super().secrets_for(endpoint) + tokens

    @property
    def heads(self) -> frozenset[bytes]:
        """What calls begin with, and who makes them."""
        key = () if self._caller is None else self._caller.key
        return super().heads | {part.encode() for part in key}

    async def prepare(self, call: UpstreamCall, endpoint: Endpoint) -> UpstreamRequest:
        """The call as bytes, with a token. Raises RequestFailed where there is none."""
        request = await super().prepare(call, endpoint)
        if self._caller is None:
            return request
        token = await self._caller.tokens.token()
        return UpstreamRequest(request.head[:-2] + token.headers + b"\r\n", request.body)
