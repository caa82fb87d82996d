"""Sourcegraph's completions API, as Cody clients speak it; client side only."""

from parsers.dialects.sourcegraph.dialect import NEWEST_VERSION, SourcegraphDialect, dialect_for
from parsers.dialects.sourcegraph.legacy import rewritten
from parsers.dialects.sourcegraph.turns import instructed, without_open_turn

__all__ = [
    "NEWEST_VERSION",
    "SourcegraphDialect",
    "dialect_for",
    "instructed",
    "rewritten",
    "without_open_turn",
]
