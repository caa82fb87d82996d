"""The front door: refuses malformed heads, then finds the handler of a request.

aiohttp's application would do this too, at a tenth of a request's cost: it walks a resource tree,
wraps every handler in its middlewares and builds a match object. Here a path without a parameter
is one look-up, and the few patterns with a model's reference in them are tried after that.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import msgspec
from aiohttp import hdrs, web

from parsers.chat import Operation
from parsers.dialects.anthropic import ANTHROPIC
from parsers.dialects.base import ClientDialect
from parsers.dialects.openai import OPENAI_CHAT
from parsers.dialects.sourcegraph import dialect_for
from parsers.dialects.tgi import TGI
from parsers.events import Fault, FaultKind
from proxy.admission import malformed
from proxy.api.server import NAME
from proxy.errors import RequestFailed, client_fault, status_of
from proxy.reply import Reply

# A handler gets the model's reference where its path has one, else an empty text.
Handler: TypeAlias = Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]]

_REF = "{ref}"
_SOURCEGRAPH = dialect_for(Operation.CHAT, None)


class Route(msgspec.Struct, frozen=True):
    """A method (`*` for all others), a path, its handler.

    `{ref}` in the path stands for a model's reference, slashes and all.
    """

    method: str
    path: str
    handler: Handler


class Door:
    """The handler of all requests of one listener."""

    def __init__(self, routes: Iterable[Route], leaving: Callable[[], bool] = bool) -> None:
        routes = tuple(routes)
        self._leaving = leaving  # then no connection is kept after its answer
        self._exact = _by_path(route for route in routes if _REF not in route.path)
        self._patterns = [
            (_pattern(path), handlers)
            for path, handlers in _by_path(r for r in routes if _REF in r.path).items()
        ]

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the request, or refuse it in the dialect of its path."""
        fault = malformed(request)
        if fault is not None:
            return _turned_away(request, fault)
        ref = ""
        handlers = self._exact.get(request.raw_path)  # as sent: the usual client escapes nothing
        if handlers is None:
            handlers, ref = self._matched(request.path)
        handler = handlers.get(request.method) or handlers.get(hdrs.METH_ANY)
        if handler is None:
            return _lost(request, handlers)
        try:
            answer = await handler(request, ref)
        except RequestFailed as failure:
            answer = _refusal(request, failure.fault)
        if not answer.prepared:  # aiohttp writes it
            _finish(request, answer)
        if self._leaving():
            answer.force_close()
        return answer

    def _matched(self, path: str) -> tuple[dict[str, Handler], str]:
        handlers = self._exact.get(path)
        if handlers is not None:
            return handlers, ""
        for pattern, handlers in self._patterns:
            match = pattern.fullmatch(path)
            if match is not None:
                return handlers, match[1]
        return {}, ""


def _by_path(routes: Iterable[Route]) -> dict[str, dict[str, Handler]]:
    found: dict[str, dict[str, Handler]] = {}
    for route in routes:
        handlers = found.setdefault(route.path, {})
        handlers[route.method] = route.handler
        if route.method == hdrs.METH_GET:
            handlers[hdrs.METH_HEAD] = route.handler
    return found


def _pattern(path: str) -> re.Pattern[str]:
    before, _, after = path.partition(_REF)
    return re.compile(f"{re.escape(before)}(.+){re.escape(after)}", re.DOTALL)


def _lost(request: web.BaseRequest, handlers: dict[str, Handler]) -> web.Response:
    """No such route, or not by this method."""
    if not handlers:
        text = "there is no such route"
        return _refusal(request, client_fault(FaultKind.INVALID_REQUEST, text, status=404))
    text = "the method is not allowed"
    answer = _refusal(request, client_fault(FaultKind.INVALID_REQUEST, text, status=405))
    answer.headers[hdrs.ALLOW] = ", ".join(sorted(handlers))
    return answer


def _refusal(request: web.BaseRequest, fault: Fault) -> web.Response:
    dialect = _dialect_of(request)
    status = status_of(fault)
    headers = {hdrs.CONTENT_TYPE: dialect.error_content_type}
    answer = web.Response(body=dialect.encode_error(fault, status), status=status, headers=headers)
    _finish(request, answer)
    return answer


def _turned_away(request: web.BaseRequest, fault: Fault) -> Reply:
    """The end of a connection that is not to be trusted any more.

    In our own version: aiohttp answers in that of the request, whatever it says.
    """
    dialect = _dialect_of(request)
    status = status_of(fault)
    body = b"" if request.method == hdrs.METH_HEAD else dialect.encode_error(fault, status)
    reply = Reply(request)
    reply.close_after()
    reply.send(status, b"content-type: %b\r\n" % dialect.error_content_type.encode(), body)
    return reply


def _finish(request: web.BaseRequest, answer: web.StreamResponse) -> None:
    """Say who answers and nothing of what we are made of; end with a request that is not whole."""
    answer.headers[hdrs.SERVER] = NAME
    if not request.content.is_eof():
        answer.force_close()


def speaks_anthropic(request: web.BaseRequest) -> bool:
    """Whether a request for what both vendors have is one of Anthropic's clients."""
    return "anthropic-version" in request.headers


def _dialect_of(request: web.BaseRequest) -> ClientDialect:
    path = request.path
    if path.startswith("/v1/messages") or (
        path.startswith("/v1/models") and speaks_anthropic(request)
    ):
        return ANTHROPIC
    if path.startswith(("/v1", "/.api/llm/")):
        return OPENAI_CHAT
    return _SOURCEGRAPH if path.startswith("/.api/") else TGI
