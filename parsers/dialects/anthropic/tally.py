"""Anthropic's token counts, which leave the cache out of the input, as ours, which do not."""

from __future__ import annotations

from parsers.dialects.anthropic.wire import Counts, OutputDetails
from parsers.events import MAX_COUNT, Usage


class Tally:
    """The counts of one answer so far. They are cumulative: what an event says replaces the rest.

    `message_start` has the input and a first guess at the output; `message_delta` the output, and
    sometimes all of it once more (envoyproxy/ai-gateway#2290).
    """

    def __init__(self) -> None:
        self._input: int | None = None
        self._output: int | None = None
        self._read: int | None = None
        self._written: int | None = None
        self._thinking: int | None = None

    def add(self, counts: object) -> Usage | None:
        """The counts now; None where nothing is known yet, or nothing was told."""
        if not isinstance(counts, Counts):
            return None
        self._input = _newer(counts.input_tokens, self._input)
        self._output = _newer(counts.output_tokens, self._output)
        self._read = _newer(counts.cache_read_input_tokens, self._read)
        self._written = _newer(counts.cache_creation_input_tokens, self._written)
        details = counts.output_tokens_details
        if isinstance(details, OutputDetails):
            self._thinking = _newer(details.thinking_tokens, self._thinking)
        if self._input is None and self._output is None:
            return None
        return Usage(
            prompt=(self._input or 0) + (self._read or 0) + (self._written or 0),
            completion=self._output or 0,
            cached=self._read,
            reasoning=self._thinking,
            cache_write=self._written,
        )


def _newer(told: object, known: int | None) -> int | None:
    return told if isinstance(told, int) and 0 <= told <= MAX_COUNT else known
