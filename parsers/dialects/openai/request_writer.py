"""A request in the hub's words, for a server that speaks OpenAI chat."""

from __future__ import annotations

import msgspec

from parsers.chat import (
    ChatRequest,
    ImagePart,
    Message,
    OutputSchema,
    Part,
    Request,
    Sampling,
    TextPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects.base import Members, Untranslatable

_Object = dict[str, object]


def request_members(request: Request, model: str) -> Members:
    """The request, member by member, under the upstream's own name of the model.

    Raises Untranslatable for raw text: a chat server would put its template around it.
    """
    if not isinstance(request, ChatRequest):
        raise Untranslatable("prompt", "chat")
    members: _Object = {
        "model": model,
        "messages": [_message(message) for message in request.messages],
        **_sampling(request.sampling),
        **_streaming(request),
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "reasoning_effort": request.reasoning and request.reasoning.effort,
        "response_format": _output(request.output),
        "user": request.user,
    }
    return {
        name: msgspec.Raw(msgspec.json.encode(value))
        for name, value in members.items()
        if value is not None
    }


def _streaming(request: ChatRequest) -> _Object:
    options = {"include_usage": True} if request.stream and request.include_usage else None
    return {"stream": request.stream or None, "stream_options": options}


def _sampling(sampling: Sampling) -> _Object:
    return {
        # every self-hosted server knows this name; the newer one, not all
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "typical_p": sampling.typical_p,
        "stop": list(sampling.stop) or None,
        "seed": sampling.seed,
        "n": sampling.choices,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "logprobs": None if sampling.logprobs is None else True,
        "top_logprobs": sampling.logprobs or None,
    }


def _message(message: Message) -> _Object:
    wire: _Object = {"role": message.role, "content": _content(message.parts)}
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_calls:
        wire["tool_calls"] = [_use(use) for use in message.tool_calls]
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _content(parts: tuple[Part, ...]) -> object:
    shown = [part for part in parts if isinstance(part, TextPart | ImagePart)]
    if not shown:
        return None
    if len(shown) == 1 and isinstance(shown[0], TextPart):  # the form that every server reads
        return shown[0].text
    return [_part(part) for part in shown]


def _part(part: TextPart | ImagePart) -> _Object:
    if isinstance(part, ImagePart):
        image: _Object = {"url": part.url}
        if part.detail is not None:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}
    return {"type": "text", "text": part.text}


def _use(use: ToolUse) -> _Object:
    function = {"name": use.name, "arguments": use.arguments}
    return {"id": use.id, "type": "function", "function": function}


def _tool(tool: Tool) -> _Object:
    function: _Object = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _tool_choice(choice: ToolChoice | None) -> object:
    if choice is None:
        return None
    if choice.mode == "tool":
        return {"type": "function", "function": {"name": choice.name}}
    return choice.mode


def _output(output: OutputSchema | None) -> _Object | None:
    if output is None:
        return None
    if output.schema is None:
        return {"type": "json_object"}
    schema: _Object = {"name": output.name or "answer", "schema": output.schema}
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"type": "json_schema", "json_schema": schema}
