"""How a model is asked: choose an endpoint, connect, stream; and again elsewhere while that helps.

Only until the client's first byte: what it has seen cannot be taken back. A retry goes to another
endpoint of the same model, within a budget that all requests share; after that the model's
fallbacks are asked, which may live anywhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from random import Random
from time import monotonic
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from parsers.dialects.base import RequestHead
from parsers.events import Fault, FaultKind
from proxy.capture import Sender
from proxy.config.rules import AffinityRules
from proxy.config.schema.traffic import FallbackOn
from proxy.endpoints import EndpointState, Lease
from proxy.errors import RequestFailed, proxy_fault
from proxy.outcome import Account, Clock, Outcome, outcome_of_fault, timeout_fault, verdict_of
from proxy.planning import Ask, passed_headers, plan_for, upstream_body
from proxy.providers.base import UpstreamCall, UpstreamRequest
from proxy.registry import Client, Model, Registry
from proxy.relay import Ending, Plan, Relay, StreamRelay, WholeRelay
from proxy.reply import Reply
from proxy.service import Service
from proxy.trace import trace_lines
from proxy.traffic.line import LineFull, Ticket

_NOTHING = UpstreamRequest(b"", b"")
_PAUSE_SECONDS = 0.05  # before the first retry, at most; doubles
_LONGEST_PAUSE_SECONDS = 1.0
_PATIENCE_SECONDS = 5.0  # a server that wants to be left alone for longer is not waited for

_FALLBACK_ON: dict[FaultKind, FallbackOn] = {
    FaultKind.OVERLOADED: "busy",
    FaultKind.RATE_LIMITED: "busy",
    FaultKind.QUOTA_EXCEEDED: "busy",
    FaultKind.UNREACHABLE: "unreachable",
    FaultKind.TIMEOUT: "unreachable",
    FaultKind.TRUNCATED: "unreachable",
    FaultKind.PROTOCOL: "unreachable",
    FaultKind.UPSTREAM: "unreachable",
    FaultKind.CONTEXT_LENGTH: "context_length",
    FaultKind.CONTENT_FILTER: "content_filter",
}

# Where the prompt begins in a body of any dialect.
_PROMPT = re.compile(rb'"(?:system|messages|prompt|inputs?|contents)"[ \t\r\n]*:')

Take: TypeAlias = Callable[[], Lease | None]

_random = Random()  # noqa: S311 - spreads retries, guards nothing


class Asked(msgspec.Struct, frozen=True):
    """A request, as far as it is understood before a model is asked."""

    ask: Ask
    head: RequestHead
    body: bytes  # as the client sent it
    headers: Mapping[str, str]
    client: Client | None

    def prefix(self, rules: AffinityRules) -> bytes:
        """What engines may have cached: a header's value, or the beginning of the prompt."""
        named = None if rules.header is None else self.headers.get(rules.header)
        if named is not None:
            return named.encode("utf-8", "surrogateescape")
        found = _PROMPT.search(self.body)
        at = 0 if found is None else found.end()
        return self.body[at : at + rules.characters]


