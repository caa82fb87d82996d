"""What the head of a Cody request says, and what is wrong with it, in the order of spec 3.2."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

import msgspec
from aiohttp import web

from parsers.events import Fault, FaultKind
from proxy.config.load import Config
from proxy.config.wording import quoted
from proxy.errors import client_fault

_logger = logging.getLogger(__name__)

_MILLISECONDS = re.compile(r"[+-]?[0-9]{1,12}")
_API_VERSION = re.compile(r"[1-9]")
# As the original reads them: "v" before and zeros behind may be missing.
_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_SEMVER = re.compile(
    rf"v?([0-9]{{1,18}})(?:\.([0-9]{{1,18}}))?(?:\.([0-9]{{1,18}}))?(-{_IDENTIFIERS})?(?:\+{_IDENTIFIERS})?"
)

_NOT_ENABLED = client_fault(
    FaultKind.INVALID_REQUEST, "cody is not enabled: cody is disabled", status=401
)
_UNSUPPORTED_VERSION = client_fault(
    FaultKind.INVALID_REQUEST, "Unsupported API Version (Please update your client)", status=406
)

# The first versions that know of context filters. Cody Web comes with its server.
_FIRST_RELEASES = {"vscode": (1, 20, 0), "jetbrains": (6, 0, 0)}
_ALWAYS_RECENT = "web"


class Head(msgspec.Struct, frozen=True):
    """What a request's head says before anybody looks into its body."""

    version: int | None = None  # of the API; None where the client names none, the oldest
    total_seconds: float | None = None  # as sent: the plan keeps it within its range (B-21)
    refusal: Fault | None = None


def head_of(request: web.BaseRequest, config: Config) -> Head:
    """The head of a request to one of the two completion routes."""
    seconds = _timeout_seconds(request)
    if not config.serves_cody:
        return Head(None, seconds, _NOT_ENABLED)
    text = request.query.get("api-version", "")
    if text and _API_VERSION.fullmatch(text) is None:
        return Head(None, seconds, _UNSUPPORTED_VERSION)
    refusal = too_old(request.query) if config.wants_recent_clients else None
    return Head(int(text) if text else None, seconds, refusal)


def check_enabled(config: Config) -> Fault | None:
    """What is wrong with any request of a Cody client; None where they are served."""
    return None if config.serves_cody else _NOT_ENABLED


def too_old(query: Mapping[str, str]) -> Fault | None:
    """Why this client cannot be trusted to apply context filters; None where it can."""
    name, version = query.get("client-name", ""), query.get("client-version", "")
    if not name:
        return _incompatible(406, '"client-name" query param is required.')
    if name == _ALWAYS_RECENT:
        return None
    if not version:
        return _incompatible(406, '"client-version" query param is required.')
    client = f"Cody for {_shown(name)} version {quoted(version)}"
    match = _SEMVER.fullmatch(version)
    if match is None:
        return _incompatible(400, f"{client} doesn't follow semver spec.")
    first = _FIRST_RELEASES.get(name)
    given = tuple(int(number or 0) for number in match.group(1, 2, 3))
    # A pre-release is of no version that such a constraint names.
    if first is None or (given >= first and match[4] is None):
        return None
    least = ".".join(map(str, first))
    wanted = f'doesn\'t match version constraint ">= {least}". Please upgrade your client.'
    return _incompatible(406, f"{client} {wanted}")


def _shown(name: str) -> str:
    return quoted(name)[1:-1]


def _incompatible(status: int, text: str) -> Fault:
    message = f"ClientCodyIgnoreCompatibilityError: {text}"
    return client_fault(FaultKind.INVALID_REQUEST, message, status=status)


def _timeout_seconds(request: web.BaseRequest) -> float | None:
    """The limit of `X-Timeout-Ms`."""
    text = request.headers.get("X-Timeout-Ms")
    if text is None:
        return None
    if _MILLISECONDS.fullmatch(text) is None:
        _logger.warning("a request's X-Timeout-Ms is not an integer")
        return None
    return int(text) / 1000
