"""Each kind of model server, played: it speaks the protocol whose path is called.

actor = Actor(kind)
async with Upstream(actor) as upstream, penstock(kind.config(upstream.url)) as proxy:
    actor.play = Play.REFUSE
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tests.e2e.voices import (
    CHAT,
    COMPLETIONS,
    CONVERSE,
    GEMINI,
    INVOKE,
    KEY,
    LLAMACPP,
    MESSAGES,
    OLLAMA,
    RESPONSES,
    SGLANG,
    TGI,
    Play,
    Voice,
)
from tests.harness import config_for
from tests.scripted import LAST_CHUNK, Conversation, Request, chunk, response

# By the end of the path; the first that fits.
_VOICES = (
    ("/chat/completions", CHAT),
    ("/completions", COMPLETIONS),
    ("/responses", RESPONSES),
    (("/messages", "awPredict", "-messages"), MESSAGES),
    (("/converse", "/converse-stream"), CONVERSE),
    (("/invoke", "/invoke-with-response-stream"), INVOKE),
    (("enerateContent", "/google"), GEMINI),
    (("/api/chat", "/api/generate"), OLLAMA),
    (("/generate", "/generate_stream"), TGI),
    ("/completion", LLAMACPP),
    ("/", msgspec.structs.replace(TGI, whole=f"[{TGI.whole}]")),
)


def _voice(request: Request, kind: str) -> Voice:
    path = request.target.partition("?")[0]
    if path.endswith(("/completions/openai", "/completions/fireworks")):  # the gateway's
        return CHAT if b'"messages":' in request.body else COMPLETIONS
    return (
        SGLANG
        if kind == "sglang" and path == "/generate"
        else next(voice for ending, voice in _VOICES if path.endswith(ending))
    )


def _wants_stream(request: Request) -> bool:
    path = request.target.partition("?")[0]
    in_path = path.endswith(("stream", "_stream")) or "stream" in path.rpartition(":")[2]
    return in_path or re.search(rb'"stream": ?true', request.body) is not None


class Kind(msgspec.Struct, frozen=True):
    """A provider of penstock's, before such a server."""

    name: str
    type: str
    settings: dict[str, Any] = {}
    place: str | None = None  # of the endpoint; None: a list of endpoints
    model: str = "model"

    def config(self, url: str) -> dict[str, Any]:
        """The usual model, there."""
        config = config_for(url)
        if self.place is None:
            server: dict[str, Any] = {"endpoints": [{"url": url, "accessToken": KEY}]}
        else:
            server = {"endpoint": url + self.place, "accessToken": KEY}
        (provider,) = config["modelConfiguration"]["providerOverrides"]
        provider["serverSideConfig"] = {"type": self.type, **server, **self.settings}
        (model,) = config["modelConfiguration"]["modelOverrides"]
        model["modelName"] = self.model
        return config


_REGION = {"region": "us-west-2"}
_CLAUDE = "anthropic.claude-sonnet-4-v1:0"
KINDS = (
    *(
        Kind(f"gateway-{dialect}", "sourcegraph", {"dialect": dialect}, "")
        for dialect in ("anthropic", "openai", "fireworks", "google")
    ),
    Kind("tgi", "huggingface-tgi"),
    Kind("tgi-native", "huggingface-tgi", {"dialect": "tgi"}),
    Kind("compatible", "openaicompatible"),
    Kind("ollama", "openaicompatible", {"dialect": "ollama"}),
    Kind("sglang", "openaicompatible", {"dialect": "sglang"}),
    Kind("llamacpp", "openaicompatible", {"dialect": "llamacpp"}),
    Kind("openai", "openai", place="/v1"),
    Kind("openai-chat-only", "openai", {"responses": False}, "/v1"),
    Kind("azure", "azureOpenAI", place=""),
    Kind("fireworks", "fireworks", place="/inference/v1"),
    Kind("anthropic", "anthropic", place="/v1/messages"),
    Kind("converse", "awsBedrock", _REGION, "", _CLAUDE),
    Kind("invoke", "awsBedrock", _REGION | {"api": "invoke"}, "", _CLAUDE),
    Kind("gemini", "google", place="/v1beta/models"),
    Kind("vertex-claude", "google", place="/v1/projects/p/locations/l/publishers/anthropic/models"),
)


class Actor:
    """A script that performs whatever `play` says."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.play = Play.ANSWER
        self.spoke: Voice = CHAT  # the one that was called last

    async def __call__(self, up: Conversation) -> None:
        async for request in up.requests():
            self.spoke = voice = _voice(request, self.kind.name)
            if self.play is Play.REFUSE:
                headers = f"retry-after: 7\r\ncontent-type: application/json\r\n{voice.headers}"
                up.send(response(voice.refusal.encode(), status=429, headers=headers.encode()))
            elif _wants_stream(request):
                await self._stream(up, voice)
            else:
                self._whole(up, voice)

    async def _stream(self, up: Conversation, voice: Voice) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {voice.content_type}\r\n"
        up.send(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for frame in voice.stream(self.play):
            up.send(chunk(frame))
            await up.pause()
        up.send(LAST_CHUNK)

    def _whole(self, up: Conversation, voice: Voice) -> None:
        body = voice.whole_call if self.play is Play.CALL else voice.whole
        failed = self.play in (Play.FAIL_FIRST, Play.FAIL_LATER)
        sent = response((voice.refusal if failed else body).encode(), headers=_JSON)
        if self.play is Play.CUT:
            up.send(sent[: -len(body) // 2])
            up.close()
        else:
            up.send(sent)


_JSON = b"content-type: application/json\r\n"
