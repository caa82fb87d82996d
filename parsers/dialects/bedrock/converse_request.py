"""A request in the hub's words, for Bedrock's Converse API (translation.md, column BC)."""

from __future__ import annotations

import re
from typing import TypeAlias

import msgspec

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    Message,
    OutputSchema,
    Request,
    Sampling,
    Tool,
    ToolChoice,
)
from parsers.dialects.anthropic.thinking import thinking_members
from parsers.dialects.base import Untranslatable
from parsers.dialects.bedrock.turns import TARGET, system_of, turns_of
from parsers.dialects.prompt_chat import as_chat

Object: TypeAlias = dict[str, object]

_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
_MAX_TEMPERATURE = 1  # AWS refuses more; OpenAI goes up to 2

# What AWS lets a label be made of, and how long it may be.
_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9\s:_@$#=/+,.-]", re.ASCII)
_MAX_LABEL_CHARS = 256


def members_of(request: Request, *, anthropic: str | None) -> Object:
    """The request, member by member; raw text becomes the one message of a conversation.

    `anthropic` is the name of a model of theirs, None for others. Raises Untranslatable.
    """
    chat = as_chat(request) if isinstance(request, CompletionRequest) else request
    thinking, effort = (None, None) if anthropic is None else thinking_members(chat, anthropic)
    thinks = thinking is not None and thinking["type"] != "disabled"
    sampling = _unbound(chat.sampling) if thinks else chat.sampling
    members: Object = {
        "messages": turns_of(chat.messages),
        "system": system_of(chat.messages),
        "inferenceConfig": _inference(sampling, blank_stops=anthropic is None),
        "toolConfig": _tools(chat),
        "outputConfig": _output(chat.output, effort),
        "requestMetadata": _labels(chat.user),
        "additionalModelRequestFields": _additional(sampling, thinking),
    }
    return {name: value for name, value in members.items() if value or name == "messages"}


def _unbound(sampling: Sampling) -> Sampling:
    """A model of Anthropic's that thinks draws tokens its own way, and refuses to be told."""
    return msgspec.structs.replace(sampling, temperature=None, top_p=None, top_k=None)


def _inference(sampling: Sampling, *, blank_stops: bool) -> Object:
    temperature, top_p = sampling.temperature, sampling.top_p
    stops = [text for text in sampling.stop if (text if blank_stops else text.strip())]
    config: Object = {
        "maxTokens": sampling.max_tokens,
        "temperature": None if temperature is None else min(temperature, _MAX_TEMPERATURE),
        "topP": None if top_p is None or top_p < 0 else top_p,
        "stopSequences": stops or None,  # Anthropic's models refuse blank ones
    }
    return {name: value for name, value in config.items() if value is not None}


def _additional(sampling: Sampling, thinking: Object | None) -> Object:
    """Fields of Anthropic's own; `policy` lets none pass to another model."""
    fields: Object = {} if thinking is None else {"thinking": thinking}
    if sampling.top_k is not None and sampling.top_k >= 0:  # -1 is Cody's "no limit"
        fields["top_k"] = sampling.top_k
    return fields


def _tools(request: ChatRequest) -> Object:
    """The tools and which of them to call.

    There is no word for "none". Calls of earlier turns are refused without tools, so then they
    stay, or are named as far as they are known.
    """
    tools = request.tools or _tools_called(request.messages)
    choice = request.tool_choice
    if choice is not None and choice.mode == "none":
        tools, choice = (tools if _tools_called(request.messages) else ()), None
    if not tools:
        return {}
    config: Object = {"tools": [{"toolSpec": _tool(tool)} for tool in tools]}
    if choice is not None and request.tools:
        config["toolChoice"] = _choice(choice)
    return config


def _tools_called(messages: tuple[Message, ...]) -> tuple[Tool, ...]:
    names = dict.fromkeys(use.name for message in messages for use in message.tool_calls)
    return tuple(map(Tool, names))


def _tool(tool: Tool) -> Object:
    spec: Object = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    empty = tool.parameters is None or bytes(tool.parameters) in (b"{}", b"null")
    spec["inputSchema"] = {"json": _NO_PARAMETERS if empty else tool.parameters}
    if tool.strict is not None:
        spec["strict"] = tool.strict
    return spec


def _choice(choice: ToolChoice) -> Object:
    match choice.mode:
        case "required":
            return {"any": {}}
        case "tool":
            return {"tool": {"name": choice.name}}
        case _:
            return {"auto": {}}


def _output(output: OutputSchema | None, effort: str | None) -> Object:
    """The form of the answer, and the effort. Raises Untranslatable for JSON without a schema."""
    config: Object = {} if effort is None else {"effort": effort}
    if output is not None:
        if output.schema is None:
            raise Untranslatable("response_format", TARGET)
        schema = {"name": output.name or "answer", "schema": bytes(output.schema).decode()}
        structure = {"jsonSchema": schema}
        config["textFormat"] = {"type": "json_schema", "structure": structure}
    return config


def _labels(user: str | None) -> Object:
    """The user as a label of the call in AWS's logs, in the characters that one may have."""
    return {"user": _NOT_IN_LABEL.sub("_", user)[:_MAX_LABEL_CHARS]} if user else {}
