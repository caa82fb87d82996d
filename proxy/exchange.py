"""One request, from its head to its log line: the seven phases, in this order, always.

admit, decode, resolve, choose, connect, stream, finish. The phase a request ended in is a field of
its log line and a label of the fault counter.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from math import ceil
from time import monotonic
from typing import TypeAlias

import msgspec
from aiohttp import web

from parsers.chat import Request
from parsers.dialects.base import ClientDialect, Identity, RequestHead, Untranslatable
from parsers.errors import BadPayload
from parsers.events import Fault, FaultKind
from proxy.admission import authenticate, read_body
from proxy.config.schema import Timeouts
from proxy.endpoints import Lease
from proxy.errors import RequestFailed, client_fault, proxy_fault, status_of
from proxy.outcome import DRAINED_CODE, Account, Outcome, outcome_of_fault, verdict_of
from proxy.providers.base import Route, UpstreamCall, UpstreamRequest
from proxy.registry import Client, Model, Registry
from proxy.relay import Ending, Plan, Relay, StreamRelay, WholeRelay
from proxy.reply import EVENT_STREAM, Reply
from proxy.service import Service

_logger = logging.getLogger(__name__)

# After these the client may still be sending its body.
_CLOSING = (FaultKind.TOO_LARGE, FaultKind.TIMEOUT, FaultKind.UNAUTHENTICATED)

# Unique without asking the kernel for randomness on every request.
_PROCESS_ID = secrets.token_hex(8)
_COUNTER = count(1)

# On the exact path an answer keeps the name that the upstream gave it.
_UPSTREAMS_OWN = Identity("", 0, "")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


# Finds the model that a request means. Raises RequestFailed.
Resolve: TypeAlias = Callable[[Registry, RequestHead], Model]
# A request with what its surface adds once the model is known; never on the exact path.
Complete: TypeAlias = Callable[[Registry, Request, Model], Request]


class Ask(msgspec.Struct, frozen=True):
    """What a route already says of a request."""

    dialect: ClientDialect
    model: str = ""  # named by the path
    stream: bool | None = None  # None: the body says
    refusal: Fault | None = None  # what is wrong with the head, for a client we know
    total_seconds: float | None = None  # the client's own limit; None: the configured one
    resolve: Resolve | None = None  # None: by any spelling of the name
    complete: Complete | None = None
    exact: bool = True  # False: the upstream's bytes are never the client's


class Exchange:
    """Runs one request. It has exactly one outcome, whatever happens."""

    def __init__(self, service: Service, request: web.BaseRequest, ask: Ask) -> None:
        self._service = service
        self._request = request
        self._dialect = ask.dialect
        self._ask = ask
        self._registry: Registry = service.registry
        self._relay: Relay | None = None
        self._client: Client | None = None
        self._task: asyncio.Task[object] | None = None
        self._drained: Fault | None = None
        self.reply = Reply(request)
        self.account = Account(
            request_id=request_id_of(request),
            started=monotonic(),
            dialect=ask.dialect.name,
            generation=self._registry.generation,
        )

    async def run(self) -> Reply:
        """Answer the request; raises only CancelledError, when the client has gone."""
        self._service.enter(self)
        self._task = asyncio.current_task()
        try:
            await self._phases()
        except RequestFailed as failure:
            self._refuse(failure.fault)
        except asyncio.CancelledError:
            if self._task is None or self._drained is None:
                self._abandon()
                raise
            self._task.uncancel()
            self.reply.close_after()  # the rest of the request may still be on its way
            self._refuse(self._drained)
        except Exception:  # the outermost edge: a bug, shown to nobody
            _logger.exception("request %s failed", self.account.request_id)
            self._refuse(proxy_fault(FaultKind.INTERNAL, "internal error"))
        finally:
            self._service.leave(self)
        return self.reply

    def drain(self) -> None:
        """The proxy must go, and will not wait any longer for this request."""
        fault = Fault(
            kind=FaultKind.OVERLOADED,
            origin="proxy",
            message="the proxy is shutting down",
            code=DRAINED_CODE,
        )
        if self._relay is not None and self._relay.under_way:
            self._relay.fail(fault)
        elif self._task is not None:  # it still waits for the request, or for a connection
            self._drained = fault
            self._task.cancel()

    # -- the phases

    async def _phases(self) -> None:
        body = await self._admit()
        head = self._decode(body)
        model = self._resolve(head)
        with self._choose(model) as lease:
            await self._serve(model, lease, head, body)

    async def _admit(self) -> bytes:
        self._service.check_room()
        self._client = authenticate(self._request.headers, self._registry.clients)
        if self._client is not None:
            self.account.client = self._client.name
        body = await read_body(self._request, self._registry.limits.max_body_bytes)
        self.account.bytes_in = len(body)
        return body

    def _decode(self, body: bytes) -> RequestHead:
        self.account.phase = "decode"
        if self._ask.refusal is not None:
            raise RequestFailed(self._ask.refusal)
        try:
            head = self._dialect.peek(body)
        except BadPayload as error:
            raise RequestFailed(client_fault(FaultKind.INVALID_REQUEST, str(error))) from error
        stream = head.stream if self._ask.stream is None else self._ask.stream
        self.account.stream = stream
        return head

    def _resolve(self, head: RequestHead) -> Model:
        self.account.phase = "resolve"
        name = self._ask.model or head.model
        if self._ask.resolve is None:
            model = self._registry.resolve(name, self._dialect.operation)
        else:
            model = self._ask.resolve(self._registry, head)
        if self._client is not None and not self._client.may_use(model):
            message = f'this key may not use the model "{name}"'
            raise RequestFailed(client_fault(FaultKind.FORBIDDEN, message))
        self.account.model = model.label
        self.account.provider = model.provider.id
        return model

    def _choose(self, model: Model) -> Lease:
        self.account.phase = "choose"
        lease = model.pool.lease()
        self.account.endpoint = lease.endpoint.name
        return lease

    async def _serve(self, model: Model, lease: Lease, head: RequestHead, body: bytes) -> None:
        route = model.provider.route_for(self._dialect)
        if route is None:
            kind = self._dialect.operation
            raise RequestFailed(_invalid(f'the model "{model.label}" does no {kind}'))
        plan = self._plan(model, route, head, lease)
        call = UpstreamCall(
            route,
            self._upstream_body(plan, model, body),
            self.account.stream,
            self.account.request_id,
        )
        self.account.phase = "connect"
        request = await model.provider.prepare(call, lease.endpoint)
        ending = await self._attempt(plan, request, lease)
        if ending.fault is not None and not self.reply.started:
            raise RequestFailed(ending.fault)
        self._settle(ending.outcome, ending.fault)

    async def _attempt(self, plan: Plan, request: UpstreamRequest, lease: Lease) -> Ending:
        """One call, and once more if a kept connection turns out to have died in the meantime.

        That is safe: the upstream answered nothing, and its own idle limit is why.
        """
        ending, stale = await self._call(plan, request, lease, fresh=False)
        if stale and ending.unanswered:
            ending, _ = await self._call(plan, request, lease, fresh=True)
        return ending

    async def _call(
        self, plan: Plan, request: UpstreamRequest, lease: Lease, *, fresh: bool
    ) -> tuple[Ending, bool]:
        """How a call ended, and whether it went out on a connection that had served before."""
        account, service = self.account, self._service
        relay = self._relay = (StreamRelay if account.stream else WholeRelay)(
            plan, self.reply, account
        )
        account.attempts += 1
        service.sweep.add(relay)
        try:
            reused = await service.upstream.send(
                request,
                lease,
                relay,
                connect_seconds=min(plan.timeouts.connect_seconds, relay.seconds_left),
                fresh=fresh,
            )
            return await relay.run(), reused
        except RequestFailed as failure:
            relay.tick(monotonic())  # the whole request's time may be what ran out
            relay.fail(failure.fault)
            return await relay.run(), False
        finally:
            service.sweep.discard(relay)
            ending = relay.ending or Ending(Outcome.CLIENT_GONE)
            verdict = verdict_of(ending.outcome, ending.fault)
            service.metrics.count_attempt(account.model, account.endpoint, verdict)

    def _plan(self, model: Model, route: Route, head: RequestHead, lease: Lease) -> Plan:
        registry = self._registry
        exact = self._is_exact(model, route)
        return Plan(
            client=self._dialect,
            route=route,
            identity=_UPSTREAMS_OWN if exact else self._identity(model),
            exact=exact,
            include_usage=head.include_usage or not model.provider.asks_usage,
            timeouts=_timeouts(registry.timeouts, self._ask.total_seconds),
            limits=registry.limits,
            hidden=_secrets_of(model, lease),
        )

    def _identity(self, model: Model) -> Identity:
        now = datetime.now(UTC)
        return Identity(self.account.request_id, int(now.timestamp()), model.label)

    def _is_exact(self, model: Model, route: Route) -> bool:
        """Equal dialects, and nothing to hide: servers name the model in every chunk."""
        equal = route.dialect.name == self._dialect.name
        return equal and self._ask.exact and not model.config.has_secret_name

    def _upstream_body(self, plan: Plan, model: Model, body: bytes) -> bytes:
        asks_usage = model.provider.asks_usage
        self.account.exact = plan.exact
        try:
            if plan.exact:
                return self._dialect.forward(
                    body, model.upstream_name, usage=asks_usage, amend=plan.route.dialect.amend
                )
            request = msgspec.structs.replace(
                self._dialect.decode_request(body),
                stream=self.account.stream,
                include_usage=asks_usage,
            )
            if self._ask.complete is not None:
                request = self._ask.complete(self._registry, request, model)
            return plan.route.dialect.encode_request(request, model.upstream_name)
        except (BadPayload, Untranslatable) as error:
            self.account.phase = "decode"
            raise RequestFailed(_invalid(str(error))) from error

    # -- the ends

    def _refuse(self, fault: Fault) -> None:
        """Tell the client, in its own dialect, why there is no answer."""
        self._settle(outcome_of_fault(fault), fault)
        if self.reply.started:  # a bug came in mid-stream: never dress it as an end
            self.reply.cut()
            return
        status = self._dialect.error_status(
            fault, status_of(fault), streaming=self.account.stream and self._relay is not None
        )
        self.account.status = status
        if fault.origin == "client" and fault.kind in _CLOSING:
            self.reply.close_after()  # the rest of the body is still on its way
        headers = self._error_headers(fault)
        if status == 200:
            self.reply.start(headers + EVENT_STREAM)
            self.reply.end(self._dialect.error_frame(fault, status))
            return
        headers += _content_type(self._dialect.error_content_type)
        self.reply.send(status, headers, self._dialect.encode_error(fault, status))

    def _error_headers(self, fault: Fault) -> bytes:
        lines = b"x-request-id: %b\r\n" % self.account.request_id.encode()
        if fault.retry_after is not None:
            lines += b"retry-after: %d\r\n" % ceil(fault.retry_after)
        if self._relay is not None:
            lines += self._relay.error_headers
        return lines

    def _abandon(self) -> None:
        """The client has gone, in whatever phase."""
        if self._relay is None:
            self._settle(Outcome.CLIENT_GONE, None)
            return
        self._relay.abandon()
        ending = self._relay.ending or Ending(Outcome.CLIENT_GONE)
        self._settle(ending.outcome, ending.fault)

    def _settle(self, outcome: Outcome, fault: Fault | None) -> None:
        self.account.bytes_out = self.reply.bytes_out
        self.account.settle(outcome, fault, monotonic())


def _timeouts(configured: Timeouts, total_seconds: float | None) -> Timeouts:
    """The configured limits, within the client's own where it named one."""
    if total_seconds is None:
        return configured
    return msgspec.structs.replace(
        configured,
        connect_seconds=min(configured.connect_seconds, total_seconds),
        total_seconds=min(configured.total_seconds, total_seconds),
    )


def _secrets_of(model: Model, lease: Lease) -> tuple[str, ...]:
    """What the upstream is sent and the client must not see."""
    name = (model.upstream_name,) if model.config.has_secret_name else ()
    return (*name, *model.provider.secrets_for(lease.endpoint))


def _content_type(name: str) -> bytes:
    line = b"content-type: %b\r\n" % name.encode()
    # A text may quote what was sent: no browser may take it for a page.
    return line + b"x-content-type-options: nosniff\r\n" if name.startswith("text/") else line


def _invalid(message: str) -> Fault:
    return client_fault(FaultKind.INVALID_REQUEST, message)


def request_id_of(request: web.BaseRequest) -> str:
    """The client's own request id where it can be passed on safely, else a new one."""
    given = request.headers.get("x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"{_PROCESS_ID}-{next(_COUNTER):08x}"
