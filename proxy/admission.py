"""Who may enter: well-formed requests, of a known client, of a size and pace we can hold."""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Mapping

from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, hdrs, web

from parsers.events import Fault, FaultKind
from proxy.errors import RequestFailed, client_fault
from proxy.registry import Client, key_digest

BODY_SECONDS = 30.0  # how long a request's body may take to arrive
# Names and texts of a request. To read as many takes some 50 ms, for which all others wait: no
# thread would help, as msgspec keeps the interpreter's lock. A message has four of them.
MAX_STRINGS = 50_000
MAX_HEADER_BYTES = 64 * 1024  # all header lines together; aiohttp bounds each to 8 KiB

# RFC 9112 3.2: an empty Host is no host, and neither is one with a user, a path or a list in it.
_HOST = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+;=-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?")
_KEY_SCHEMES = ("bearer", "token")
# Sourcegraph's `token-sudo user="<name>",token="<key>"`: RFC 9110 11.2, in any order.
_SUDO_SCHEME = "token-sudo"
_PARAMETER = r"""([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))"""
_PARAMETERS = re.compile(rf"{_PARAMETER}(?:[ \t]*,[ \t]*{_PARAMETER})*")
_EACH_PARAMETER = re.compile(_PARAMETER)
_ESCAPED = re.compile(r"\\(.)")


def malformed(request: web.BaseRequest) -> Fault | None:
    """What is wrong with a request's head that aiohttp lets pass, or None.

    These are the gaps of the bare server: ambiguous framing, foreign targets, odd versions.
    """
    headers, version, path = request.headers, request.version, request.raw_path
    if version not in (HttpVersion11, HttpVersion10):
        return _bad("this server speaks HTTP/1.1 and HTTP/1.0", 505)
    if request.method in (hdrs.METH_CONNECT, hdrs.METH_TRACE):
        return _bad("this is not a forward proxy", 405)
    if path[:1] != "/" or "#" in path:
        return _bad("the request target must be a path")
    if not _HOST.fullmatch(headers.get(hdrs.HOST, "")) and version == HttpVersion11:
        return _bad("the Host header is missing or malformed")
    if len(headers) > 7 and _header_bytes(request) > MAX_HEADER_BYTES:
        return _bad("the headers are too large", 431)
    return _ambiguous_framing(headers, version)


def _header_bytes(request: web.BaseRequest) -> int:
    return sum([len(name) + len(value) for name, value in request.raw_headers])


def _ambiguous_framing(headers: Mapping[str, str], version: HttpVersion) -> Fault | None:
    encoding = headers.get(hdrs.TRANSFER_ENCODING)
    if encoding is not None:
        if version != HttpVersion11:
            return _bad("Transfer-Encoding needs HTTP/1.1")
        if encoding.strip().lower() != "chunked" or hdrs.CONTENT_LENGTH in headers:
            return _bad("the request's framing is ambiguous")
    if "Transfer_Encoding" in headers or "Content_Length" in headers:
        return _bad("header names with underscores are refused")
    return None


def _bad(message: str, status: int = 400) -> Fault:
    return client_fault(FaultKind.INVALID_REQUEST, message, status=status)


async def read_body(request: web.BaseRequest, limit_bytes: int) -> bytes:
    """The request's body.

    Raises RequestFailed over the limit, when it comes too slowly, and when it is malformed.
    """
    if hdrs.CONTENT_ENCODING in request.headers:
        raise RequestFailed(_bad("compressed requests are not accepted", 415))
    if request.content.is_eof():  # usually it came in one read with the head
        body = request.content.read_nowait()
        if len(body) > limit_bytes:
            raise RequestFailed(_too_large(limit_bytes))
        return body
    if (request.content_length or 0) > limit_bytes:
        raise RequestFailed(_too_large(limit_bytes))
    _ask_for_it(request)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await _read(request, limit_bytes)
    except TimeoutError:
        message = f"the request's body did not arrive within {BODY_SECONDS:g} s"
        raise RequestFailed(client_fault(FaultKind.TIMEOUT, message)) from None
    except web.RequestPayloadError:
        raise RequestFailed(_bad("the request's body is malformed")) from None


def _ask_for_it(request: web.BaseRequest) -> None:
    """Tell a client that asks first (`Expect: 100-continue`) to send its body.

    Only once nothing speaks against it, which is what such a client wants to know.
    """
    expected = request.headers.get(hdrs.EXPECT, "").lower() == "100-continue"
    if expected and request.version == HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def _read(request: web.BaseRequest, limit_bytes: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while piece := await request.content.readany():
        pieces.append(piece)
        size += len(piece)
        if size > limit_bytes:
            raise RequestFailed(_too_large(limit_bytes))
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def check_strings(body: bytes) -> None:
    """Raise RequestFailed for JSON that takes long to read, whatever its size and shape."""
    if len(body) <= 3 * MAX_STRINGS or body.count(b'"') <= 2 * MAX_STRINGS:
        return
    if body.count(b'"') - body.count(b'\\"') > 2 * MAX_STRINGS:  # quotes in texts are no strings
        raise RequestFailed(_bad(f"the request has more than {MAX_STRINGS} names and texts"))


def _too_large(limit_bytes: int) -> Fault:
    message = f"the request's body is larger than {limit_bytes} bytes"
    return client_fault(FaultKind.TOO_LARGE, message)


def authenticate(headers: Mapping[str, str], clients: Mapping[bytes, Client]) -> Client | None:
    """The client whose key the headers carry; None where the configuration names no clients.

    `clients` is by the SHA-256 of the key. Raises RequestFailed for a missing or unknown key.
    """
    if not clients:
        return None
    key = presented_key(headers)
    if key is None:
        raise RequestFailed(_unauthenticated("an API key is required"))
    digest = key_digest(key)
    client = clients.get(digest)
    if client is None or not hmac.compare_digest(client.key_digest, digest):
        raise RequestFailed(_unauthenticated("the API key is not known"))
    return client


def _unauthenticated(message: str) -> Fault:
    return client_fault(FaultKind.UNAUTHENTICATED, message)


def presented_key(headers: Mapping[str, str]) -> str | None:
    """The key in `Authorization: Bearer|token|token-sudo`, else in `x-api-key`, else in `api-key`.

    The first that is there counts, for clients often send one of ours and one of somebody else's;
    Authorization of another scheme, as a front's own, is none. None without a key.
    """
    scheme, _, key = headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    scheme = scheme.lower()
    if scheme in _KEY_SCHEMES and (key := key.strip()):
        return key
    if scheme == _SUDO_SCHEME and (key := _sudo_key(key.strip())):
        return key
    return headers.get("x-api-key") or headers.get("api-key")


def _sudo_key(text: str) -> str:
    """The one `token` among the parameters, else nothing. Whose name stands beside it is no matter.

    In the original a site's admin acts as that user; here a key is a client, and nobody else.
    """
    if _PARAMETERS.fullmatch(text) is None:
        return ""
    found = [(name, quoted or bare) for name, quoted, bare in _EACH_PARAMETER.findall(text)]
    tokens = [value for name, value in found if name.lower() == "token"]
    return _ESCAPED.sub(r"\1", tokens[0]) if len(tokens) == 1 else ""
