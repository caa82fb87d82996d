"""How long the long tests are: seconds in `make test`, as long as it takes in `make soak`."""

from __future__ import annotations

import os
from typing import TypeVar

T = TypeVar("T")

# Set by `make soak`, to a number of requests.
IS_LONG = "SOAK_REQUESTS" in os.environ  # noqa: TID251 - how `make soak` says it


def short_or(short: T, *, long: T) -> T:
    """The first in `make test`, the other in `make soak`."""
    return long if IS_LONG else short
