"""A Bedrock on loopback: refuses what is not signed as AWS wants it, answers in its frames.

Signatures are checked as AWS describes it and with nothing of penstock's; botocore's own client,
in test_bedrock.py, shows that the check is right. It is a credentials server too: STS for web
identities, and the one that EKS and ECS put beside a container.

    async with BedrockServer(answer) as aws:
        aws.url, aws.calls, aws.lookups
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self, TypeAlias
from urllib.parse import parse_qs, quote, unquote

import msgspec

from parsers.eventstream import encode_message
from tests.scripted import LAST_CHUNK, Conversation, Request, Upstream, chunk, response

KEY_ID = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
API_KEY = "ABSKQmVkcm9ja0FQSUtleS1leGFtcGxl"
ROLE = "arn:aws:iam::123456789012:role/penstock"
WEB_IDENTITY = "web.identity.token"
POD_IDENTITY = "pod-identity-token"

_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)


class Keys(msgspec.Struct, frozen=True):
    """Keys that may call."""

    key_id: str = KEY_ID
    secret: str = SECRET
    session: str | None = None


class Call(msgspec.Struct, frozen=True):
    """A call that was let in."""

    model: str
    operation: str
    accept: str
    key: str  # the id of the key that signed it, or a bearer
    body: bytes


class Answer(msgspec.Struct, frozen=True):
    """What a call is answered: whole, or the pieces of a stream; a status alone is an error."""

    pieces: Sequence[bytes] = ()
    body: bytes = b""
    status: int = 200
    kind: str = ""  # x-amzn-errortype


Answerer: TypeAlias = Callable[[Call], Answer]


class Refused(Exception):
    """A request that AWS would not let in."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class BedrockServer:
    """The server; `lookups` counts the keys given out, `lives` is how long those last."""

    def __init__(self, answer: Answerer, *keys: Keys, region: str = "us-west-2") -> None:
        self.calls: list[Call] = []
        self.refusals: list[str] = []
        self.lookups = 0
        self.lives = timedelta(hours=1)
        self.asked_for_keys = asyncio.Event()
        self.gives_keys = asyncio.Event()
        self.gives_keys.set()
        self._answer = answer
        self._region = region
        self._keys = {each.key_id: each for each in keys or (Keys(),)}
        self._upstream = Upstream(self._serve)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._upstream.url

    @property
    def connections(self) -> int:
        """How many there were."""
        return self._upstream.connections

    async def __aenter__(self) -> Self:
        await self._upstream.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._upstream.__aexit__(kind, error, trace)

    async def _serve(self, up: Conversation) -> None:
        async for request in up.requests():
            try:
                if request.target in ("/", "/credentials"):
                    self.asked_for_keys.set()
                    await self.gives_keys.wait()
                    up.send(response(self._keys_for(request)))
                else:
                    await self._call(up, request)
            except Refused as refused:
                self.refusals.append(refused.kind)
                up.send(_error(403, refused.kind, str(refused)))

    async def _call(self, up: Conversation, request: Request) -> None:
        key = self._admitted(request)
        parts = request.target.split("/")
        if len(parts) != 4 or parts[1] != "model":
            raise Refused("UnknownOperationException", "unknown path")
        accept = request.headers.get("accept", "")
        call = Call(unquote(parts[2]), parts[3], accept, key, request.body)
        self.calls.append(call)
        answer = self._answer(call)
        if answer.status >= 400:
            up.send(_error(answer.status, answer.kind, answer.body.decode()))
        elif not answer.pieces:
            up.send(response(answer.body, headers=b"Content-Type: application/json\r\n"))
        else:
            up.send(_STREAM_HEAD)
            for piece in answer.pieces:
                up.send(chunk(piece))
                await up.pause()
            up.send(LAST_CHUNK)

    # -- who may call

    def _admitted(self, request: Request) -> str:
        scheme, _, rest = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer":
            if rest != API_KEY:
                raise Refused("AccessDeniedException", "no such API key")
            return "bearer"
        if scheme != "AWS4-HMAC-SHA256":
            raise Refused("MissingAuthenticationTokenException", "Missing Authentication Token")
        fields = dict(field.strip().split("=", 1) for field in rest.split(","))
        return self._signed(request, fields)

    def _signed(self, request: Request, fields: dict[str, str]) -> str:
        key_id, day, region, service, end = fields["Credential"].split("/")
        keys = self._keys.get(key_id)
        if keys is None or keys.session != request.headers.get("x-amz-security-token"):
            raise Refused("UnrecognizedClientException", "The security token is invalid.")
        if (region, service, end) != (self._region, "bedrock", "aws4_request"):
            raise Refused("SignatureDoesNotMatch", "Credential should be scoped otherwise.")
        moment = request.headers["x-amz-date"]
        then = datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(datetime.now(UTC) - then) > timedelta(minutes=5) or not moment.startswith(day):
            raise Refused("SignatureDoesNotMatch", "Signature expired.")
        names = fields["SignedHeaders"].split(";")
        needed = {"host", *(name for name in request.headers if name.startswith("x-amz-"))}
        if not needed <= set(names):
            raise Refused("SignatureDoesNotMatch", "'Host' and x-amz-* must be signed.")
        text = self._text_to_sign(request, names, moment, "/".join((day, region, service, end)))
        if fields["Signature"] != _signature(keys.secret, (day, region, service, end), text):
            quoted = f"The Canonical String for this request should have been '{text}'"
            message = "The request signature we calculated does not match."
            raise Refused("InvalidSignatureException", f"{message}\n\n{quoted} {request.headers}")
        return key_id

    @staticmethod
    def _text_to_sign(request: Request, names: list[str], moment: str, scope: str) -> str:
        canonical = [
            request.method,
            "/".join(quote(part, safe="-_.~") for part in request.target.split("/")),
            "",
            *(f"{name}:{request.headers[name]}" for name in sorted(names)),
            "",
            ";".join(sorted(names)),
            hashlib.sha256(request.body).hexdigest(),
        ]
        digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
        return "\n".join(["AWS4-HMAC-SHA256", moment, scope, digest])

    # -- credentials for those who have none

    def _keys_for(self, request: Request) -> bytes:
        is_pod = request.target == "/credentials"
        return self._pod_identity(request) if is_pod else self._web_identity(request)

    def _given(self) -> Keys:
        self.lookups += 1
        keys = Keys(f"ASIAGIVEN{self.lookups}", SECRET[::-1], f"session+token/{self.lookups}=")
        self._keys[keys.key_id] = keys
        return keys

    @property
    def _expiration(self) -> str:
        return f"{datetime.now(UTC) + self.lives:%Y-%m-%dT%H:%M:%SZ}"

    def _pod_identity(self, request: Request) -> bytes:
        if request.headers.get("authorization") != POD_IDENTITY:
            raise Refused("AccessDeniedException", "not this pod")
        keys = self._given()
        return msgspec.json.encode(
            {
                "AccessKeyId": keys.key_id,
                "SecretAccessKey": keys.secret,
                "Token": keys.session,
                "Expiration": self._expiration,
            }
        )

    def _web_identity(self, request: Request) -> bytes:
        asked = {name: values[0] for name, values in parse_qs(request.body.decode()).items()}
        wanted = {
            "Action": "AssumeRoleWithWebIdentity",
            "RoleArn": ROLE,
            "WebIdentityToken": WEB_IDENTITY,
        }
        if not wanted.items() <= asked.items():
            raise Refused("AccessDenied", "not this identity")
        keys = self._given()
        return (
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            "<AssumeRoleWithWebIdentityResult><Credentials>"
            f"<AccessKeyId>{keys.key_id}</AccessKeyId>"
            f"<SecretAccessKey>{keys.secret}</SecretAccessKey>"
            f"<SessionToken>{keys.session}</SessionToken>"
            f"<Expiration>{self._expiration}</Expiration>"
            "</Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        ).encode()


def _signature(secret: str, scope: tuple[str, ...], text: str) -> str:
    key = b"AWS4" + secret.encode()
    for part in (*scope, text):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


def _error(status: int, kind: str, message: str) -> bytes:
    headers = b"Content-Type: application/json\r\nx-amzn-ErrorType: %b:http://internal/\r\n"
    body = msgspec.json.encode({"message": message})
    return response(body, status=status, headers=headers % kind.encode())


def event(name: str, **members: object) -> bytes:
    """A frame of a stream."""
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return encode_message(msgspec.json.encode({**members, "p": "abcd"}), headers)


HELLO = (
    event("messageStart", role="assistant"),
    event("contentBlockDelta", contentBlockIndex=0, delta={"text": "Hello"}),
    event("contentBlockDelta", contentBlockIndex=0, delta={"text": " there"}),
    event("contentBlockStop", contentBlockIndex=0),
    event("messageStop", stopReason="end_turn"),
    event("metadata", usage={"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}),
)

WHOLE = msgspec.json.encode(
    {
        "output": {"message": {"role": "assistant", "content": [{"text": "Hello there"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5},
        "metrics": {"latencyMs": 1},
    }
)


def hello(call: Call) -> Answer:
    """ "Hello there", streamed or whole."""
    return Answer(HELLO) if call.operation.endswith("-stream") else Answer(body=WHOLE)
