"""What the events of one answer have said so far: is it whole, and did it say anything?"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic

from parsers.events import (
    Ended,
    Failed,
    Fault,
    FaultKind,
    Finished,
    FinishReason,
    Started,
    StreamEvent,
    Text,
    ToolCall,
    Usage,
)
from proxy.errors import upstream_fault
from proxy.outcome import Account, Outcome, outcome_of_finish


class Verdict:
    """Reads events into the request's account, and says how the answer ended."""

    __slots__ = ("_account", "_reason", "_tools", "ended", "fault")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._reason: FinishReason | None = None
        self._tools = False
        self.ended = False
        self.fault: Fault | None = None

    @property
    def visible(self) -> bool:
        """Whether the client has something to see."""
        return self._account.contents > 0

    def read(self, events: Iterable[StreamEvent]) -> None:
        """Take note of these events."""
        # per token
        for event in events:
            if type(event) is Text:
                self._content(event)
                continue
            match event:
                case Finished():
                    self._finished(event)
                case Usage():
                    self._account.usage = event
                case Failed():
                    self.fault = event.fault
                case Ended():
                    self._end(event)
                case Started():
                    pass
                case _:
                    self._content(event)

    @property
    def outcome(self) -> Outcome:
        """How a whole answer ended; calls without a finish reason are calls all the same (TGI)."""
        if self._reason is None and self._tools:
            return Outcome.TOOL_CALLS
        return outcome_of_finish(self._reason)

    def _content(self, event: StreamEvent) -> None:
        account = self._account
        account.contents += 1
        account.last_token = now = monotonic()
        if account.first_token is None:
            account.first_token = now
        if isinstance(event, ToolCall):
            self._tools = True

    def _finished(self, event: Finished) -> None:
        if self._reason is None:
            self._reason = event.reason

    def _end(self, event: Ended) -> None:
        """A mark that proves nothing, after nothing, hides a failure.

        TGI 2.4 and some versions of vLLM send a bare `[DONE]` for an error.
        """
        if event.proven or self._reason is not None or self.visible:
            self.ended = True
        else:
            self.fault = upstream_fault(
                FaultKind.TRUNCATED, "the model server ended its answer without saying anything"
            )
