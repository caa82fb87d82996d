"""A chat server asked to continue a text: the text as the one message of a conversation.

For servers that have no route for text completions. The server puts its chat template around the
text, so a model made for completion answers worse than on a route of its own.
"""

from __future__ import annotations

from parsers.chat import ChatRequest, CompletionRequest, Message, Request, TextPart
from parsers.dialects.base import Untranslatable
from parsers.dialects.openai import OpenAIChat, SelfHostedChat
from parsers.dialects.tgi_chat import TgiChat

_TARGET = "chat"


class PromptChat(OpenAIChat):
    """OpenAI chat for completions; no client speaks it, so every request is translated."""

    name = "openai-chat-of-prompts"

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body. Raises Untranslatable for what a conversation cannot say."""
        if isinstance(request, CompletionRequest):
            request = as_chat(request)
        return super().encode_request(request, model)


class TgiPromptChat(PromptChat, TgiChat):
    """The same for TGI, with its amendments."""


def as_chat(request: CompletionRequest) -> ChatRequest:
    """The request as a conversation. Raises Untranslatable for a suffix, and for an echo."""
    if request.suffix:
        raise Untranslatable("suffix", _TARGET)
    if request.echo:
        raise Untranslatable("echo", _TARGET)
    return ChatRequest(
        model=request.model,
        messages=(Message("user", (TextPart(request.prompt),)),),
        stream=request.stream,
        include_usage=request.include_usage,
        sampling=request.sampling,
        user=request.user,
    )


class SelfHostedPromptChat(PromptChat, SelfHostedChat):
    """The same for the engines that one hosts oneself."""


PROMPT_CHAT = PromptChat()
SELF_HOSTED_PROMPT_CHAT = SelfHostedPromptChat()
TGI_PROMPT_CHAT = TgiPromptChat()
