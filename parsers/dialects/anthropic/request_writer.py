"""A request in the hub's words, for a server that speaks Anthropic's Messages."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    OutputSchema,
    Request,
    Sampling,
    Tool,
)
from parsers.dialects.anthropic.thinking import thinking_members
from parsers.dialects.anthropic.turns import TARGET, system_of, turns_of
from parsers.dialects.base import Members, Untranslatable
from parsers.dialects.prompt_chat import as_chat
from parsers.dialects.repair import NOT_JSON

_Object: TypeAlias = dict[str, object]

_NO_PARAMETERS = msgspec.Raw(b'{"type":"object","properties":{}}')
_OBJECT: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)
_MAX_TEMPERATURE = 1  # Anthropic refuses more; OpenAI goes up to 2
_CHOICES = {"auto": "auto", "none": "none", "required": "any", "tool": "tool"}


def request_members(request: Request, model: str) -> Members:
    """The request, member by member, under the upstream's own name of the model.

    Raw text becomes the one message of a conversation. `max_tokens`, which Anthropic demands, is
    there if the request has it: whoever plans the request sees to that. Raises Untranslatable.
    """
    chat = as_chat(request) if isinstance(request, CompletionRequest) else request
    thinking, effort = thinking_members(chat, model)
    thinks = thinking is not None and thinking["type"] != "disabled"
    members: _Object = {
        "model": model,
        "system": system_of(chat.messages),
        "messages": turns_of(chat.messages),
        **_sampling(chat.sampling, thinks=thinks),
        "stream": chat.stream or None,
        "tools": [_tool(tool) for tool in chat.tools] or None,
        "tool_choice": _tool_choice(chat),
        "thinking": thinking,
        "output_config": _output(chat.output, effort),
        "metadata": {"user_id": chat.user} if chat.user else None,
    }
    return {
        name: msgspec.Raw(msgspec.json.encode(value))
        for name, value in members.items()
        if value is not None
    }


def _sampling(sampling: Sampling, *, thinks: bool) -> _Object:
    """How to draw tokens. A model that thinks draws them its own way, and refuses to be told."""
    members: _Object = {
        "max_tokens": sampling.max_tokens,
        "stop_sequences": [text for text in sampling.stop if text.strip()] or None,
    }
    if thinks:
        return members
    if sampling.temperature is not None:
        members["temperature"] = min(sampling.temperature, _MAX_TEMPERATURE)
    elif sampling.top_p is not None and sampling.top_p >= 0:
        members["top_p"] = sampling.top_p  # models since 4.5 refuse it beside a temperature
    if sampling.top_k is not None and sampling.top_k >= 0:  # -1 is vLLM's and Cody's "no limit"
        members["top_k"] = sampling.top_k
    return members


def _tool(tool: Tool) -> _Object:
    wire: _Object = {"name": tool.name}
    if tool.description:
        wire["description"] = tool.description
    wire["input_schema"] = _schema(tool.parameters)
    if tool.strict:
        wire["strict"] = True
    return wire


def _schema(parameters: msgspec.Raw | None) -> object:
    """The schema of a tool's arguments; Anthropic demands that it says "object"."""
    if parameters is None:
        return _NO_PARAMETERS
    try:
        members = _OBJECT.decode(parameters)
    except NOT_JSON:
        return parameters  # the server will say what is wrong with it
    if not members:
        return _NO_PARAMETERS
    return parameters if "type" in members else {"type": "object", **members}


def _tool_choice(request: ChatRequest) -> _Object | None:
    """Which tools to call, and whether one at a time; without tools it would be refused."""
    choice = request.tool_choice
    one_by_one = request.parallel_tool_calls is False
    if not request.tools or (choice is None and not one_by_one):
        return None
    wire: _Object = {"type": _CHOICES[choice.mode] if choice is not None else "auto"}
    if choice is not None and choice.mode == "tool":
        wire["name"] = choice.name
    if one_by_one and wire["type"] != "none":
        wire["disable_parallel_tool_use"] = True
    return wire


def _output(output: OutputSchema | None, effort: str | None) -> _Object | None:
    """The form of the answer, and the effort. Raises Untranslatable for JSON without a schema."""
    wire: _Object = {}
    if effort is not None:
        wire["effort"] = effort
    if output is not None:
        if output.schema is None:
            raise Untranslatable("response_format", TARGET)
        wire["format"] = {"type": "json_schema", "schema": output.schema}
    return wire or None
