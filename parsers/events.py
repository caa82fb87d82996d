"""The stream vocabulary: everything a model can say, and what can go wrong.

Every upstream decoder gives these events, every client encoder takes them. The grammar, checked
for each decoder against each fixture:

    Started?
    (Text | Refusal | Thinking | RedactedThinking | ToolCall | ToolArguments | Usage | Finished)*
    then exactly one of  Ended | Failed,  then nothing.

`Finished` comes at most once per choice, and no content of that choice comes after it. `Failed`
may come first. End of input without the dialect's own finish mark is `Failed(TRUNCATED)`, never
a silent success.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, TypeAlias

import msgspec


class FinishReason(StrEnum):
    """Why a choice stopped, in OpenAI's words."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


class FaultKind(StrEnum):
    """What went wrong, in one word; the closed list behind statuses, retries and metrics."""

    INVALID_REQUEST = "invalid_request"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    UNKNOWN_MODEL = "unknown_model"
    TOO_LARGE = "too_large"
    CONTEXT_LENGTH = "context_length"
    CONTENT_FILTER = "content_filter"
    RATE_LIMITED = "rate_limited"
    QUOTA_EXCEEDED = "quota_exceeded"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    PROTOCOL = "protocol"
    UPSTREAM = "upstream"
    INTERNAL = "internal"

    @property
    def retryable(self) -> bool:
        """Whether another endpoint might do better; *may* we retry is the relay's question."""
        return self in _RETRYABLE


_RETRYABLE = frozenset(
    {
        FaultKind.RATE_LIMITED,
        FaultKind.OVERLOADED,
        FaultKind.UNREACHABLE,
        FaultKind.TIMEOUT,
        FaultKind.TRUNCATED,
        FaultKind.PROTOCOL,
        FaultKind.UPSTREAM,
    }
)

Origin: TypeAlias = Literal["client", "proxy", "upstream"]


class Fault(msgspec.Struct, frozen=True):
    """A failure as a value: what, whose, and what may be told.

    `message` is safe to show a client: no URL, no key, no traceback. `type`, `code` and `param`
    are the upstream's own words where it had any, so that an equal dialect keeps them.
    """

    kind: FaultKind
    origin: Origin
    message: str
    retry_after: float | None = None  # seconds, if the upstream said so
    status: int | None = None  # the status the upstream gave or named, None if it did not
    type: str | None = None
    code: str | int | None = None
    param: str | None = None


class Started(msgspec.Struct, frozen=True, gc=False):
    """The answer began; at most once, first."""

    id: str | None = None
    model: str | None = None
    created: int | None = None  # seconds since the epoch


class Text(msgspec.Struct, frozen=True, gc=False):
    """A piece of the visible answer."""

    text: str
    choice: int = 0
    logprobs: msgspec.Raw | None = None  # the dialect's own JSON, as bytes without line ends


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """A piece of a refusal (OpenAI `delta.refusal`)."""

    text: str
    choice: int = 0


class Thinking(msgspec.Struct, frozen=True, gc=False):
    """A piece of reasoning; `signature` closes a signed block."""

    text: str
    choice: int = 0
    signature: str | None = None


class RedactedThinking(msgspec.Struct, frozen=True, gc=False):
    """A block of reasoning that only its model can read (Anthropic `redacted_thinking`)."""

    data: str
    choice: int = 0


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A tool call opens; comes before its arguments. `call` counts from 0 within the choice."""

    call: int
    id: str | None  # None where the upstream names none: the encoder's identity makes one
    name: str
    choice: int = 0
    signature: str | None = None  # Gemini's `thoughtSignature`: the next turn must bring it back


class ToolArguments(msgspec.Struct, frozen=True, gc=False):
    """A piece of a call's arguments: raw JSON text, never parsed."""

    call: int
    fragment: str
    choice: int = 0


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A choice is done; once per choice. `raw` is the upstream's own word for why."""

    reason: FinishReason
    choice: int = 0
    raw: str | None = None
    stop: str | None = None  # the stop sequence that matched, if told


MAX_COUNT = 2**53  # tokens; more is no count, and what adds them up could not hold it


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Token counts so far; cumulative, so the last one wins.

    `prompt` includes cached tokens, `completion` includes reasoning (OpenAI's way of counting).
    """

    prompt: int
    completion: int
    cached: int | None = None
    reasoning: int | None = None
    cache_write: int | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """The stream broke; terminal."""

    fault: Fault


class Ended(msgspec.Struct, frozen=True, gc=False):
    """The stream is whole; terminal.

    `marked` says whether the dialect's end mark was seen. `proven` is false where that mark is all
    there is and proves nothing: OpenAI's `[DONE]` without any finish reason.
    """

    marked: bool = True
    proven: bool = True


StreamEvent: TypeAlias = (
    Started
    | Text
    | Refusal
    | Thinking
    | RedactedThinking
    | ToolCall
    | ToolArguments
    | Finished
    | Usage
    | Failed
    | Ended
)

TERMINAL = (Failed, Ended)
VISIBLE = (Text, Refusal, Thinking, RedactedThinking, ToolCall, ToolArguments)
