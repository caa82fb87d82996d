"""`penstock.capture`: what is kept of requests that are looked into, and where."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from proxy.config.schema.block import Block


class Capture(Block, frozen=True, omit_defaults=False):
    """Files that hold what passed for one request, on both sides, without keys.

    They hold prompts and answers. Nothing is written unless a provider has `enableVerboseLogs`,
    POST /debug asked for it, or `keepLast` is not 0.
    """

    sample: Annotated[
        float,
        Meta(ge=0, le=1, description="The share of the requests looked into that is written."),
    ] = 1.0
    max_bytes: Annotated[
        int,
        Meta(
            ge=1024,
            le=64 * 1024 * 1024,
            description="How much of each request and each answer is kept; the rest is counted.",
        ),
    ] = 1024 * 1024
    max_file_bytes: Annotated[
        int,
        Meta(ge=1024, description="All files together; the oldest go first."),
    ] = 256 * 1024 * 1024
    directory: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(
            description="Where the files are; if not given, penstock-captures-UID in the directory"
            " for temporary files. It is made if need be, for nobody else to read."
        ),
    ] = None
    keep_last: Annotated[
        int,
        Meta(
            ge=0,
            le=10_000,
            description="So many of the last requests that failed, or were slow, are written"
            " without being asked for.",
        ),
    ] = 0
    slow_seconds: Annotated[
        Annotated[float, Meta(gt=0, le=86_400)] | None,
        Meta(description="From so many seconds on a request is slow; none is if not given."),
    ] = None
