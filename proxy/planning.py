"""How one request is to be answered: by which route, exact or translated, within which limits.

Everything here decides and nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import TypeAlias

import msgspec

from parsers.chat import Request
from parsers.dialects import policy
from parsers.dialects.base import (
    ClientDialect,
    ExactDialect,
    Identity,
    Renamer,
    RequestHead,
    Untranslatable,
)
from parsers.errors import BadPayload
from parsers.events import Fault, FaultKind
from proxy.config.schema import Timeouts
from proxy.endpoints import Endpoint, Lease
from proxy.errors import RequestFailed, client_fault
from proxy.providers.base import Route
from proxy.registry import Model, Registry
from proxy.relay import Plan

# On the exact path an answer keeps the name that the upstream gave it.
_UPSTREAMS_OWN = Identity("", 0, "")
_MAX_HEADER_CHARS = 1024  # of a client's header that is passed on

# Finds the model that a request means. Raises RequestFailed.
Resolve: TypeAlias = Callable[[Registry, RequestHead], Model]
# A request with what its surface adds once the model is known; never on the exact path.
Complete: TypeAlias = Callable[[Registry, Request, Model], Request]
# The dialect of an answer by this model; of the same name and operation as the request's.
AnswersIn: TypeAlias = Callable[[Model], ClientDialect]


class Ask(msgspec.Struct, frozen=True):
    """What a route already says of a request."""

    dialect: ClientDialect
    model: str = ""  # named by the path
    stream: bool | None = None  # None: the body says
    refusal: Fault | None = None  # what is wrong with the head, for a client we know
    total_seconds: float | None = None  # the client's own limit; None: the configured one
    resolve: Resolve | None = None  # None: by any spelling of the name
    complete: Complete | None = None
    answers_in: AnswersIn | None = None  # None: `dialect`
    exact: ExactDialect | None = None  # `dialect`, where the upstream's bytes may be the answer
    id_header: bytes = b""  # where its clients look for the request's id, beside x-request-id


def plan_for(
    ask: Ask, registry: Registry, model: Model, lease: Lease, head: RequestHead, request_id: str
) -> Plan:
    """How to answer. Raises RequestFailed where the model's provider does no such work."""
    route = model.provider.route_for(ask.dialect)
    if route is None:
        raise RequestFailed(_invalid(f'the model "{model.label}" does no {ask.dialect.operation}'))
    exact = _exact(ask, model, route)
    is_renamed = exact is None or model.hides_name
    return Plan(
        client=ask.dialect if ask.answers_in is None else ask.answers_in(model),
        route=route,
        identity=_identity(request_id, model) if is_renamed else _UPSTREAMS_OWN,
        exact=exact,
        stream=head.stream,
        include_usage=head.include_usage or not model.provider.asks_usage,
        timeouts=_timeouts(model.pool.rules.timeouts, ask.total_seconds),
        limits=registry.limits,
        keep_alive=model.pool.rules.keep_alive,
        headers=id_line(ask, request_id) if ask.id_header else b"",
        hidden=partial(_secrets_of, registry, model, lease.endpoint),
    )


def upstream_body(
    ask: Ask, registry: Registry, model: Model, plan: Plan, head: RequestHead, body: bytes
) -> tuple[bytes, tuple[str, ...]]:
    """What to send to the model server, and the names of the hints it will not be told.

    Raises RequestFailed for what it cannot be asked.
    """
    dialect, asks_usage = plan.route.dialect, model.provider.asks_usage
    try:
        asked = ask.dialect.decode_request(body) if plan.exact is None else None
        if ask.exact is not None and _keeps_request(ask.exact, plan):
            exact = ask.exact.forward(
                body,
                model.upstream_name,
                usage=asks_usage,
                amend=dialect.amend,
                members=head.members,
            )
            return exact, ()
        assert asked is not None  # noqa: S101 - on the exact path the request is kept
        request = msgspec.structs.replace(asked, stream=plan.stream, include_usage=asks_usage)
        if ask.complete is not None:
            request = ask.complete(registry, request, model)
        if plan.route.needs_limit:
            request = _limited(request, model)
        request, lost = policy.settle(request, dialect.spoken, dialect.name)
        return dialect.encode_request(request, model.upstream_name), lost
    except BadPayload as error:
        raise RequestFailed(_invalid(str(error))) from error
    except Untranslatable as error:
        raise RequestFailed(_invalid(str(error.named(ask.dialect.words)))) from error


def id_line(ask: Ask, request_id: str) -> bytes:
    """The header line that names a request as its clients expect; empty if x-request-id does."""
    return b"%b: %b\r\n" % (ask.id_header, request_id.encode()) if ask.id_header else b""


def passed_headers(plan: Plan, headers: Mapping[str, str]) -> bytes:
    """Those of the client's headers that a server of its own dialect gets to see, as lines."""
    names = plan.route.client_headers
    if not names or not _speaks_alike(plan.client, plan.route):
        return b""
    lines = b""
    for name in names:
        value = headers.get(name, "")
        if value and value.isascii() and value.isprintable() and len(value) <= _MAX_HEADER_CHARS:
            lines += f"{name}: {value}\r\n".encode()
    return lines


def _limited(request: Request, model: Model) -> Request:
    """The request with a limit for its answer: the model's, where the client named none."""
    if request.sampling.max_tokens is not None:
        return request
    sampling = msgspec.structs.replace(request.sampling, max_tokens=model.max_output_tokens)
    return msgspec.structs.replace(request, sampling=sampling)


def _exact(ask: Ask, model: Model, route: Route) -> ExactDialect | None:
    """The client's dialect, where the answer may be the server's.

    Servers name the model in every chunk: nothing to hide, or a dialect that can rename an answer.
    """
    if ask.exact is None or not _speaks_alike(ask.dialect, route):
        return None
    return None if model.hides_name and not isinstance(ask.exact, Renamer) else ask.exact


def _keeps_request(exact: ExactDialect, plan: Plan) -> bool:
    """Whether the server gets the client's own request, though its answer may be translated.

    Then a request has been decoded all the same: what an answer in our words could not tell is
    refused. Not where later requests refer to the server's answer by names that we replace.
    """
    if plan.exact is not None:
        return True
    return _speaks_alike(exact, plan.route) and not exact.remembers


def _speaks_alike(client: ClientDialect, route: Route) -> bool:
    return route.dialect.name == client.name


def _identity(request_id: str, model: Model) -> Identity:
    return Identity(request_id, int(datetime.now(UTC).timestamp()), model.label)


def _timeouts(configured: Timeouts, total_seconds: float | None) -> Timeouts:
    """The configured limits, shortened to the client's own where it named one (B-21)."""
    if total_seconds is None:
        return configured
    total_seconds = max(total_seconds, configured.client_min_seconds)
    return msgspec.structs.replace(
        configured,
        connect_seconds=min(configured.connect_seconds, total_seconds),
        total_seconds=min(configured.total_seconds, total_seconds),
    )


def _secrets_of(registry: Registry, model: Model, endpoint: Endpoint) -> tuple[str, ...]:
    """What the upstream is sent and the client must not see."""
    secrets = registry.config.hidden.of(model.provider.id) + model.provider.secrets_for(endpoint)
    return (model.upstream_name, *secrets) if model.hides_name else secrets


def _invalid(message: str) -> Fault:
    return client_fault(FaultKind.INVALID_REQUEST, message)
