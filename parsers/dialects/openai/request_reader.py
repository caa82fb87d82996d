"""A client's chat request, in the hub's words.

Members that the hub does not know are hints and are passed over; those that would change the
contract are refused (translation.md 4): an answer without what was asked for is worse than none.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from parsers.chat import (
    ChatRequest,
    ImagePart,
    Message,
    OutputSchema,
    Part,
    Role,
    Sampling,
    TextPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects import client_input
from parsers.errors import BadPayload

_ABSENT = msgspec.Raw(b"null")


class _ImageUrl(msgspec.Struct, frozen=True):
    url: str
    detail: str | None = None


class _Part(msgspec.Struct, frozen=True):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: _ImageUrl | str | None = None


class _UsedFunction(msgspec.Struct, frozen=True):
    name: str
    arguments: str = ""


class _Use(msgspec.Struct, frozen=True):
    id: str
    function: _UsedFunction


class _Message(msgspec.Struct, frozen=True):
    role: Role
    content: str | list[_Part] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[_Use] | None = None
    tool_call_id: str | None = None


class _Function(msgspec.Struct, frozen=True):
    name: str
    description: str | None = None
    parameters: msgspec.Raw = _ABSENT
    strict: bool | None = None


class _Tool(msgspec.Struct, frozen=True):
    function: _Function
    type: Literal["function"] = "function"


class _Name(msgspec.Struct, frozen=True):
    name: str


class _NamedTool(msgspec.Struct, frozen=True):
    function: _Name
    type: Literal["function"] = "function"


class _Schema(msgspec.Struct, frozen=True):
    name: str | None = None
    schema: msgspec.Raw = _ABSENT
    strict: bool | None = None


class _Format(msgspec.Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True):
    messages: list[_Message]
    model: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None  # vLLM's, SGLang's and llama.cpp's addition, as the next two
    typical_p: float | None = None
    repetition_penalty: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: _Format | None = None
    user: str | None = None
    # What the hub cannot hold, and must not drop.
    functions: msgspec.Raw = _ABSENT
    function_call: msgspec.Raw = _ABSENT
    audio: msgspec.Raw = _ABSENT
    web_search_options: msgspec.Raw = _ABSENT


_REQUEST = msgspec.json.Decoder(_Request)
_REFUSED = ("functions", "function_call", "audio", "web_search_options")


def decode_request(body: bytes) -> ChatRequest:
    """The whole request. Raises BadPayload, with a text for the client, on bad input."""
    wire = client_input.decode(_REQUEST, body)
    for name in _REFUSED:
        if _raw(getattr(wire, name)) is not None:
            raise BadPayload(f"{name}: not supported for this model")
    return ChatRequest(
        model=wire.model or "",
        messages=tuple(_message(message, at) for at, message in enumerate(wire.messages)),
        stream=bool(wire.stream),
        include_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        sampling=_sampling(wire),
        tools=tuple(_tool(tool.function) for tool in wire.tools or ()),
        tool_choice=_tool_choice(wire.tool_choice),
        parallel_tool_calls=wire.parallel_tool_calls,
        output=_output(wire.response_format),
        user=wire.user,
    )


def _message(wire: _Message, at: int) -> Message:
    content = wire.content
    if isinstance(content, list):
        parts = tuple(_part(part, f"messages[{at}].content[{n}]") for n, part in enumerate(content))
    else:
        text = wire.refusal if content is None else content
        parts = () if text is None else (TextPart(text),)
    uses = (
        ToolUse(use.id, use.function.name, use.function.arguments) for use in wire.tool_calls or ()
    )
    return Message(
        role=wire.role,
        parts=parts,
        name=wire.name,
        tool_calls=tuple(uses),
        tool_call_id=wire.tool_call_id,
    )


def _part(wire: _Part, path: str) -> Part:
    if wire.type not in ("text", "refusal", "image_url"):
        raise BadPayload(f"{path}.type: only text and image_url are supported for this model")
    value = getattr(wire, wire.type)
    if value is None:
        raise BadPayload(f"{path}: missing the member that its type names")
    if isinstance(value, _ImageUrl):
        return ImagePart(value.url, value.detail)
    return ImagePart(value) if wire.type == "image_url" else TextPart(value)


def _sampling(wire: _Request) -> Sampling:
    limit = wire.max_tokens if wire.max_completion_tokens is None else wire.max_completion_tokens
    stop = (wire.stop,) if isinstance(wire.stop, str) else tuple(wire.stop or ())
    return Sampling(
        max_tokens=limit,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        typical_p=wire.typical_p,
        stop=stop,
        seed=wire.seed,
        choices=wire.n,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        repetition_penalty=wire.repetition_penalty,
        logprobs=(wire.top_logprobs or 0) if wire.logprobs else None,
    )


def _tool(wire: _Function) -> Tool:
    return Tool(wire.name, wire.description, _raw(wire.parameters), wire.strict)


def _tool_choice(
    wire: Literal["auto", "none", "required"] | _NamedTool | None,
) -> ToolChoice | None:
    if isinstance(wire, _NamedTool):
        return ToolChoice("tool", wire.function.name)
    return None if wire is None else ToolChoice(wire)


def _output(wire: _Format | None) -> OutputSchema | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return OutputSchema()
    schema = _raw(wire.json_schema.schema) if wire.json_schema else None
    if wire.json_schema is None or schema is None:
        raise BadPayload("response_format.json_schema: missing its schema")
    return OutputSchema(schema, wire.json_schema.name, wire.json_schema.strict)


def _raw(value: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(value) == b"null" else value
