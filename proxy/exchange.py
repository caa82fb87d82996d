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
from proxy.admission import authenticate, check_strings, read_body
from proxy.attempts import Asked, Attempts
from proxy.capture import RequestCapture
from proxy.errors import RequestFailed, client_fault, proxy_fault, status_of
from proxy.forwarded import client_address
from proxy.outcome import Account, Outcome, outcome_of_fault
from proxy.planning import Ask, id_line
from proxy.quota import user_of
from proxy.registry import Client, Model, Registry
from proxy.relay import Ending
from proxy.reply import EVENT_STREAM, Reply
from proxy.request_line import request_line
from proxy.service import Service, drained_fault
from proxy.trace import kept_trace

_logger = logging.getLogger(__name__)

# After these the client may still be sending its body.
_CLOSING = (FaultKind.TOO_LARGE, FaultKind.TIMEOUT, FaultKind.UNAUTHENTICATED)

# Unique without asking the kernel for randomness on every request.
_PROCESS_ID = secrets.token_hex(8)
_COUNTER = count(1)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class Exchange:
    """Runs one request. It has exactly one outcome, whatever happens."""

    def __init__(self, service: Service, request: web.BaseRequest, ask: Ask) -> None:
        self._service = service
        self._request = request
        self._dialect = ask.dialect
        self._ask = ask
        self._registry: Registry = service.registry
        self._attempts: Attempts | None = None
        self._client: Client | None = None
        self._body = b""  # as the client sent it, until a model is asked
        self._drained: Fault | None = None
        self._capture: RequestCapture | None = None  # None: nobody wants to see it
        self._limits = b""  # what a request too many is told of its user's limit
        self.reply = Reply(request)
        self.account = Account(
            request_id=request_id_of(request),
            started=monotonic(),
            dialect=ask.dialect.name,
            generation=self._registry.generation,
            trace_id=kept_trace(request.headers),
        )

    async def run(self) -> Reply:
        """Answer the request; raises only CancelledError, when the client has gone."""
        self._service.enter(self)
        if self._service.captures.on:
            self._capture = self._service.captures.begin(self._request, self.account, self.reply)
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
            if self._capture is not None:
                self._capture.end(msgspec.to_builtins(request_line(self.account)))
            if self._attempts is not None:
                self._attempts.relay = None  # it holds them: what counting frees needs no collector
        return self.reply

    def report(self) -> None:
        """Bring the account up to date."""
        if self._attempts is not None and self._attempts.relay is not None:
            self._attempts.relay.report()

    def be_last(self) -> None:
        """The proxy leaves: a client that keeps its connections would keep it too."""
        self.reply.close_after()

    def drain(self) -> None:
        """The proxy must go, and will not wait any longer for this request."""
        fault = drained_fault()
        relay = None if self._attempts is None else self._attempts.relay
        if relay is not None and relay.is_answering:
            relay.fail(fault)
        else:  # it still waits for the request, or for a connection
            self._drained = fault
            self._request.task.cancel()

    # -- the phases

    async def _phases(self) -> None:
        await self._admit()
        head = self._decode()
        model = self._resolve(head)
        self._count()
        attempts = self._attempts = self._attempts_for(head)
        del head  # its members are the body, and the answer may take minutes
        ending = await attempts.run(model)
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
        if self._capture is not None:
            self._capture.received(self._body)

    def _decode(self) -> RequestHead:
        self.account.phase = "decode"
        if self._ask.refusal is not None:
            raise RequestFailed(self._ask.refusal)
        check_strings(self._body)
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

    def _attempts_for(self, head: RequestHead) -> Attempts:
        body, self._body = self._body, b""  # theirs to keep, and to forget
        attempts = Attempts(
            self._service,
            self._registry,
            Asked(self._ask, head, body, self._request.headers, self._client),
            self.reply,
            self.account,
        )
        if self._capture is not None:
            attempts.upstream = self._capture.over(self._service.upstream)
        return attempts

    def _count(self) -> None:
        """One more of its user's requests today. Raises RequestFailed for one too many."""
        daily, operation = self._registry.config.daily, self._dialect.operation
        limit = daily.limits_somebody and daily.limit(self.account.client, operation)
        if not limit:
            return
        request = self._request
        address = client_address(request.remote, request.headers, self._registry.trusted_proxies)
        user = user_of(self._client, address)
        excess = self._service.quotas.take(user, operation, limit)
        if excess is not None:
            self._limits = excess.headers
            raise RequestFailed(excess.fault)

    # -- the ends

    def _refuse(self, fault: Fault) -> None:
        """Tell the client, in its own dialect, why there is no answer."""
        self._settle(outcome_of_fault(fault), fault)
        if self.reply.started:  # a bug came in mid-stream: never dress it as an end
            self.reply.cut()
            return
        status = self._dialect.error_status(
            fault,
            status_of(fault),
            streaming=self._attempts is not None and self._attempts.streamed,
        )
        self.account.status = status
        is_whole = self._request.content.is_eof()
        if not is_whole or (fault.origin == "client" and fault.kind in _CLOSING):
            self.reply.close_after()  # the rest of the body is still on its way
        headers = self._error_headers(fault)
        if status == 200:
            frame = self._dialect.error_frame(fault, status)
            self.reply.start(headers + EVENT_STREAM, frame, whole=True)
            return
        headers += _content_type(self._dialect.error_content_type)
        self.reply.send(status, headers, self._dialect.encode_error(fault, status))

    def _error_headers(self, fault: Fault) -> bytes:
        lines = b"x-request-id: %b\r\n" % self.account.request_id.encode() + self._limits
        lines += id_line(self._ask, self.account.request_id)
        if fault.retry_after is not None:
            lines += b"retry-after: %d\r\n" % ceil(fault.retry_after)
        if self._attempts is not None:
            lines += self._attempts.error_headers
        return lines

    def _abandon(self) -> None:
        """The client has gone, in whatever phase."""
        relay = None if self._attempts is None else self._attempts.relay
        if relay is None:
            self._settle(Outcome.CLIENT_GONE, None)
            return
        relay.abandon()
        ending = relay.ending or Ending(Outcome.CLIENT_GONE)
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
