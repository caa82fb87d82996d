"""What Cody clients ask, in the hub's words (sourcegraph.md 3.3).

Hints are passed over: speculation, prediction, `cache_control`, the client's own timeout. A
negative limit means "not set" (clients send -1), and so does zero where it can mean nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Literal, TypeVar

import msgspec

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    ImagePart,
    Message,
    Part,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolUse,
)
from parsers.dialects import client_input
from parsers.dialects.base import RequestHead
from parsers.errors import BadPayload

UNDECODABLE = "could not decode request body"
_ABSENT = msgspec.Raw(b"null")
_ROLES: dict[str, Role] = {"human": "user", "assistant": "assistant", "system": "system"}


class _ImageUrl(msgspec.Struct, frozen=True):
    url: str
    detail: str | None = None


class _TextPart(msgspec.Struct, frozen=True, tag="text"):
    text: str | None = None


class _ImagePart(msgspec.Struct, frozen=True, tag="image_url"):
    image_url: _ImageUrl


class _FilePart(msgspec.Struct, frozen=True, tag="context_file"):
    uri: str
    content: str | None = None


class _RepoPart(msgspec.Struct, frozen=True, tag="context_repo"):
    """A repository that the server might search; there is none here."""


class _Call(msgspec.Struct, frozen=True):
    id: str
    name: str
    arguments: str = ""


class _CallPart(msgspec.Struct, frozen=True, tag="tool_call"):
    tool_call: _Call


class _Result(msgspec.Struct, frozen=True):
    id: str
    content: str | None = None


class _ResultPart(msgspec.Struct, frozen=True, tag="tool_result"):
    tool_result: _Result


_Part = _TextPart | _ImagePart | _FilePart | _RepoPart | _CallPart | _ResultPart


class _Message(msgspec.Struct, frozen=True):
    speaker: Literal["human", "assistant", "system"]
    text: str | None = None
    content: str | list[_Part] | None = None


class _Function(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = _ABSENT
    strict: bool | None = None


class _Tool(msgspec.Struct, frozen=True):
    function: _Function
    type: Literal["function"] = "function"


class _Request(msgspec.Struct, frozen=True, rename="camel"):
    messages: list[_Message] | None = None
    model: str | None = None
    max_tokens_to_sample: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    stream: bool | None = None
    logprobs: int | None = None
    tools: list[_Tool] | None = None


class _Head(msgspec.Struct, frozen=True):
    model: str | None = None
    stream: bool | None = None
    fast: bool | None = None


_HEAD = msgspec.json.Decoder(_Head)
_REQUEST = msgspec.json.Decoder(_Request)


def peek(body: bytes, *, stream: bool) -> RequestHead:
    """What routing needs; `stream` is what an absent flag means. Raises BadPayload."""
    try:
        head = client_input.decode(_HEAD, body)
    except BadPayload:
        raise BadPayload(UNDECODABLE) from None  # the exact text that clients know
    return RequestHead(
        model=head.model or "",
        stream=stream if head.stream is None else head.stream,
        fast=bool(head.fast),
    )


def decode_chat(body: bytes) -> ChatRequest:
    """The conversation. Raises BadPayload, with a text for the client."""
    wire, messages = _decoded(body)
    return ChatRequest(
        model=wire.model or "",
        messages=tuple(each for message in messages for each in _messages(message)),
        stream=bool(wire.stream),
        sampling=_sampling(wire),
        tools=tuple(_tool(tool.function) for tool in wire.tools or ()),
    )


def decode_code(body: bytes) -> CompletionRequest:
    """The code to go on with: the first message's text; others are not read (4.7).

    Raises BadPayload, with a text for the client.
    """
    wire, messages = _decoded(body)
    return CompletionRequest(
        model=wire.model or "",
        prompt=Message("user", _parts(messages[0])).text,
        stream=bool(wire.stream),
        sampling=_sampling(wire),
    )


def _decoded(body: bytes) -> tuple[_Request, list[_Message]]:
    try:
        wire = client_input.decode(_REQUEST, body)
    except BadPayload as error:
        raise BadPayload(f"{UNDECODABLE}: {error}") from None
    if not wire.messages:
        raise BadPayload("found zero messages in prompt")
    return wire, wire.messages


def _messages(wire: _Message) -> Iterator[Message]:
    """The hub's messages for one of Cody's: results of tools are messages of their own."""
    content = wire.content if isinstance(wire.content, list) else []
    results = [part.tool_result for part in content if isinstance(part, _ResultPart)]
    calls = [part.tool_call for part in content if isinstance(part, _CallPart)]
    for result in results:
        text = TextPart(result.content or "")
        yield Message("tool", (text,), tool_call_id=result.id)
    parts = _parts(wire)
    if parts or not results:
        uses = tuple(ToolUse(call.id, call.name, call.arguments) for call in calls)
        # An empty text, and not nothing: TGI refuses a null content.
        yield Message(_ROLES[wire.speaker], parts or _nothing(uses), tool_calls=uses)


def _nothing(uses: tuple[ToolUse, ...]) -> tuple[Part, ...]:
    return () if uses else (TextPart(""),)


def _parts(wire: _Message) -> tuple[Part, ...]:
    """Pictures and text. `content` counts where a message has both (3 to 6 know both)."""
    if isinstance(wire.content, list) and wire.content:
        return tuple(_joined(part for each in wire.content if (part := _part(each)) is not None))
    text = wire.content if isinstance(wire.content, str) else wire.text
    return (TextPart(text),) if text else ()


def _joined(parts: Iterable[Part]) -> Iterator[Part]:
    """The parts, texts that follow each other as one: every server reads a single text."""
    for is_text, group in groupby(parts, lambda part: isinstance(part, TextPart)):
        if is_text:
            yield TextPart("".join(part.text for part in group if isinstance(part, TextPart)))
        else:
            yield from group


def _part(wire: _Part) -> Part | None:
    match wire:
        case _TextPart(text=text):
            return TextPart(text) if text else None
        case _ImagePart(image_url=image):
            return ImagePart(image.url, image.detail)
        case _FilePart(uri=uri, content=content):
            # Its name alone where the client left the content to a server that has the files.
            return TextPart(f"{uri}\n{content}\n\n" if content else f"{uri}\n\n")
        case _:
            return None


def _sampling(wire: _Request) -> Sampling:
    return Sampling(
        max_tokens=_positive(wire.max_tokens_to_sample),
        temperature=wire.temperature if (wire.temperature or 0) >= 0 else None,
        top_p=_positive(wire.top_p),
        top_k=_positive(wire.top_k),
        stop=tuple(wire.stop_sequences or ()),
        logprobs=wire.logprobs if (wire.logprobs or 0) >= 0 else None,
    )


_Number = TypeVar("_Number", int, float)


def _positive(number: _Number | None) -> _Number | None:
    return number if number is not None and number > 0 else None


def _tool(wire: _Function) -> Tool:
    parameters = None if bytes(wire.parameters) == b"null" else wire.parameters
    return Tool(wire.name, wire.description, parameters, wire.strict)
