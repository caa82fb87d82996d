"""AWS Signature Version 4, as far as a JSON POST without a query needs it.

Ours, so that a configuration with keys in it needs nothing of AWS's; botocore, which is twenty
megabytes, is the oracle in the tests. It would also derive the key of the day once per request.
Source: docs.aws.amazon.com, "Create a signed AWS API request".
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

import msgspec

from proxy.config.schema import Secret

_ALGORITHM = "AWS4-HMAC-SHA256"


class Keys(msgspec.Struct, frozen=True):
    """Who signs; `session` for keys that expire."""

    key_id: str
    secret: Secret
    session: Secret | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of them nobody must see."""
        session = () if self.session is None else (self.session.reveal(),)
        return (self.key_id, self.secret.reveal(), *session)


class Signer:
    """Signs the requests to one service in one region."""

    def __init__(self, region: str, service: str) -> None:
        self._region = region
        self._service = service
        self._scope = ""
        self._keys: Keys | None = None
        self._key_of_day = b""

    def sign(
        self, keys: Keys, path: str, headers: Mapping[str, str], body: bytes, now: datetime
    ) -> dict[str, str]:
        """The headers to add to a POST; `headers`, in lower case, are signed and must be sent.

        `path` is as it stands in the request line, `now` in UTC.
        """
        added = {"x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
        if keys.session is not None:
            added["x-amz-security-token"] = keys.session.reveal()
        signed = dict(sorted({**headers, **added}.items()))
        names = ";".join(signed)
        lines = "".join(f"{name}:{' '.join(value.split())}\n" for name, value in signed.items())
        # A path is encoded once more than it was: `%3A` becomes `%253A`.
        request = f"POST\n{quote(path)}\n\n{lines}\n{names}\n{sha256(body).hexdigest()}"
        scope = f"{now:%Y%m%d}/{self._region}/{self._service}/aws4_request"
        digest = sha256(request.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{added['x-amz-date']}\n{scope}\n{digest}"
        signature = hmac.digest(self._key(keys, scope), text.encode(), "sha256").hex()
        added["authorization"] = (
            f"{_ALGORITHM} Credential={keys.key_id}/{scope},"
            f" SignedHeaders={names}, Signature={signature}"
        )
        return added

    def _key(self, keys: Keys, scope: str) -> bytes:
        """The key of this scope, which changes with the day."""
        if scope != self._scope or keys != self._keys:
            key = f"AWS4{keys.secret.reveal()}".encode()
            for part in scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._scope, self._keys, self._key_of_day = scope, keys, key
        return self._key_of_day