class Attempts:
    """The calls for one request; `relay` is the one under way."""

    def __init__(
        self,
        service: Service,
        registry: Registry,
        asked: Asked,
        reply: Reply,
        account: Account,
    ) -> None:
        self._service = service
        self._registry = registry
        self._asked: Asked | None = asked  # None: it will not be asked again
        self._client = asked.client
        self._total_seconds = asked.ask.total_seconds
        self._reply = reply
        self._account = account
        self._outgoing = _NOTHING  # what is sent on, until it cannot be sent again
        self._wanted = ""  # the label of the model that was asked for
        self.upstream: Sender = service.upstream
        self.relay: Relay | None = None
        self.streamed = False  # a model server was asked for a stream
        self.error_headers = b""  # what the last of them said of its limits

    async def run(self, model: Model) -> Ending:
        """Ask the model, then its fallbacks. The ending's fault is untold if no reply started."""
        self._wanted = model.label
        ending = await self._ask_model(model)
        if ending.fault is None:
            return ending
        for other in self._fallbacks(model):
            cause = _cause_of_fallback(model, ending.fault)
            if cause is None or self._reply.started:
                break
            self._service.metrics.count_fallback(model.label, other.label, cause)
            self.relay = None  # as between two attempts
            ending = await self._ask_model(other)
        return ending

    @property
    def is_answering(self) -> bool:
        """Whether an answer may come, or has; else a drain must break off the wait for one."""
        return self.relay is not None and self.relay.is_answering

    # -- one model

    async def _ask_model(self, model: Model) -> Ending:
        account = self._account
        account.model, account.provider = model.label, model.provider.id
        rules = model.pool.rules.retries
        model.shared.budget.earn(rules)
        tried: list[EndpointState] = []
        while True:
            try:
                lease = self._take(model, tried) or await self._wait_for_room(model, tried)
                with lease:
                    account.endpoint = lease.endpoint.name
                    ending = await self._once(model, lease)
            except RequestFailed as failure:
                return _failed(failure.fault)
            if ending.fault is None:
                return ending
            tried.append(lease.state)
            if not await self._again(model, ending.fault, tried):
                return ending
            self._service.metrics.count_retry(model.label)

    def _take(self, model: Model, tried: list[EndpointState]) -> Lease | None:
        """An endpoint, if there is room and nobody waits for it already."""
        self._account.phase = "choose"
        assert self._asked is not None  # noqa: S101 - it is being asked
        return None if model.shared.line else model.pool.take(tried, self._asked.prefix)

    async def _wait_for_room(self, model: Model, tried: list[EndpointState]) -> Lease:
        assert self._asked is not None  # noqa: S101 - as above
        take = partial(model.pool.take, tried, self._asked.prefix)
        since = monotonic()
        try:
            return await self._in_line(model, take)
        finally:
            self._account.queue_seconds += monotonic() - since

    async def _in_line(self, model: Model, take: Take) -> Lease:
        account, rules = self._account, model.pool.rules
        line = model.shared.line
        left = self._seconds_left(model)
        ticket = Ticket(account.client, model.label, _priority(self._client))
        patience = min(rules.admission.max_wait_seconds, max(left, 0.0))
        try:
            return await line.wait(
                ticket, take, replace(rules.admission, max_wait_seconds=patience)
            )
        except LineFull as full:
            raise RequestFailed(_too_busy(model, full.retry_after)) from None
        except TimeoutError:
            if patience == left:
                raise RequestFailed(timeout_fault(Clock.TOTAL, patience)) from None
            raise RequestFailed(_too_busy(model, line.retry_after())) from None

    def _seconds_left(self, model: Model) -> float:
        """Until the whole request has taken too long."""
        total = model.pool.rules.timeouts.total_seconds
        if self._total_seconds is not None:
            total = min(total, self._total_seconds)
        return self._account.started + total - monotonic()

    async def _again(self, model: Model, fault: Fault, tried: list[EndpointState]) -> bool:
        """Whether to ask another endpoint of the model; waits until it is time to."""
        rules = model.pool.rules.retries
        if not fault.kind.retryable or self._reply.started:
            return False
        if len(model.pool.members) < 2 or len(tried) >= rules.attempts:
            return False
        pause = _pause(fault, tried, model)
        if pause > min(self._seconds_left(model), _PATIENCE_SECONDS):
            return False
        if not model.shared.budget.spend(rules, monotonic()):
            return False
        self.relay = None  # nothing answers now: a drain need not wait
        await asyncio.sleep(pause)
        return True

    def _fallbacks(self, model: Model) -> Iterator[Model]:
        """The models to ask in its place, those that this client may use."""
        for ref in model.pool.rules.fallbacks:
            other = self._registry.models[str(ref)]
            if self._client is None or self._client.may_use(other):
                yield other

    # -- one endpoint

    async def _once(self, model: Model, lease: Lease) -> Ending:
        """One call, and once more if a kept connection turns out to have died in the meantime.

        That is safe: the upstream answered nothing, and its own idle limit is why.
        """
        plan = await self._prepare(model, lease)
        ending, stale = await self._call(plan, lease, model, fresh=False)
        if stale and ending.unanswered:
            ending, _ = await self._call(plan, lease, model, fresh=True)
        return ending

    async def _prepare(self, model: Model, lease: Lease) -> Plan:
        """Decide how to answer, and make the bytes to send."""
        account, asked = self._account, self._asked
        assert asked is not None  # noqa: S101 - it is being asked
        account.phase = "decode"
        plan = plan_for(asked.ask, self._registry, model, lease, asked.head, account.request_id)
        if model.label != self._wanted:
            named = b"x-penstock-model: %b\r\n" % model.label.encode()
            plan = replace(plan, headers=plan.headers + named)
        account.exact = plan.exact is not None
        account.upstream_dialect = plan.route.dialect.name
        body, account.dropped = upstream_body(
            asked.ask, self._registry, model, plan, asked.head, asked.body
        )
        account.phase = "connect"
        self.streamed = plan.stream
        headers = passed_headers(plan, asked.headers)
        if model.provider.checks is not None:  # self-hosted: traces are nobody else's business
            headers += trace_lines(asked.headers)
        call = UpstreamCall(plan.route, body, plan.stream, account.request_id, headers)
        self._outgoing = await model.provider.prepare(call, lease.endpoint)
        return plan

    async def _call(
        self, plan: Plan, lease: Lease, model: Model, *, fresh: bool
    ) -> tuple[Ending, bool]:
        """How a call ended, and whether it went out on a connection that had served before."""
        account, service = self._account, self._service
        kind = StreamRelay if plan.stream else WholeRelay
        relay = self.relay = kind(plan, self._reply, account, on_answer=self._forget)
        account.attempts += 1
        account.usage = None  # of an earlier attempt
        service.sweep.add(relay)
        before, since = account.contents, monotonic()
        reused = False
        try:
            reused = await self.upstream.send(
                self._outgoing,
                lease,
                relay,
                connect_seconds=min(plan.timeouts.connect_seconds, relay.seconds_left),
                fresh=fresh,
            )
            account.connect_seconds += monotonic() - since
            return await relay.run(), reused
        except RequestFailed as failure:
            relay.tick(monotonic())  # the whole request's time may be what ran out
            relay.fail(failure.fault)
            return await relay.run(), False
        finally:
            service.sweep.discard(relay)
            if relay.ending is None:
                relay.abandon()  # whatever brought us here, no connection is left behind
            self.error_headers = relay.error_headers
            if relay.malformed:
                service.metrics.count_malformed(lease.endpoint.name, relay.malformed)
            ending = relay.ending or Ending(Outcome.CLIENT_GONE)
            if not ending.outcome.is_success:
                account.wasted += account.contents - before
            if not (reused and ending.unanswered):  # a connection may have died while it was kept
                self._tell(ending, lease, model)

    def _tell(self, ending: Ending, lease: Lease, model: Model) -> None:
        verdict = verdict_of(ending.outcome, ending.fault)
        seconds = None if ending.fault is None else ending.fault.retry_after
        lease.settle(verdict, model.pool.rules.health, monotonic(), seconds)
        self._service.metrics.count_attempt(model.label, lease.endpoint.name, verdict)

    def _forget(self) -> None:
        """The client has its first byte: what was asked will not be asked again."""
        self._outgoing = _NOTHING
        self._asked = None


def _failed(fault: Fault) -> Ending:
    return Ending(outcome_of_fault(fault), fault)


def _too_busy(model: Model, retry_after: float) -> Fault:
    message = f'the model "{model.label}" has too much to do'
    return proxy_fault(FaultKind.OVERLOADED, message, retry_after=retry_after, status=429)


def _priority(client: Client | None) -> int:
    return 0 if client is None else client.priority


def _pause(fault: Fault, tried: list[EndpointState], model: Model) -> float:
    """Full jitter; and as long as the server said, where no other is left to ask."""
    longest = min(_PAUSE_SECONDS * 2 ** (len(tried) - 1), _LONGEST_PAUSE_SECONDS)
    wanted = fault.retry_after or 0.0
    all_tried = len(set(map(id, tried))) >= len(model.pool.members)
    return _random.uniform(0.0, longest) + (wanted if all_tried else 0.0)


def _cause_of_fallback(model: Model, fault: Fault | None) -> FallbackOn | None:
    """Which of the failures that its fallbacks are for this one of the model is; None: none."""
    cause = None if fault is None else _FALLBACK_ON.get(fault.kind)
    return cause if cause in model.pool.rules.fallback_on else None
