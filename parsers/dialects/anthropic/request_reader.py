"""A client's Messages request, in the hub's words.

Members that the hub does not know are hints: they are passed over, and named if they are on a
closed list, for the names end up in a metric. Those that would change the contract are refused:
tools and documents that only Anthropic's servers can handle, and where on earth the answer is to
be made.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from parsers.chat import (
    ChatRequest,
    ImagePart,
    Message,
    OutputSchema,
    Part,
    Reasoning,
    RedactedThinkingPart,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects import client_input
from parsers.dialects.anthropic import request_wire as wire
from parsers.dialects.base import Members
from parsers.errors import BadPayload

_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)
_UNSAID = frozenset({b"null", b"[]", b"{}"})
_KNOWN = frozenset(wire.Request.__struct_fields__)
_HINTS = frozenset(
    {
        *("cache_control", "container", "context_management", "diagnostics", "service_tier"),
        *("speed", "user_profile_id", "workspace_id"),
    }
)
_OTHER = "other"  # a hint that nobody has heard of
_REFUSED = ("mcp_servers", "inference_geo")
_ELSEWHERE = "not supported for this model"


def decode_request(body: bytes) -> ChatRequest:
    """The whole request. Raises BadPayload, with a text for the client, on bad input."""
    request = client_input.decode(wire.REQUEST, body)
    said = _said(client_input.decode(_MEMBERS, body))
    for name in _REFUSED:
        if name in said:
            raise BadPayload(f"{name}: {_ELSEWHERE}")
    config = request.output_config or wire.OutputConfig()
    return ChatRequest(
        model=request.model or "",
        messages=tuple(_messages(request)),
        stream=bool(request.stream),
        include_usage=True,
        sampling=_sampling(request),
        tools=tuple(_tool(tool, at) for at, tool in enumerate(request.tools or ())),
        tool_choice=_tool_choice(request.tool_choice),
        parallel_tool_calls=_parallel(request.tool_choice),
        output=_output(config.format or request.output_format),
        reasoning=_reasoning(request.thinking, config.effort),
        user=request.metadata.user_id if request.metadata else None,
        passed_over=_passed_over(request, said),
    )


def _said(members: Members) -> list[str]:
    """The names of the members that say something."""
    return [name for name, value in members.items() if bytes(value) not in _UNSAID]


def _passed_over(request: wire.Request, said: list[str]) -> tuple[str, ...]:
    names = [name if name in _HINTS else _OTHER for name in said if name not in _KNOWN]
    if _is_cached(request):
        names.append("cache_control")
    return tuple(dict.fromkeys(names))


def _is_cached(request: wire.Request) -> bool:
    """Whether a part of the request is marked as worth keeping in a cache."""
    contents = [request.system, *(message.content for message in request.messages)]
    blocks = (block for content in contents if isinstance(content, list) for block in content)
    parts = [*blocks, *(request.tools or ())]
    return any(part.cache_control is not None for part in parts)


def _messages(request: wire.Request) -> Iterator[Message]:
    if request.system:
        yield Message("system", tuple(_parts(request.system, "system")))
    for at, message in enumerate(request.messages):
        path = f"messages[{at}].content"
        match message.role:
            case "user":
                yield from _user(message.content, path)
            case "assistant":
                yield _assistant(message.content, path)
            case "system":
                yield Message("system", tuple(_parts(message.content, path)))


def _user(content: str | list[wire.Block], path: str) -> Iterator[Message]:
    """The user's turn: each tool result is a message of its own, before what else is said."""
    blocks = [wire.Block("text", text=content)] if isinstance(content, str) else content
    parts: list[Part] = []
    for n, block in enumerate(blocks):
        at = f"{path}[{n}]"
        if block.type == "tool_result":
            result = tuple(_parts(block.content or "", f"{at}.content"))
            yield Message(
                "tool",
                result,
                tool_call_id=_given(block.tool_use_id, at, "tool_use_id"),
                is_error=bool(block.is_error),
            )
        else:
            parts.append(_part(block, at))
    if parts:
        yield Message("user", tuple(parts))


def _assistant(content: str | list[wire.Block], path: str) -> Message:
    blocks = [wire.Block("text", text=content)] if isinstance(content, str) else content
    parts: list[Part] = []
    calls: list[ToolUse] = []
    for n, block in enumerate(blocks):
        at = f"{path}[{n}]"
        match block.type:
            case "tool_use":
                call_id, name = _given(block.id, at, "id"), _given(block.name, at, "name")
                calls.append(
                    ToolUse(call_id, name, bytes(block.input).decode("utf-8", "replace") or "{}")
                )
            case "thinking":
                parts.append(ThinkingPart(block.thinking or "", block.signature or None))
            case "redacted_thinking":
                parts.append(RedactedThinkingPart(_given(block.data, at, "data")))
            case _:
                parts.append(_part(block, at))
    return Message("assistant", tuple(parts), tool_calls=tuple(calls))


def _parts(content: str | list[wire.Block], path: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield TextPart(content)
        return
    for n, block in enumerate(content):
        yield _part(block, f"{path}[{n}]")


def _part(block: wire.Block, at: str) -> Part:
    match block.type:
        case "text":
            return TextPart(_given(block.text, at, "text"))
        case "image":
            return ImagePart(_url(block.source, f"{at}.source"))
        case _:
            raise BadPayload(f"{at}.type: {_ELSEWHERE}")


def _url(source: wire.Source | None, at: str) -> str:
    if source is None:
        raise BadPayload(f"{at}: missing")
    match source.type:
        case "base64":
            return f"data:{source.media_type};base64,{source.data}"
        case "url":
            return source.url
        case _:
            raise BadPayload(f"{at}.type: {_ELSEWHERE}")


def _given(value: str | None, at: str, member: str) -> str:
    if value is None:
        raise BadPayload(f"{at}.{member}: missing")
    return value


def _sampling(request: wire.Request) -> Sampling:
    return Sampling(
        max_tokens=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        stop=tuple(request.stop_sequences or ()),
    )


def _tool(tool: wire.Tool, at: int) -> Tool:
    if tool.type not in (None, "custom"):
        raise BadPayload(f"tools[{at}].type: {_ELSEWHERE}")
    schema = tool.input_schema
    return Tool(tool.name, tool.description, schema if bytes(schema) else None, tool.strict)


def _tool_choice(choice: wire.ToolChoice | None) -> ToolChoice | None:
    if choice is None:
        return None
    match choice.type:
        case "any":
            return ToolChoice("required")
        case "tool":
            return ToolChoice("tool", _given(choice.name, "tool_choice", "name"))
        case mode:
            return ToolChoice(mode)


def _parallel(choice: wire.ToolChoice | None) -> bool | None:
    return False if choice is not None and choice.disable_parallel_tool_use else None


def _output(format_: wire.Format | None) -> OutputSchema | None:
    return None if format_ is None else OutputSchema(format_.schema)


def _reasoning(thinking: wire.Thinking | None, effort: str | None) -> Reasoning | None:
    """How much to think; neither effort nor budget where the model is to choose.

    Not to think is what Anthropic's models do unasked, so a client that says it has said nothing.
    """
    if thinking is None:
        return None if effort is None else Reasoning(effort)
    if thinking.type == "disabled":
        return None
    return Reasoning(effort, thinking.budget_tokens)
