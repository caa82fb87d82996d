"""What is examined: one endpoint, with the requests that penstock would send to it."""

from __future__ import annotations

import ssl

import msgspec
from msgspec.structs import replace

from parsers.chat import Operation
from parsers.dialects import policy
from parsers.dialects.base import ClientDialect
from parsers.dialects.completions import OPENAI_COMPLETIONS
from parsers.dialects.openai import OPENAI_CHAT
from proxy.doctor.redaction import Redaction, secrets_in
from proxy.doctor.wire import Answer, Wire
from proxy.endpoints import Endpoint
from proxy.origin import Origin, parse_origin
from proxy.providers.base import Provider, Route, UpstreamCall, UpstreamRequest
from proxy.registry import Model, Registry
from proxy.resolver import addresses_of

_PROMPT = "Count from 1 to 1000, in digits, and write nothing else."
_REQUEST_ID = "penstock-doctor"


class Target(msgspec.Struct, frozen=True):
    """An endpoint and the model it is examined with; None where no model is served there."""

    provider: Provider
    endpoint: Endpoint
    model: Model | None
    hidden: tuple[str, ...]  # what its answers may quote and nobody must read


class Subject:
    """A target within reach."""

    def __init__(self, target: Target, tls: ssl.SSLContext, seconds: float) -> None:
        self.provider = target.provider
        self.endpoint = target.endpoint
        self.model = target.model
        self.origin: Origin = replace(
            parse_origin(target.endpoint.url), address=target.endpoint.address
        )
        self.wire = Wire(self.origin, tls, seconds)
        self._hidden = set(target.hidden)

    @property
    def client(self) -> ClientDialect:
        """How the model is asked."""
        has_chat = self.model is None or "chat" in self.model.capabilities
        return OPENAI_CHAT if has_chat else OPENAI_COMPLETIONS

    @property
    def route(self) -> Route | None:
        """Where the model is asked; None where its provider does no such work."""
        return None if self.model is None else self.model.provider.route_for(self.client)

    @property
    def redaction(self) -> Redaction:
        """Takes out every secret that was sent so far."""
        return Redaction(self._hidden)

    async def get(self, path: str, base_path: str | None = None) -> Answer:
        """What is answered at a path beside `/v1`, or below this one."""
        endpoint = self.endpoint
        if base_path is not None:  # the slash keeps what follows: it is taken as it stands
            endpoint = replace(endpoint, base_path="")
        head = self.provider.check_head(endpoint, (base_path or "") + path)
        self._hidden.update(secrets_in(head))
        return await self.wire.get(head)

    async def question(self, max_tokens: int) -> UpstreamRequest:
        """A question that takes so many tokens to answer, as penstock would ask it for a client."""
        model, route = self.model, self.route
        assert model is not None  # noqa: S101 - the caller looked
        assert route is not None  # noqa: S101 - and here
        request = self.client.decode_request(_asked(self.client, max_tokens))
        request = replace(request, stream=True, include_usage=self.provider.asks_usage)
        request, _ = policy.settle(request, route.dialect.spoken, route.dialect.name)
        body = route.dialect.encode_request(request, model.upstream_name)
        call = UpstreamCall(route, body, stream=True, request_id=_REQUEST_ID)
        outgoing = await model.provider.prepare(call, self.endpoint)
        self._hidden.update(secrets_in(outgoing.head))
        return outgoing


def targets(registry: Registry, provider: str | None) -> list[Target]:
    """Every endpoint of the configuration, or of one provider."""
    found: dict[tuple[str, str], Target] = {}
    for model in registry.models.values():
        if provider in (None, model.provider.id):
            for endpoint in model.provider.endpoints:
                key = (model.provider.id, endpoint.url)
                if key not in found or _suits(model) > _suits(found[key].model):
                    hidden = _hidden(registry, model, endpoint)
                    found[key] = Target(model.provider, endpoint, model, hidden)
    return list(found.values())


async def each_address(target: Target) -> list[Target]:
    """The target once for each address, where each behind its name is an endpoint of its own."""
    endpoint = target.endpoint
    addresses = await addresses_of(endpoint) if endpoint.resolve_all else ()
    return [
        replace(target, endpoint=replace(endpoint, name=f"{endpoint.name} at {one}", address=one))
        for one in addresses
    ] or [target]


def _suits(model: Model | None) -> bool:
    return model is not None and "chat" in model.capabilities


def _hidden(registry: Registry, model: Model, endpoint: Endpoint) -> tuple[str, ...]:
    secrets = registry.config.hidden.of(model.provider.id)
    secrets += model.provider.secrets_for(endpoint)
    return (model.upstream_name, *secrets) if model.hides_name else secrets


def _asked(client: ClientDialect, max_tokens: int) -> bytes:
    asked: dict[str, object] = {"model": "", "max_tokens": max_tokens}
    if client.operation is Operation.CHAT:
        asked["messages"] = [{"role": "user", "content": _PROMPT}]
    else:
        asked["prompt"] = _PROMPT
    return msgspec.json.encode(asked)
