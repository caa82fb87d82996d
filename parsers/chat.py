"""The request vocabulary: what a client can ask, between two different dialects.

Equal dialects never pass through here. `None` means "not said", so that the model server's own
default applies; zero is a value like any other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec


class Operation(StrEnum):
    """What kind of work a request asks for; it chooses the upstream route."""

    CHAT = "chat"  # messages in, a message out
    COMPLETION = "completion"  # raw text in, its continuation out
    EMBEDDING = "embedding"  # texts in, vectors out
    RERANK = "reranking"  # a query and texts in, how well each fits out
    TOKENIZE = "tokenizing"  # a text in, its tokens out
    DETOKENIZE = "detokenizing"  # and back


# What is said between two different dialects; the rest is passed on as it is, or not at all.
GENERATION = (Operation.CHAT, Operation.COMPLETION)

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]


class TextPart(msgspec.Struct, frozen=True, tag="text"):
    """A piece of text in a message."""

    text: str


class ImagePart(msgspec.Struct, frozen=True, tag="image"):
    """A picture, by its URL (`https:` or `data:`); penstock never fetches it."""

    url: str
    detail: str | None = None


class ThinkingPart(msgspec.Struct, frozen=True, tag="thinking"):
    """Reasoning of an earlier turn; whoever signed it wants it back unchanged."""

    text: str
    signature: str | None = None


class RedactedThinkingPart(msgspec.Struct, frozen=True, tag="redacted_thinking"):
    """Reasoning of an earlier turn that only its model can read."""

    data: str


Part: TypeAlias = TextPart | ImagePart | ThinkingPart | RedactedThinkingPart


class ToolUse(msgspec.Struct, frozen=True):
    """A call the model made earlier in the conversation; `arguments` is raw JSON text."""

    id: str
    name: str
    arguments: str
    signature: str | None = None  # as in the event `ToolCall`


class Message(msgspec.Struct, frozen=True):
    """One turn of the conversation."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None
    tool_calls: tuple[ToolUse, ...] = ()
    tool_call_id: str | None = None  # which call a `tool` message answers
    is_error: bool = False  # the call that a `tool` message answers failed

    @property
    def text(self) -> str:
        """The text parts, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


class Tool(msgspec.Struct, frozen=True):
    """A function the model may call; `parameters` is its JSON Schema as bytes."""

    name: str
    description: str | None = None
    parameters: msgspec.Raw | None = None
    strict: bool | None = None


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools may be called: `auto`, `none`, `required`, or `tool` with its name."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None


class OutputSchema(msgspec.Struct, frozen=True):
    """The form the answer must have: any JSON object, or one that fits `schema`."""

    schema: msgspec.Raw | None = None
    name: str | None = None
    strict: bool | None = None


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are drawn, and how many."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    typical_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    choices: int | None = None  # OpenAI's `n`
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logprobs: int | None = None  # how many alternatives per token; 0 is the chosen one's alone


class Reasoning(msgspec.Struct, frozen=True):
    """How much the model may think before it answers.

    `effort` in OpenAI's words (`none` to `xhigh`), `budget` in tokens; a client says one of them.
    """

    effort: str | None = None
    budget: int | None = None


class ChatRequest(msgspec.Struct, frozen=True):
    """Messages in, a message out."""

    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False  # the client asked for a usage report in the stream
    sampling: Sampling = Sampling()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: OutputSchema | None = None
    reasoning: Reasoning | None = None
    user: str | None = None
    passed_over: tuple[str, ...] = ()  # hints for which there is no word here, by the client's name


class CompletionRequest(msgspec.Struct, frozen=True):
    """Raw text in, its continuation out."""

    model: str
    prompt: str
    stream: bool = False
    include_usage: bool = False
    sampling: Sampling = Sampling()
    suffix: str | None = None
    echo: bool = False  # give the prompt back before the answer (TGI `return_full_text`)
    details: bool = False  # TGI: the client asked for token details and the finish reason
    user: str | None = None
    passed_over: tuple[str, ...] = ()  # as in `ChatRequest`


Request: TypeAlias = ChatRequest | CompletionRequest
