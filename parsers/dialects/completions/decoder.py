"""What is different in the answer to a text completion: TGI's counts.

It reports usage for each prompt apart, on its last chunk (tgi.md 6.3), which has to be added up.
"""

from __future__ import annotations

from collections.abc import Iterable

from parsers.dialects.openai.chunks import ChunkReader
from parsers.dialects.openai.wire import Chunk
from parsers.events import Usage


class TextChunkReader(ChunkReader):
    """The chunks of one streamed answer."""

    def __init__(self) -> None:
        super().__init__()
        self._usage: dict[int, Usage] = {}  # by choice; as many as ChunkReader admits

    def _total(self, usage: Usage, chunk: Chunk) -> Usage:
        """All choices together; a report without choices is already about them all."""
        if not chunk.choices:
            return usage
        choice = chunk.choices[0].index
        self._usage[choice if isinstance(choice, int) else 0] = usage
        reports = self._usage.values()
        return Usage(
            prompt=sum(report.prompt for report in reports),
            completion=sum(report.completion for report in reports),
            cached=_sum(report.cached for report in reports),
            reasoning=_sum(report.reasoning for report in reports),
            cache_write=_sum(report.cache_write for report in reports),
        )


def _sum(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
