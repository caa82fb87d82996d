"""Google on loopback: the Gemini API, Vertex, and the two servers that give out access tokens.

It lets in who has the key or a token of its own, wants requests of the shape that Google's own
types have, and answers in Google's frames: CRLF, no end mark, an array where `alt=sse` was not
asked for. Google's own client, in test_gemini.py, shows that it is of the right shape.

    async with GeminiServer(Answer(HELLO)) as google:
        google.url, google.calls, google.tokens
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from google.genai import types
from pydantic import ValidationError

from tests.scripted import LAST_CHUNK, STREAM_HEAD, Conversation, Request, Upstream, chunk, response

API_KEY = "AIzaSyEXAMPLE-of-a-key-that-is-none"
SUBJECT = "a.token.of-another-provider"
ACCOUNT = "penstock@example.iam.gserviceaccount.com"

_JSON = b"Content-Type: application/json; charset=UTF-8\r\n"
_TARGET = re.compile(
    r"(?P<place>/v1(beta)?|/v1/projects/p/locations/l/publishers/(?P<publisher>google|anthropic))"
    r"/models/(?P<model>[^:?/]+):(?P<method>\w+)(?P<sse>\?alt=sse)?"
)
_METADATA = "/computeMetadata/v1/"
_TOKEN_PATH = re.compile(r"instance/service-accounts/[^/]+/token")


def frame(payload: bytes) -> bytes:
    """An event as Google frames it."""
    return b"data: %b\r\n\r\n" % payload


def say(text: str, finish: str = "") -> bytes:
    """A chunk with this text, which ends the answer if it says why."""
    candidate: dict[str, object] = {
        "content": {"parts": [{"text": text}], "role": "model"},
        "index": 0,
    }
    if finish:
        candidate["finishReason"] = finish
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}
    return msgspec.json.encode(
        {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": "gemini-3-pro-preview",
            "responseId": "r1",
        }
    )


HELLO = (say("Hello"), say(" there", "STOP"))


class Answer(msgspec.Struct, frozen=True):
    """What a call is answered: chunks, or the raw body of a stream, or of an error."""

    chunks: Sequence[bytes] = ()
    raw: bytes = b""
    status: int = 200


class Call(msgspec.Struct, frozen=True):
    """A call that was let in."""

    model: str
    method: str
    publisher: str  # empty on the Gemini API
    key: str
    body: Any  # JSON
    headers: dict[str, str]


class Refused(Exception):
    """A request that Google would not let in."""

    def __init__(self, status: int, word: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.word = word


class GeminiServer:
    """The server. Its answers go to one call after the other, the last of them to all that follow.

    `tokens` are those given out, and `lives` is how long the next one lasts.
    """

    def __init__(self, *answers: Answer) -> None:
        self.calls: list[Call] = []
        self.tokens: list[str] = []
        self.lives = timedelta(hours=1)
        self.token_status = 200
        self.distrusts = False  # its own tokens
        self._answers = list(answers) or [Answer(HELLO)]
        self._upstream = Upstream(self._serve)

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._upstream.url

    def federation(self, subject: Path) -> dict[str, object]:
        """The identity of who has another provider's token in this file."""
        return {
            "type": "external_account",
            "audience": "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": f"{self.url}/sts",
            "credential_source": {"file": str(subject)},
        }

    def answer(self, answer: Answer) -> None:
        """Answer this from now on."""
        self._answers = [answer]

    @property
    def vertex(self) -> str:
        """The location that models are called at on Vertex."""
        return f"{self.url}/v1/projects/p/locations/l"

    @cached_property
    def account_key(self) -> rsa.RSAPrivateKey:
        """The key that the service account signs with; making one takes a while."""
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    @property
    def account(self) -> dict[str, str]:
        """The service account that may have tokens."""
        pem = self.account_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key": pem.decode(),
            "private_key_id": "k1",
            "token_uri": f"{self.url}/token",
        }

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
                if request.target == "/sts":
                    up.send(response(self._federated(request), headers=_JSON))
                elif request.target == "/token":
                    up.send(response(self._exchange(request), headers=_JSON))
                elif request.target.startswith(_METADATA) or request.target == "/":
                    up.send(self._metadata(request))
                else:
                    await self._call(up, request)
            except Refused as refused:
                up.send(_error(refused.status, refused.word, str(refused)))

    # -- models

    async def _call(self, up: Conversation, request: Request) -> None:
        found = _TARGET.fullmatch(request.target)
        if found is None:
            raise Refused(404, "NOT_FOUND", "Requested entity was not found.")
        publisher = found["publisher"] or ""
        body = msgspec.json.decode(request.body)
        call = Call(
            *(found["model"], found["method"], publisher),
            *(self._admitted(request), body, request.headers),
        )
        check = _check_claude if publisher == "anthropic" else _check_gemini
        check(call.method, body)
        self.calls.append(call)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        is_sse = found["sse"] is not None or publisher == "anthropic"
        if answer.status >= 400:
            up.send(response(answer.raw, status=answer.status, headers=_JSON))
        elif call.method.startswith("stream") and is_sse:
            await _stream(up, answer)
        elif call.method.startswith("stream"):
            up.send(response(b"[%b]" % b",\r\n".join(answer.chunks), headers=_JSON))
        else:
            up.send(response(answer.raw or answer.chunks[-1], headers=_JSON))

    def _admitted(self, request: Request) -> str:
        key = request.headers.get("x-goog-api-key")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if key is None and scheme == "Bearer" and token in self.tokens and not self.distrusts:
            return token
        if key != API_KEY or scheme:
            raise Refused(401, "UNAUTHENTICATED", f"Invalid credentials: {token or key}")
        return key

    # -- tokens

    def _given(self) -> bytes:
        token = f"ya29.{'c' * 40}{len(self.tokens)}"
        self.tokens.append(token)
        seconds = int(self.lives.total_seconds())
        return msgspec.json.encode(
            {"access_token": token, "expires_in": seconds, "token_type": "Bearer"}
        )

    def _exchange(self, request: Request) -> bytes:
        """An access token for a signed claim (RFC 7523)."""
        if self.token_status != 200:
            raise Refused(self.token_status, "UNAUTHENTICATED", f"no: {request.body.decode()}")
        asked = parse_qs(request.body.decode())
        assert asked["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        claims = self._claims(asked["assertion"][0])
        assert claims["aud"] == "https://oauth2.googleapis.com/token"  # wherever it is asked
        assert claims["iss"] == ACCOUNT
        assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
        return self._given()

    def _federated(self, request: Request) -> bytes:
        """An access token for one of another identity provider's (RFC 8693)."""
        asked = parse_qs(request.body.decode())
        assert asked["grant_type"] == ["urn:ietf:params:oauth:grant-type:token-exchange"]
        if asked["subject_token"] != [SUBJECT]:
            raise Refused(400, "INVALID_GRANT", f"Invalid subject: {asked['subject_token']}")
        kind = b'"issued_token_type":"urn:ietf:params:oauth:token-type:access_token"'
        return self._given()[:-1] + b"," + kind + b"}"

    def _claims(self, assertion: str) -> Any:
        """What the account has signed (RS256)."""
        signed, _, signature = assertion.rpartition(".")
        try:
            self.account_key.public_key().verify(
                _unpadded(signature), signed.encode(), PKCS1v15(), SHA256()
            )
        except InvalidSignature as error:
            raise Refused(400, "INVALID_GRANT", f"Invalid signature: {assertion}") from error
        head, _, claims = signed.partition(".")
        assert msgspec.json.decode(_unpadded(head))["alg"] == "RS256"
        return msgspec.json.decode(_unpadded(claims))

    def _metadata(self, request: Request) -> bytes:
        """What a machine of Google's is told of itself."""
        flavor = b"Metadata-Flavor: Google\r\n"
        if request.headers.get("metadata-flavor") != "Google":
            raise Refused(403, "PERMISSION_DENIED", "Missing Metadata-Flavor:Google header.")
        path = request.target.removeprefix(_METADATA).partition("?")[0]
        if _TOKEN_PATH.fullmatch(path):
            return response(self._given(), headers=_JSON + flavor)
        if path.startswith("instance/service-accounts/"):
            body = msgspec.json.encode({"email": ACCOUNT, "aliases": ["default"], "scopes": []})
            return response(body, headers=_JSON + flavor)
        return response(b"p", headers=b"Content-Type: text/plain\r\n" + flavor)


async def _stream(up: Conversation, answer: Answer) -> None:
    up.send(STREAM_HEAD)
    for piece in [answer.raw] if answer.raw else map(frame, answer.chunks):
        up.send(chunk(piece))
        await up.pause()
    up.send(LAST_CHUNK)


# What Google's own client may send; each forbids what it does not know.
_SHAPES: dict[str, Any] = {
    "systemInstruction": types.Content,
    "toolConfig": types.ToolConfig,
    "generationConfig": types.GenerationConfig,
}


def _check_gemini(method: str, body: Any) -> None:
    assert method in ("generateContent", "streamGenerateContent")
    try:
        for content in body["contents"]:
            types.Content.model_validate(content)
        for tool in body.get("tools", ()):
            types.Tool.model_validate(tool)
        for name, shape in _SHAPES.items():
            if name in body:
                shape.model_validate(body[name])
    except ValidationError as error:
        raise Refused(400, "INVALID_ARGUMENT", f"Invalid JSON payload: {error}") from error
    unknown = body.keys() - {"contents", "tools", *_SHAPES, "safetySettings"}
    if unknown:
        raise Refused(400, "INVALID_ARGUMENT", f"Unknown name {unknown}")


def _check_claude(method: str, body: Any) -> None:
    assert method in ("rawPredict", "streamRawPredict")
    if "model" in body or body.get("anthropic_version") != "vertex-2023-10-16":
        raise Refused(400, "INVALID_ARGUMENT", "model: Extra inputs are not permitted")
    if "max_tokens" not in body:
        raise Refused(400, "INVALID_ARGUMENT", "max_tokens: Field required")


def _unpadded(text: str) -> bytes:
    """Base64 as JWTs have it."""
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _error(status: int, word: str, message: str) -> bytes:
    body = msgspec.json.encode({"error": {"code": status, "message": message, "status": word}})
    return response(body, status=status, headers=_JSON)
