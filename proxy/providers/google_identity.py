"""Who we are to Google, and the way from there to an access token, which Google's library goes.

A service account, a federated identity, or whoever the machine is (GKE, Cloud Run, Compute
Engine): each has its own way, and they change with Google. Everything here blocks: it is meant for
a thread. The library is an extra, and imported when the first token is fetched.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from datetime import UTC, datetime
from errno import ENOENT
from functools import partial
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from parsers.dialects.repair import NOT_JSON
from parsers.events import FaultKind
from proxy.config.schema import Secret
from proxy.providers.access_tokens import NoToken, Token

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)
_TYPES = frozenset({"service_account", "external_account", "authorized_user"})

_HTTP_SECONDS = 10.0  # for each of the library's own requests
_UNSAID_SECONDS = 600.0  # for a token that does not say when it expires
_AMBIENT = ("google", "ambient")

_Json: TypeAlias = dict[str, Any]  # Any: what the library is given, and alone understands
_INFO: msgspec.json.Decoder[_Json] = msgspec.json.Decoder(_Json)


class Identity(msgspec.Struct, frozen=True):
    """Who we are: by the JSON of credentials, by a file of it, or else by where we run."""

    json: Secret | None = None
    file: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """The same for the same identity; the credentials cannot be read from it."""
        if self.json is not None:
            return ("google", "json", _digest(self.json.reveal().encode()))
        return ("google", "file", self.file, _file_digest(self.file)) if self.file else _AMBIENT


def json_of(text: str) -> str | None:
    """The JSON of credentials in a text that is it, or its base64; None for any other text."""
    found = text if text.lstrip().startswith("{") else _decoded(text)
    try:
        info = _INFO.decode(found)
    except NOT_JSON:
        return None
    return found if isinstance(info.get("type"), str) else None


def problem_of(identity: Identity) -> str | None:
    """What is wrong with credentials that can be read; nothing, with those of where we run."""
    if identity.json is None and not identity.file:
        return None
    try:
        info = _INFO.decode(_text_of(identity))
    except OSError:
        return "the credentials cannot be read"
    except NOT_JSON:
        return "neither the JSON of credentials nor its base64"
    if info.get("type") not in _TYPES:
        return "of these credentials only GOOGLE_APPLICATION_CREDENTIALS can make use"
    return None


def can_fetch() -> bool:
    """Whether the library is installed."""
    try:
        return find_spec("google.auth") is not None and find_spec("requests") is not None
    except ModuleNotFoundError:  # not even its parent
        return False


class _Credentials(Protocol):
    """google.auth.credentials.Credentials."""

    token: object
    expiry: datetime | None  # without a zone, and in UTC

    def refresh(self, request: object) -> None: ...

    def apply(self, headers: dict[str, str]) -> None: ...


class Fetcher:
    """Fetches the tokens of one identity; called by one thread at a time."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._credentials: _Credentials | None = None

    def __call__(self) -> Token:
        """A new token. Raises NoToken."""
        credentials, self._credentials = self._credentials, None
        try:
            credentials = credentials or _loaded(self._identity)
            credentials.refresh(_transport())
            token = _token(credentials)
        except Exception as error:  # the library reads files, runs programs and asks servers
            raise _no_token(error) from error
        self._credentials = credentials  # else they are read anew: their file may be mended
        return token


def _loaded(identity: Identity) -> _Credentials:
    credentials: _Credentials
    if identity.json is None and not identity.file:
        credentials, _ = import_module("google.auth").default(scopes=_SCOPES)
        return credentials
    info = _INFO.decode(_text_of(identity))
    # Not by the library's own choice: it would ask another server for the project's name, and run
    # the programs that some credentials name.
    match info.get("type"):
        case "service_account":
            kind = import_module("google.oauth2.service_account").Credentials
            credentials = kind.from_service_account_info(info, scopes=_SCOPES)
        case "external_account":
            kind = import_module("google.auth.identity_pool").Credentials
            credentials = kind.from_info(info, scopes=_SCOPES)
        case "authorized_user":  # a person's, who has already said for what
            kind = import_module("google.oauth2.credentials").Credentials
            credentials = kind.from_authorized_user_info(info)
        case _:
            raise NoToken
    return credentials


def _text_of(identity: Identity) -> str | bytes:
    return _content(identity.file) if identity.json is None else identity.json.reveal()


def _content(name: str) -> bytes:
    path = Path(name)
    if not path.is_file():  # a pipe could keep us waiting for ever
        raise FileNotFoundError(ENOENT, "there is no such file")
    return path.read_bytes()


def _transport() -> Callable[..., object]:
    request = import_module("google.auth.transport.requests").Request()
    return partial(request, timeout=_HTTP_SECONDS)


def _token(credentials: _Credentials) -> Token:
    token, headers = credentials.token, dict[str, str]()
    credentials.apply(headers)
    if not isinstance(token, str) or not all(map(_is_visible, (token, *headers.values()))):
        raise NoToken
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return Token(Secret(token), lines.encode(), _seconds_left(credentials.expiry))


def _is_visible(text: str) -> bool:
    return text.isascii() and text.isprintable()


def _seconds_left(expiry: datetime | None) -> float:
    if expiry is None:
        return _UNSAID_SECONDS
    return (expiry.replace(tzinfo=UTC) - datetime.now(UTC)).total_seconds()


def _no_token(error: Exception) -> NoToken:
    """What an error of the library means; its text is not told, for it may quote what was sent."""
    if isinstance(error, NoToken):
        return error
    if type(error).__name__ == "TransportError":
        return NoToken(FaultKind.UNREACHABLE)
    return NoToken()


def _decoded(text: str) -> str:
    try:
        return b64decode(text, validate=True).decode()
    except ValueError:
        return ""


def _file_digest(name: str) -> str:
    try:
        return _digest(_content(name))
    except OSError:
        return ""


def _digest(content: bytes) -> str:
    return sha256(content).hexdigest()
