"""The parts of Gemini's answers that mean something to us.

Pictures, code that the model ran and the sources it found have no word in the hub: they come only
where they are asked for, which no client of ours can do.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from parsers.events import MAX_COUNT

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]


class _Wire(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    pass


class FunctionCall(_Wire, frozen=True, gc=False):
    """A call; `id` is there only in some versions of the API."""

    name: str
    args: msgspec.Raw = msgspec.Raw(b"")
    id: str | None = None


class Part(_Wire, frozen=True, gc=False):
    """One of `content.parts`."""

    text: str = ""
    thought: bool = False
    thought_signature: str | None = None
    function_call: FunctionCall | None = None


class Content(_Wire, frozen=True, gc=False):
    """What a candidate says; filtered ones say nothing, not even an empty list."""

    parts: tuple[Part, ...] = ()


class Candidate(_Wire, frozen=True, gc=False):
    """One of several answers; the last chunk may have no content."""

    content: Content | None = None
    finish_reason: str = ""
    index: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] = 0


class Counts(_Wire, frozen=True, gc=False):
    """`usageMetadata`, cumulative; what is zero is left out."""

    prompt_token_count: Count = 0
    candidates_token_count: Count = 0
    cached_content_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    tool_use_prompt_token_count: Count = 0


class PromptFeedback(_Wire, frozen=True, gc=False):
    """Why there is no answer at all."""

    block_reason: str = ""


class Chunk(_Wire, frozen=True, gc=False):
    """A chunk, or a whole answer."""

    candidates: tuple[Candidate, ...] = ()
    usage_metadata: Counts | None = None
    prompt_feedback: PromptFeedback | None = None
    model_version: str | None = None
    response_id: str | None = None
    error: object = None


CHUNK: msgspec.json.Decoder[Chunk] = msgspec.json.Decoder(Chunk)
# Without `alt=sse` a stream is one array.
CHUNKS: msgspec.json.Decoder[Chunk | tuple[Chunk, ...]] = msgspec.json.Decoder(
    Chunk | tuple[Chunk, ...]
)
