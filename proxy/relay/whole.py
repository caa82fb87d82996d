"""The relay of an answer that is not streamed: read whole, checked, then sent in one piece."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from parsers.dialects.base import Renamer
from parsers.dialects.mending import readable
from parsers.errors import ParseError
from parsers.events import FaultKind, StreamEvent
from proxy.errors import upstream_fault
from proxy.outcome import Account, Clock
from proxy.relay.base import Relay
from proxy.relay.cached import cached_in, with_cached
from proxy.relay.headers import passed_on, usage_in
from proxy.relay.plan import Ending, Plan
from proxy.relay.verdict import Verdict
from proxy.reply import JSON, Reply
from proxy.transport import ResponseHead


class WholeRelay(Relay):
    """Collects the body, and sends it as read or translated."""

    __slots__ = ("_pieces", "_size", "_verdict")

    def __init__(
        self, plan: Plan, reply: Reply, account: Account, on_answer: Callable[[], None]
    ) -> None:
        super().__init__(plan, reply, account, on_answer)
        self._pieces: list[bytes] = []
        self._size = 0
        self._verdict = Verdict(account)

    def report(self) -> None:
        """An answer in one piece has no events."""

    def accept(self, head: ResponseHead) -> None:
        """A good head."""
        self.reply_headers += passed_on(head)
        self._await(Clock.FIRST_TOKEN, monotonic(), self.plan.timeouts.first_token_seconds)

    def take(self, data: bytes) -> None:
        """Another piece of the body."""
        self._pieces.append(data)
        self._size += len(data)
        if self._size > self.plan.limits.max_event_bytes:
            self.fail(upstream_fault(FaultKind.PROTOCOL, "the model server's answer is too large"))

    def close(self) -> None:
        """The body is whole: judge it, and send it."""
        body = b"".join(self._pieces)
        dialect = self.plan.route.dialect
        try:
            exact = self.plan.exact is not None
            events = dialect.judge_body(body) if exact else dialect.decode_body(body)
        except ParseError as error:
            self.fail(upstream_fault(FaultKind.PROTOCOL, str(error)))
            return
        if self._head is not None and (cached := cached_in(self._head)) is not None:
            events = with_cached(events, cached)
        self._verdict.read(events)
        if self._verdict.fault is not None:
            self.fail(self._verdict.fault)
            return
        if self.account.usage is None and self._head is not None:
            usage = self.account.usage = usage_in(self._head)
            if usage is not None:
                events = [usage, *events]  # the client gets it too
        self._send(body, events)

    def _send(self, body: bytes, events: list[StreamEvent]) -> None:
        exact, identity = self.plan.exact, self.plan.identity
        if exact is None:
            body = self.plan.client.encode_body(events, identity)
        elif identity.model and isinstance(exact, Renamer):
            body = exact.renamed(readable(body), identity.model)
        else:
            body = readable(body)
        self.account.status = 200
        self._on_answer()
        self.reply.send(200, self.reply_headers + JSON, body)
        self._finish(Ending(self._verdict.outcome))
