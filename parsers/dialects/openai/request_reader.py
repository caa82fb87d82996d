"""A client's chat request, in the hub's words.

How much to think has many spellings: OpenAI's `reasoning_effort`, OpenRouter's `reasoning`,
Ollama's `think`, and vLLM's `chat_template_kwargs.enable_thinking`, which can only say no.
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
    Reasoning,
    Role,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects import client_input
from parsers.dialects.base import Members
from parsers.dialects.openai.beside import passed_over
from parsers.dialects.openai.blocks import blocks_of, part_of, signature_of
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
    extra_content: object = None


class _Message(msgspec.Struct, frozen=True):
    role: Role
    content: str | list[_Part] | None = None
    refusal: str | None = None
    name: str | None = None
    tool_calls: list[_Use] | None = None
    tool_call_id: str | None = None
    thinking_blocks: object = None
    reasoning_content: object = None
    reasoning: object = None


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


class _Thinking(msgspec.Struct, frozen=True):
    """OpenRouter's `reasoning`."""

    effort: str | None = None
    max_tokens: int | None = None


class _TemplateArguments(msgspec.Struct, frozen=True):
    enable_thinking: object = None


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
    reasoning_effort: str | None = None
    reasoning: _Thinking | None = None
    think: bool | str | None = None
    chat_template_kwargs: _TemplateArguments | None = None
    guided_json: msgspec.Raw = _ABSENT  # vLLM's older word for a schema
    modalities: list[str] | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)
_KNOWN = frozenset(_Request.__struct_fields__) - {"chat_template_kwargs"}


def decode_request(body: bytes) -> ChatRequest:
    """The whole request. Raises BadPayload, with a text for the client, on bad input."""
    wire = client_input.decode(_REQUEST, body)
    hints = passed_over(client_input.decode(_MEMBERS, body), _KNOWN)
    if set(wire.modalities or ()) - {"text"}:
        raise BadPayload("modalities: only text is supported for this model")
    return ChatRequest(
        model=wire.model or "",
        messages=tuple(_message(message, at) for at, message in enumerate(wire.messages)),
        stream=bool(wire.stream),
        include_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        sampling=_sampling(wire),
        tools=tuple(_tool(tool.function) for tool in wire.tools or ()),
        tool_choice=_tool_choice(wire.tool_choice),
        parallel_tool_calls=wire.parallel_tool_calls,
        output=_output(wire.response_format) or _guided(wire.guided_json),
        reasoning=_reasoning(wire),
        user=wire.user,
        passed_over=hints,
    )


def _message(wire: _Message, at: int) -> Message:
    content = wire.content
    parts: tuple[Part, ...] = _thoughts(wire) if wire.role == "assistant" else ()
    if isinstance(content, list):
        parts += tuple(
            _part(part, f"messages[{at}].content[{n}]") for n, part in enumerate(content)
        )
    elif (text := wire.refusal if content is None else content) is not None:
        parts += (TextPart(text),)
    return Message(
        role=wire.role,
        parts=parts,
        name=wire.name,
        tool_calls=tuple(_use(use) for use in wire.tool_calls or ()),
        tool_call_id=wire.tool_call_id,
    )


def _thoughts(wire: _Message) -> tuple[Part, ...]:
    """Reasoning of an earlier turn: its blocks, else its text under either name."""
    blocks = blocks_of(wire.thinking_blocks)
    if blocks:
        return tuple(map(part_of, blocks))
    text = wire.reasoning_content or wire.reasoning
    return (ThinkingPart(text),) if isinstance(text, str) and text else ()


def _use(wire: _Use) -> ToolUse:
    signature = signature_of(wire.extra_content)
    return ToolUse(wire.id, wire.function.name, wire.function.arguments, signature)


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


def _reasoning(wire: _Request) -> Reasoning | None:
    effort, thinking = wire.reasoning_effort, wire.reasoning
    if effort is None and thinking is not None:
        if thinking.effort is None and thinking.max_tokens is not None:
            return Reasoning(budget=thinking.max_tokens)
        effort = thinking.effort
    if effort is None and isinstance(wire.think, str):
        effort = wire.think
    template = wire.chat_template_kwargs
    if effort is None and (wire.think is False or (template and template.enable_thinking is False)):
        effort = "none"
    return None if effort is None else Reasoning(effort)


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


def _guided(schema: msgspec.Raw) -> OutputSchema | None:
    return None if _raw(schema) is None else OutputSchema(schema)


def _raw(value: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(value) == b"null" else value
