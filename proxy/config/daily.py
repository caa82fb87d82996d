"""How many requests a user may make in a day: the file's own words, else the older block's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from parsers.chat import Operation
from proxy.config.overlay import overlay
from proxy.config.schema import ClientKey, Completions, DailyLimits


class Daily(msgspec.Struct, frozen=True):
    """The limits of everybody, and of the clients that have their own."""

    everybody: DailyLimits = DailyLimits()
    clients: Mapping[str, DailyLimits] = MappingProxyType({})  # by name
    limits_somebody: bool = False  # else nobody need ask

    def limit(self, client: str, operation: Operation) -> int:
        """The most requests of this client in a day; 0 where there is no limit."""
        limits = self.clients.get(client, self.everybody)
        limited = {
            Operation.CHAT: limits.chat_requests,
            Operation.COMPLETION: limits.code_requests,
        }
        return limited.get(operation) or 0


def everybodys(given: DailyLimits, older: Completions | None) -> DailyLimits:
    """The limits of the `penstock` block, else of a `completions` block.

    That block's count beside a `modelConfiguration` too: the original reads no others (B-26).
    """
    return given if older is None else overlay(given, _limits_of(older))


def _limits_of(block: Completions) -> DailyLimits:
    return DailyLimits(
        chat_requests=block.per_user_daily_limit or None,
        code_requests=block.per_user_code_completions_daily_limit or None,
    )


def daily_of(everybody: DailyLimits, keys: Sequence[ClientKey | None]) -> Daily:
    """All limits; a client's own hold where it has any, and everybody's where they are silent."""
    own = {
        key.name: overlay(key.daily_limits, everybody)
        for key in keys
        if key is not None and key.daily_limits is not None
    }
    limits = (everybody, *own.values())
    limited = any(each.chat_requests or each.code_requests for each in limits)
    return Daily(everybody, MappingProxyType(own), limited)
