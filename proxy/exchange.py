"""One request, from its head to its log line: the seven phases, in this order, always.

admit, decode, resolve, choose, connect, stream, finish. The phase a request ended in is a field of
its log line and a label of the fault counter.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from itertools import count
from math import ceil
from time import monotonic

import msgspec
from aiohttp import web

from parsers.dialects.base import RequestHead
from parsers.errors import BadPayload
from parsers.events import Fault, FaultKind
from proxy.admission import authenticate, read_body
from proxy.endpoints import Lease
from proxy.errors import RequestFailed, client_fault, proxy_fault, status_of
from proxy.outcome import DRAINED_CODE, Account, Outcome, outcome_of_fault, verdict_of
from proxy.planning import Ask, plan_for, upstream_body
from proxy.providers.base import UpstreamCall, UpstreamRequest
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

_NOTHING = UpstreamRequest(b"", b"")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


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
        self._body = b""  # as the client sent it, until it is known what to send on
        self._outgoing = _NOTHING  # what is sent on, until the upstream answers
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
        if self._service.draining:
            self.reply.close_after()  # or a client that keeps its connections keeps us too
        try:
            await self._phases()
        except RequestFailed as failure:
            self._refuse(failure.fault)
        except asyncio.CancelledError:
            if self._drained is None:
                self._abandon()
                raise
            self._request.task.uncancel()
            self.reply.close_after()  # the rest of the request may still be on its way
            self._refuse(self._drained)
        except Exception:  # the outermost edge: a bug, shown to nobody
            _logger.exception("request %s failed", self.account.request_id)
            self._refuse(proxy_fault(FaultKind.INTERNAL, "internal error"))
        finally:
            self._service.leave(self)
            self._relay = None  # it holds us: what is freed by counting needs no collector
        return self.reply

    def drain(self) -> None:
        """The proxy must go, and will not wait any longer for this request."""
        fault = Fault(
            kind=FaultKind.OVERLOADED,
            origin="proxy",
            message="the proxy is shutting down",
            code=DRAINED_CODE,
        )
        if self._relay is not None and self._relay.is_answering:
            self._relay.fail(fault)
        else:  # it still waits for the request, or for a connection
            self._drained = fault
            self._request.task.cancel()

    # -- the phases

    async def _phases(self) -> None:
        await self._admit()
        head = self._decode()
        model = self._resolve(head)
        with self._choose(model) as lease:
            plan = await self._prepare(model, lease, head)
            del head  # its members are the body, and the answer may take minutes
            ending = await self._attempt(plan, lease)
        if ending.fault is not None and not self.reply.started:
            raise RequestFailed(ending.fault)
        self._settle(ending.outcome, ending.fault)

    async def _admit(self) -> None:
        self._service.check_room()
        self._client = authenticate(self._request.headers, self._registry.clients)
        if self._client is not None:
            self.account.client = self._client.name
        self._body = await read_body(self._request, self._registry.limits.max_body_bytes)
        self.account.bytes_in = len(self._body)

    def _decode(self) -> RequestHead:
        self.account.phase = "decode"
        if self._ask.refusal is not None:
            raise RequestFailed(self._ask.refusal)
        try:
            head = self._dialect.peek(self._body)
        except BadPayload as error:
            raise RequestFailed(client_fault(FaultKind.INVALID_REQUEST, str(error))) from error
        if self._ask.stream is not None:
            head = msgspec.structs.replace(head, stream=self._ask.stream)
        self.account.stream = head.stream
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

    async def _prepare(self, model: Model, lease: Lease, head: RequestHead) -> Plan:
        """Decide how to answer, and make the bytes to send."""
        account = self.account
        account.phase = "decode"
        plan = plan_for(self._ask, self._registry, model, lease, head, account.request_id)
        account.exact = plan.exact is not None
        body, account.dropped = upstream_body(
            self._ask, self._registry, model, plan, head, self._body
        )
        self._body = b""  # a prompt may be large, and the answer may take minutes
        account.phase = "connect"
        call = UpstreamCall(plan.route, body, plan.stream, account.request_id)
        self._outgoing = await model.provider.prepare(call, lease.endpoint)
        return plan

    async def _attempt(self, plan: Plan, lease: Lease) -> Ending:
        """One call, and once more if a kept connection turns out to have died in the meantime.

        That is safe: the upstream answered nothing, and its own idle limit is why.
        """
        ending, stale = await self._call(plan, lease, fresh=False)
        if stale and ending.unanswered:
            ending, _ = await self._call(plan, lease, fresh=True)
        return ending

    async def _call(self, plan: Plan, lease: Lease, *, fresh: bool) -> tuple[Ending, bool]:
        """How a call ended, and whether it went out on a connection that had served before."""
        account, service = self.account, self._service
        kind = StreamRelay if plan.stream else WholeRelay
        relay = self._relay = kind(plan, self.reply, account, on_answer=self._forget_request)
        account.attempts += 1
        service.sweep.add(relay)
        try:
            reused = await service.upstream.send(
                self._outgoing,
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
            relay.abandon()  # whatever brought us here, no connection is left behind
            ending = relay.ending or Ending(Outcome.CLIENT_GONE)
            verdict = verdict_of(ending.outcome, ending.fault)
            service.metrics.count_attempt(account.model, account.endpoint, verdict)

    def _forget_request(self) -> None:
        """The server answers: what it was sent will not be sent again."""
        self._outgoing = _NOTHING

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


def _content_type(name: str) -> bytes:
    line = b"content-type: %b\r\n" % name.encode()
    # A text may quote what was sent: no browser may take it for a page.
    return line + b"x-content-type-options: nosniff\r\n" if name.startswith("text/") else line


def request_id_of(request: web.BaseRequest) -> str:
    """The client's own request id where it can be passed on safely, else a new one."""
    given = request.headers.get("x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return f"{_PROCESS_ID}-{next(_COUNTER):08x}"
