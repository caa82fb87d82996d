"""The parts of a completion, of a chat or of a text, that mean something to us, whole or in chunks.

Servers disagree about the types of nearly every leaf (`index: null`, `content` as a list,
`finish_reason: ""`), and one odd leaf must not end a stream. So leaves are `object` and are
looked at where they are used; only the structure is typed.
"""

from __future__ import annotations

import msgspec

from parsers.dialects.base import NoCounts

ABSENT = msgspec.Raw(b"")


class FunctionDelta(msgspec.Struct, frozen=True, gc=False):
    """Name and arguments of a call; `name` is null in TGI's later deltas."""

    name: object = None
    arguments: object = None


class CallDelta(msgspec.Struct, frozen=True, gc=False):
    """A piece of one entry of `tool_calls`."""

    index: object = None
    id: object = None
    function: FunctionDelta | None = None
    extra_content: object = None  # Google's, as in `blocks`


class Delta(msgspec.Struct, frozen=True, gc=False):
    """`choices[].delta`, and `choices[].message` of a whole answer."""

    content: object = None
    reasoning_content: object = None  # SGLang, llama.cpp, Fireworks, older vLLM
    reasoning: object = None  # vLLM, Ollama
    refusal: object = None
    tool_calls: list[CallDelta] | None = None
    thinking_blocks: object = None  # LiteLLM's, and our own, as in `blocks`


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One entry of `choices`. Azure's annotations have no delta, its filter comes after the end."""

    index: object = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: object = None  # a text completion's
    finish_reason: object = None
    native_finish_reason: object = None  # OpenRouter's, and our own, extension
    stop_reason: object = None  # vLLM: the stop string that matched, or a token id
    logprobs: msgspec.Raw = ABSENT


class PromptDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.prompt_tokens_details`; `cache_write_tokens` is OpenRouter's, and new at OpenAI."""

    cached_tokens: object = None
    cache_write_tokens: object = None


class CompletionDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.completion_tokens_details`."""

    reasoning_tokens: object = None


class Counts(msgspec.Struct, frozen=True, gc=False):
    """`usage`."""

    prompt_tokens: object = None
    completion_tokens: object = None
    prompt_tokens_details: PromptDetails | NoCounts = None
    completion_tokens_details: CompletionDetails | NoCounts = None


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream."""

    choices: list[Choice] | None = None
    usage: Counts | NoCounts = None
    error: object = None


class FirstChunk(Chunk, frozen=True, gc=False):
    """A chunk, or a whole answer, with what needs to be read only once."""

    id: object = None
    model: object = None
    created: object = None


CHUNK: msgspec.json.Decoder[Chunk] = msgspec.json.Decoder(Chunk)
FIRST_CHUNK: msgspec.json.Decoder[Chunk] = msgspec.json.Decoder(FirstChunk)


class BareMessage(msgspec.Struct, frozen=True, gc=False):
    """A message without what it says."""

    tool_calls: msgspec.Raw | None = None


class BareChoice(msgspec.Struct, frozen=True, gc=False):
    """A choice without what it says."""

    index: object = 0
    message: BareMessage | None = None
    finish_reason: object = None
    native_finish_reason: object = None
    stop_reason: object = None


class BareAnswer(msgspec.Struct, frozen=True, gc=False):
    """A whole answer without what it says."""

    choices: list[BareChoice] | None = None
    usage: Counts | NoCounts = None
    error: object = None


BARE: msgspec.json.Decoder[BareAnswer] = msgspec.json.Decoder(BareAnswer)
