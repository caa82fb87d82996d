"""Tokens that a server took from its cache, where a header tells of them (upstreams.md 10).

Fireworks' answers themselves do not say, and what was cached costs less.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.dialects.base import StreamDecoder
from parsers.events import StreamEvent, Usage
from proxy.transport import ResponseHead

_HEADER = b"fireworks-cached-prompt-tokens"


def cached_in(head: ResponseHead) -> int | None:
    """The count of such a header; None without one that can be read."""
    count = head.headers.get(_HEADER, b"")
    return int(count) if count.isdigit() and len(count) < 16 else None


def with_cached(events: Iterable[StreamEvent], cached: int) -> list[StreamEvent]:
    """The events, each report of usage with this count if it has none of its own."""
    # per token
    return [
        msgspec.structs.replace(event, cached=cached)
        if type(event) is Usage and event.cached is None
        else event
        for event in events
    ]


class CachedDecoder:
    """A decoder whose answer came with such a header."""

    def __init__(self, decoder: StreamDecoder, cached: int) -> None:
        self._decoder = decoder
        self._cached = cached

    @property
    def pending_bytes(self) -> int:
        """As of the decoder itself."""
        return self._decoder.pending_bytes

    @property
    def frames(self) -> int:
        """As of the decoder itself."""
        return self._decoder.frames

    @property
    def odd(self) -> bool:
        """As of the decoder itself."""
        return self._decoder.odd

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that these bytes complete. Raises ParseError beyond the event limit."""
        # per token
        return with_cached(self._decoder.feed(data), self._cached)

    def close(self) -> list[StreamEvent]:
        """The last events, at a clean end of the body."""
        return with_cached(self._decoder.close(), self._cached)
