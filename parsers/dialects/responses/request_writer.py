"""A request in the hub's words, for a server that is called by Responses.

Needed where client and server both speak it and the bytes may not go through as they are: a model
whose name is hidden.
"""

from __future__ import annotations

import msgspec

from parsers.chat import (
    ChatRequest,
    ImagePart,
    Message,
    OutputSchema,
    Part,
    RedactedThinkingPart,
    Request,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
)
from parsers.dialects.base import Members, Untranslatable
from parsers.dialects.openai.blocks import extra_content

_Object = dict[str, object]


def request_members(request: Request, model: str) -> Members:
    """The request, member by member, under the upstream's own name of the model.

    Nothing is to be stored. Raises Untranslatable for raw text: a template would surround it.
    """
    if not isinstance(request, ChatRequest):
        raise Untranslatable("prompt", "openai-responses")
    effort = request.reasoning and request.reasoning.effort
    members: _Object = {
        "model": model,
        "input": [item for message in request.messages for item in _items(message)],
        "store": False,
        "stream": request.stream or None,
        **_sampling(request.sampling),
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        "parallel_tool_calls": request.parallel_tool_calls,
        "reasoning": {"effort": effort} if effort else None,
        "text": _text(request.output),
        "user": request.user,
    }
    return {
        name: msgspec.Raw(msgspec.json.encode(value))
        for name, value in members.items()
        if value is not None
    }


def _sampling(sampling: Sampling) -> _Object:
    asked = sampling.logprobs is not None
    return {
        "max_output_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_logprobs": sampling.logprobs or None,
        "include": ["message.output_text.logprobs"] if asked else None,
    }


def _items(message: Message) -> list[_Object]:
    if message.role == "tool":
        output: object = message.text
        if any(isinstance(part, ImagePart) for part in message.parts):
            output = _content(message)
        call_id = message.tool_call_id or ""
        return [{"type": "function_call_output", "call_id": call_id, "output": output}]
    items = [item for part in message.parts if (item := _thought(part)) is not None]
    if content := _content(message):
        items.append({"type": "message", "role": message.role, "content": content})
    for use in message.tool_calls:
        call: _Object = {"type": "function_call", "call_id": use.id, "name": use.name}
        if use.signature is not None:
            call["extra_content"] = extra_content(use.signature)
        items.append({**call, "arguments": use.arguments})
    return items


def _thought(part: Part) -> _Object | None:
    """Reasoning as an item, if it is signed: a server takes no other but its own."""
    match part:
        case RedactedThinkingPart():
            return {"type": "reasoning", "summary": [], "encrypted_content": part.data}
        case ThinkingPart() if part.signature is not None:
            content = [{"type": "reasoning_text", "text": part.text}]
            sealed = {"encrypted_content": part.signature}
            return {"type": "reasoning", "summary": [], "content": content, **sealed}
        case _:
            return None


def _content(message: Message) -> list[_Object]:
    word = "output_text" if message.role == "assistant" else "input_text"
    content: list[_Object] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            content.append({"type": word, "text": part.text})
        elif isinstance(part, ImagePart):
            detail = part.detail or "auto"
            content.append({"type": "input_image", "image_url": part.url, "detail": detail})
    return content


def _tool(tool: Tool) -> _Object:
    return {
        "type": "function",
        "name": tool.name,
        **({"description": tool.description} if tool.description is not None else {}),
        "parameters": tool.parameters,
        "strict": bool(tool.strict),  # a must here, and true if it is left out
    }


def _tool_choice(choice: ToolChoice | None) -> object:
    if choice is None:
        return None
    return {"type": "function", "name": choice.name} if choice.mode == "tool" else choice.mode


def _text(output: OutputSchema | None) -> _Object | None:
    if output is None:
        return None
    if output.schema is None:
        return {"format": {"type": "json_object"}}
    schema: _Object = {"type": "json_schema", "name": output.name or "answer"}
    schema["schema"] = output.schema
    if output.strict is not None:
        schema["strict"] = output.strict
    return {"format": schema}
