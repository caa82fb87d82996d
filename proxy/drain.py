"""How penstock leaves: once begun there is no way back.

Requests that run go on. New ones are served for a grace, each as the last on its connection, since
load balancers learn late that penstock leaves; then they are refused. At the deadline those that
still run are ended. A deadline before the end of the grace ends the grace too.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

# Another replica is there at once, or a new process soon.
RETRY_AFTER_SECONDS = 1.0


class Drain(msgspec.Struct, frozen=True):
    """When and why a drain began, and how long its phases last; times are monotonic seconds."""

    reason: str
    since: datetime
    began: float
    grace_seconds: float
    deadline_seconds: float

    def grace_left(self, now: float) -> float:
        """For how long new requests are still served."""
        until = self.began + min(self.grace_seconds, self.deadline_seconds)
        return max(0.0, until - now)

    def seconds_left(self, now: float) -> float:
        """For how long requests may still run."""
        return max(0.0, self.began + self.deadline_seconds - now)

    def refuses(self, now: float) -> bool:
        """Whether a request that comes now is refused."""
        return not self.grace_left(now)
