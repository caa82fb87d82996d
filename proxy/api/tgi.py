"""TGI's own API; every route also stands under `/models/{ref}`, which names the model.

Without a name it is the default model for completions, so a sidecar with one model needs none.
"""

from __future__ import annotations

from aiohttp import web

from parsers.chat import Operation
from parsers.dialects.passthrough import DETOKENIZE, TOKENIZE
from parsers.dialects.tgi import TGI, TGI_COMPAT
from parsers.events import FaultKind
from proxy import __version__
from proxy.api.door import Route
from proxy.api.surface import client_of, exchange, json_answer
from proxy.errors import RequestFailed, client_fault
from proxy.registry import Model
from proxy.service import Service


def routes(service: Service) -> list[Route]:
    """The routes of this surface."""

    async def health(_: web.BaseRequest, __: str) -> web.Response:
        return web.Response(status=503 if service.draining else 200)

    async def info(request: web.BaseRequest, ref: str) -> web.Response:
        client = client_of(service, request)
        model = service.registry.resolve(ref, Operation.COMPLETION)
        if client is not None and not client.may_use(model):
            message = "this key may not use the model"
            raise RequestFailed(client_fault(FaultKind.FORBIDDEN, message))
        return json_answer(described(model, service.registry.limits.max_concurrent_requests))

    return [
        route
        for prefix in ("", "/models/{ref}")
        for route in (
            Route("POST", f"{prefix}/generate", exchange(service, TGI, stream=False)),
            Route("POST", f"{prefix}/generate_stream", exchange(service, TGI, stream=True)),
            Route("POST", f"{prefix}/", exchange(service, TGI_COMPAT)),
            # vLLM and llama.cpp have these at the same place, in words of their own.
            Route("POST", f"{prefix}/tokenize", exchange(service, TOKENIZE)),
            Route("POST", f"{prefix}/detokenize", exchange(service, DETOKENIZE)),
            Route("GET", f"{prefix}/health", health),
            Route("GET", f"{prefix}/info", info),
        )
    ] + [Route("POST", "/models/{ref}", exchange(service, TGI_COMPAT))]


def described(model: Model, max_concurrent_requests: int) -> dict[str, object]:
    """A model in the form of TGI's `/info`: what is known here, and nothing made up."""
    return {
        "model_id": model.label,
        "max_concurrent_requests": max_concurrent_requests,
        "max_input_tokens": model.max_input_tokens,
        "max_total_tokens": model.max_input_tokens + model.max_output_tokens,
        "router": "penstock",
        "version": __version__,
    }
