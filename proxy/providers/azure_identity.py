"""Who we are to Entra, and the way from there to an access token (OAuth 2.0, client credentials).

A client with a secret, a client that shows a token of its cluster's (workload identity), or whoever
the machine is (managed identity). What the configuration leaves out, the environment may say, under
the names by which Azure's own libraries know it; AKS sets them. Everything here blocks: it is meant
for a thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import msgspec

from parsers.dialects.repair import NOT_JSON
from parsers.events import FaultKind
from proxy.config.schema import Secret
from proxy.providers.access_tokens import NoToken, Token

_RESOURCE = "https://cognitiveservices.azure.com"
_AUTHORITY = "https://login.microsoftonline.com"
_METADATA = "http://169.254.169.254"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

_HTTP_SECONDS = 10.0
_MAX_ANSWER_BYTES = 64 * 1024
_UNSAID_SECONDS = 600.0  # for a token that does not say when it expires


class Identity(msgspec.Struct, frozen=True):
    """Who we are; what is empty is looked up in the environment when a token is fetched."""

    tenant: str = ""
    client: str = ""
    secret: Secret | None = None
    token_file: str = ""
    authority: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """The same for the same identity; the secret cannot be read from it."""
        secret = "" if self.secret is None else _digest(self.secret.reveal())
        return ("azure", self.tenant, self.client, secret, self.token_file, self.authority)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


class _Answer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float | str = _UNSAID_SECONDS  # a managed identity's is a text


_ANSWER = msgspec.json.Decoder(_Answer)


class Fetcher:
    """Fetches the tokens of one identity."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def __call__(self) -> Token:
        """A new token. Raises NoToken."""
        try:
            request = _request(self._identity, os.environ)  # noqa: TID251 - where AKS says who we are
            with urlopen(request, timeout=_HTTP_SECONDS) as answer:  # noqa: S310 - configured
                return _token(_ANSWER.decode(answer.read(_MAX_ANSWER_BYTES)))
        except HTTPError as error:
            error.close()
            raise NoToken from error
        except NOT_JSON as error:  # also a URL that is none
            raise NoToken from error
        except OSError as error:
            file_is_missing = isinstance(error, FileNotFoundError | PermissionError)
            raise (NoToken() if file_is_missing else NoToken(FaultKind.UNREACHABLE)) from error


def _request(identity: Identity, environment: Mapping[str, str]) -> Request:
    """What is asked of whom: of Entra with a secret or a cluster's token, else of the machine."""
    client = identity.client or environment.get("AZURE_CLIENT_ID", "")
    tenant = identity.tenant or environment.get("AZURE_TENANT_ID", "")
    proof = _proof(identity, environment)
    if proof is None:
        return _of_machine(client, environment)
    authority = identity.authority or environment.get("AZURE_AUTHORITY_HOST") or _AUTHORITY
    form = {"grant_type": "client_credentials", "client_id": client, **proof}
    body = urlencode({**form, "scope": f"{_RESOURCE}/.default"}).encode()
    url = f"{authority.rstrip('/')}/{quote(tenant, safe='')}/oauth2/v2.0/token"
    return Request(url, body)  # noqa: S310 - configured


def _proof(identity: Identity, environment: Mapping[str, str]) -> dict[str, str] | None:
    """What shows that we are the client; None where nothing does."""
    if identity.secret is not None:
        return {"client_secret": identity.secret.reveal()}
    name = identity.token_file or environment.get("AZURE_FEDERATED_TOKEN_FILE", "")
    if name:  # read each time: it is renewed
        token = Path(name).read_text().strip()
        return {"client_assertion_type": _ASSERTION, "client_assertion": token}
    secret = environment.get("AZURE_CLIENT_SECRET", "")
    return {"client_secret": secret} if secret else None


def _of_machine(client: str, environment: Mapping[str, str]) -> Request:
    """A managed identity's, from the metadata server of the machine."""
    asked = {"api-version": "2018-02-01", "resource": _RESOURCE}
    if client:
        asked["client_id"] = client
    host = environment.get("AZURE_POD_IDENTITY_AUTHORITY_HOST") or _METADATA
    url = f"{host.rstrip('/')}/metadata/identity/oauth2/token?{urlencode(asked)}"
    return Request(url, headers={"Metadata": "true"})  # noqa: S310 - the machine's own


def _token(answer: _Answer) -> Token:
    text = answer.access_token
    if not text or not text.isascii() or not text.isprintable():
        raise NoToken
    line = f"authorization: Bearer {text}\r\n".encode()
    return Token(Secret(text), line, float(answer.expires_in))
