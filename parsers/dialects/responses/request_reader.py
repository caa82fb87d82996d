"""A client's request for a response, in the hub's words.

What needs a memory or a tool of the server's own is refused by name; hints that have no word in
the hub are passed over and told (translation.md 4). On the exact path nothing of this is read.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from parsers.chat import (
    ChatRequest,
    Message,
    OutputSchema,
    Reasoning,
    Sampling,
    TextPart,
    Tool,
    ToolChoice,
)
from parsers.dialects import client_input
from parsers.dialects.responses.conversation import InputItem, messages_of
from parsers.errors import BadPayload

_ABSENT = msgspec.Raw(b"null")


class _Tool(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None
    description: str | None = None
    parameters: msgspec.Raw = _ABSENT
    strict: bool | None = None


class _NamedTool(msgspec.Struct, frozen=True):
    type: str
    name: str | None = None


class _Format(msgspec.Struct, frozen=True):
    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: msgspec.Raw = _ABSENT
    strict: bool | None = None


class _Text(msgspec.Struct, frozen=True):
    format: _Format | None = None
    verbosity: str | None = None


class _Reasoning(msgspec.Struct, frozen=True):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None  # the older name


class _Request(msgspec.Struct, frozen=True):
    input: str | list[InputItem]
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    tools: list[_Tool] | None = None
    tool_choice: Literal["auto", "none", "required"] | _NamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: _Text | None = None
    reasoning: _Reasoning | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    include: list[str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    store: bool | None = None
    truncation: str | None = None
    # Hints without a word in the hub.
    max_tool_calls: msgspec.Raw = _ABSENT  # of the server's own tools, of which there are none
    metadata: msgspec.Raw = _ABSENT
    prompt_cache_key: msgspec.Raw = _ABSENT
    prompt_cache_retention: msgspec.Raw = _ABSENT
    service_tier: msgspec.Raw = _ABSENT
    # What needs a server that remembers, and must not be dropped.
    background: bool | None = None
    context_management: msgspec.Raw = _ABSENT
    conversation: msgspec.Raw = _ABSENT
    previous_response_id: msgspec.Raw = _ABSENT
    prompt: msgspec.Raw = _ABSENT


_REQUEST = msgspec.json.Decoder(_Request)
_REFUSED = {
    "context_management": "not supported for this model",
    "conversation": "nothing is stored here; send the whole conversation as input",
    "previous_response_id": "nothing is stored here; send the whole conversation as input",
    "prompt": "nothing is stored here; send the text of the prompt as input",
}
_HINTS = (
    *("max_tool_calls", "metadata", "prompt_cache_key", "prompt_cache_retention"),
    "service_tier",
)
_LOGPROBS = "message.output_text.logprobs"
# What is asked for to be included, and is done without being asked or asked for elsewhere.
_INCLUDED = frozenset({_LOGPROBS, "reasoning.encrypted_content"})


def decode_request(body: bytes) -> ChatRequest:
    """The whole request. Raises BadPayload, with a text for the client, on bad input."""
    wire = client_input.decode(_REQUEST, body)
    for name, why in _REFUSED.items():
        if _raw(getattr(wire, name)) is not None:
            raise BadPayload(f"{name}: {why}")
    if wire.background:
        raise BadPayload("background: nothing is stored here; wait for the answer, or stream it")
    return ChatRequest(
        model=wire.model or "",
        messages=tuple(_messages(wire)),
        stream=bool(wire.stream),
        include_usage=True,
        sampling=_sampling(wire),
        tools=tuple(_tool(tool, f"tools[{at}]") for at, tool in enumerate(wire.tools or ())),
        tool_choice=_tool_choice(wire.tool_choice),
        parallel_tool_calls=wire.parallel_tool_calls,
        output=_output(wire.text.format if wire.text else None),
        reasoning=_reasoning(wire.reasoning),
        user=wire.user or wire.safety_identifier,
        passed_over=tuple(_passed_over(wire)),
    )


def _messages(wire: _Request) -> list[Message]:
    items = wire.input
    if isinstance(items, str):
        messages = [Message("user", (TextPart(items),))]
    else:
        messages = messages_of(items)
    if wire.instructions:
        return [Message("system", (TextPart(wire.instructions),)), *messages]
    return messages


def _sampling(wire: _Request) -> Sampling:
    asked = _LOGPROBS in (wire.include or ()) or wire.top_logprobs
    return Sampling(
        max_tokens=wire.max_output_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        logprobs=(wire.top_logprobs or 0) if asked else None,
    )


def _tool(wire: _Tool, path: str) -> Tool:
    if wire.type != "function":
        raise BadPayload(f"{path}.type: only functions are supported for this model")
    if wire.name is None:
        raise BadPayload(f"{path}: object missing required field `name`")
    return Tool(wire.name, wire.description, _raw(wire.parameters), wire.strict)


def _tool_choice(
    wire: Literal["auto", "none", "required"] | _NamedTool | None,
) -> ToolChoice | None:
    if isinstance(wire, _NamedTool):
        if wire.type != "function" or wire.name is None:
            raise BadPayload("tool_choice.type: only a function is supported for this model")
        return ToolChoice("tool", wire.name)
    return None if wire is None else ToolChoice(wire)


def _output(wire: _Format | None) -> OutputSchema | None:
    if wire is None or wire.type == "text":
        return None
    if wire.type == "json_object":
        return OutputSchema()
    schema = _raw(wire.schema)
    if schema is None:
        raise BadPayload("text.format: missing its schema")
    return OutputSchema(schema, wire.name, wire.strict)


def _reasoning(wire: _Reasoning | None) -> Reasoning | None:
    return None if wire is None or wire.effort is None else Reasoning(wire.effort)


def _passed_over(wire: _Request) -> list[str]:
    """The hints that will not be told to the model server, by their names."""
    names = [name for name in _HINTS if _raw(getattr(wire, name)) is not None]
    if wire.store:
        names.append("store")
    if wire.truncation == "auto":
        names.append("truncation")
    if wire.text is not None and wire.text.verbosity is not None:
        names.append("text.verbosity")
    if wire.reasoning is not None and (wire.reasoning.summary or wire.reasoning.generate_summary):
        names.append("reasoning.summary")
    if not _INCLUDED.issuperset(wire.include or ()):
        names.append("include")
    return names


def _raw(value: msgspec.Raw) -> msgspec.Raw | None:
    return None if bytes(value) == b"null" else value
