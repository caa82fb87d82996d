"""Any server that speaks OpenAI's API: vLLM, SGLang, llama.cpp, Ollama, Transformers."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from parsers.chat import Operation
from parsers.dialects.completions import SELF_HOSTED_COMPLETIONS
from parsers.dialects.llamacpp import LLAMA_CPP
from parsers.dialects.ollama import OLLAMA, OLLAMA_PROMPTS
from parsers.dialects.openai import SELF_HOSTED_CHAT
from parsers.dialects.passthrough import DETOKENIZE, EMBEDDINGS, RERANK, TOKENIZE
from parsers.dialects.prompt_chat import SELF_HOSTED_PROMPT_CHAT
from parsers.dialects.responses import RESPONSES
from parsers.dialects.sglang import SGLANG
from proxy.config.modelconfig import ProviderConfig
from proxy.providers.base import Provider, ProviderKind, Route
from proxy.providers.hosted import Hosted, HostedSettings, endpoint_problems, targets_of

_CHAT = Route(SELF_HOSTED_CHAT, "/chat/completions", "/chat/completions", Operation.CHAT)
_COMPLETIONS = Route(SELF_HOSTED_COMPLETIONS, "/completions", "/completions", Operation.COMPLETION)
_PROMPT_CHAT = Route(
    SELF_HOSTED_PROMPT_CHAT, "/chat/completions", "/chat/completions", Operation.COMPLETION
)
_EMBEDDINGS = Route(EMBEDDINGS, "/embeddings", "/embeddings", Operation.EMBEDDING)
_RERANK = Route(RERANK, "/rerank", "/rerank", Operation.RERANK)
# Asked for by clients of the same dialect only: all others are served by chat.
_RESPONSES = Route(RESPONSES, "/responses", "/responses", Operation.CHAT)
# vLLM and llama.cpp have them at the root.
_TOKENS = (
    Route(TOKENIZE, "/tokenize", "/tokenize", Operation.TOKENIZE),
    Route(DETOKENIZE, "/detokenize", "/detokenize", Operation.DETOKENIZE),
)

# What the servers' own protocols serve, beside `/v1`.
_LINES = "application/x-ndjson"
_OLLAMA_CHAT = Route(OLLAMA, "/api/chat", "/api/chat", Operation.CHAT, _LINES)
_OLLAMA_TEXT = Route(OLLAMA, "/api/generate", "/api/generate", Operation.COMPLETION, _LINES)
_OLLAMA_PROMPTS = Route(OLLAMA_PROMPTS, "/api/chat", "/api/chat", Operation.COMPLETION, _LINES)
_NATIVE_TEXT = {
    "sglang": Route(SGLANG, "/generate", "/generate", Operation.COMPLETION),
    "llamacpp": Route(LLAMA_CPP, "/completion", "/completion", Operation.COMPLETION),
}


class Settings(HostedSettings, frozen=True, kw_only=True):
    """`serverSideConfig` of type `openaicompatible`."""

    dialect: Annotated[
        Literal["openai", "ollama", "sglang", "llamacpp"],
        Meta(
            description="The server's own protocol instead of OpenAI's: for chat and completions"
            " of Ollama, whose OpenAI route hides errors, for completions of the others."
        ),
    ] = "openai"
    responses: Annotated[
        bool,
        Meta(description="true: the server has /responses; its clients are not translated."),
    ] = False


def build(config: ProviderConfig, settings: Settings) -> Provider:
    """The provider."""
    below, beside = _ollama(settings) if settings.dialect == "ollama" else _others(settings)
    if settings.responses and _CHAT in below:  # else other clients would be served by it too
        below = (*below, _RESPONSES)
    return Hosted(config, targets_of(settings.endpoints, "/v1"), below, beside, settings)


_Routes: TypeAlias = tuple[Route, ...]


def _ollama(settings: Settings) -> tuple[_Routes, _Routes]:
    """The routes below `/v1`, and those beside it."""
    completions = _OLLAMA_TEXT if settings.use_legacy_completions else _OLLAMA_PROMPTS
    return (_EMBEDDINGS,), (_OLLAMA_CHAT, completions)


def _others(settings: Settings) -> tuple[_Routes, _Routes]:
    native = _NATIVE_TEXT.get(settings.dialect)
    if not settings.use_legacy_completions:
        return (_CHAT, _PROMPT_CHAT, _EMBEDDINGS, _RERANK), _TOKENS
    if native is None:
        return (_CHAT, _COMPLETIONS, _EMBEDDINGS, _RERANK), _TOKENS
    return (_CHAT, _EMBEDDINGS, _RERANK), (native, *_TOKENS)


OPENAI_COMPATIBLE = ProviderKind(Settings, endpoint_problems, build)
