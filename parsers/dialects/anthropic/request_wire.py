"""The parts of a Messages request that the hub has words for, as clients send them."""

from __future__ import annotations

from typing import Literal

import msgspec

_ABSENT = msgspec.Raw(b"")


class Source(msgspec.Struct, frozen=True):
    """Where a picture is."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class Block(msgspec.Struct, frozen=True):
    """An entry of `content`; which members it has is for its type to say."""

    type: str
    text: str | None = None
    source: Source | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = _ABSENT
    tool_use_id: str | None = None
    content: str | list[Block] | None = None
    is_error: bool | None = None
    cache_control: object = None


class Message(msgspec.Struct, frozen=True):
    """A turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(msgspec.Struct, frozen=True):
    """A function; with a `type` other than "custom" it is one of Anthropic's own."""

    name: str
    type: str | None = None
    description: str | None = None
    input_schema: msgspec.Raw = _ABSENT
    strict: bool | None = None
    cache_control: object = None


class ToolChoice(msgspec.Struct, frozen=True):
    """Which tools may be called."""

    type: Literal["auto", "any", "none", "tool"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct, frozen=True):
    """Whether the model thinks, and how much."""

    type: str
    budget_tokens: int | None = None


class Format(msgspec.Struct, frozen=True):
    """The form of the answer."""

    type: Literal["json_schema"]
    schema: msgspec.Raw


class OutputConfig(msgspec.Struct, frozen=True):
    """Form and effort."""

    format: Format | None = None
    effort: str | None = None


class Metadata(msgspec.Struct, frozen=True):
    """On whose behalf."""

    user_id: str | None = None


class Request(msgspec.Struct, frozen=True):
    """The request."""

    messages: list[Message]
    model: str | None = None
    system: str | list[Block] | None = None
    max_tokens: int | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: Format | None = None  # its name while it was in beta
    metadata: Metadata | None = None


REQUEST = msgspec.json.Decoder(Request)
