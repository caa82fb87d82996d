"""A request in the hub's words, for Gemini: everything but the conversation."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from parsers.chat import ChatRequest, OutputSchema, Reasoning, Sampling, Tool, ToolChoice
from parsers.dialects.gemini.contents import Content, contents_of, system_of

_N = TypeVar("_N", int, float)

# A function without parameters has none, not an empty schema.
_NO_PARAMETERS = (b"{}", b"null")

# Google's own table, of its OpenAI-compatible endpoint.
_BUDGETS = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
}
# From Gemini 3 on: thinking cannot be switched off, and only some models know "minimal".
_LEVELS = {"none": "low", "xhigh": "high"}


class _Wire(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    pass


class _Thinking(_Wire, frozen=True):
    include_thoughts: bool = False
    thinking_budget: int | None = None
    thinking_level: str | None = None


class _Generation(_Wire, frozen=True):
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: tuple[str, ...] = ()
    seed: int | None = None
    candidate_count: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_mime_type: str | None = None
    response_json_schema: msgspec.Raw | None = None
    thinking_config: _Thinking | None = None


class _Declaration(_Wire, frozen=True):
    name: str
    description: str | None = None
    parameters_json_schema: msgspec.Raw | None = None


class _Tools(_Wire, frozen=True):
    function_declarations: tuple[_Declaration, ...]


class _Calling(_Wire, frozen=True):
    mode: Literal["AUTO", "ANY", "NONE"]
    allowed_function_names: tuple[str, ...] = ()


class _ToolConfig(_Wire, frozen=True):
    function_calling_config: _Calling


class _Body(_Wire, frozen=True):
    contents: list[Content]
    system_instruction: Content | None = None
    tools: tuple[_Tools, ...] = ()
    tool_config: _ToolConfig | None = None
    generation_config: _Generation | None = None


def encode(request: ChatRequest, model: str) -> bytes:
    """The request body; the model only says which of two ways of asking it understands.

    Raises Untranslatable for a picture or a tool result that cannot be told.
    """
    old = _is_old(model)
    generation = _generation(request, old=old)
    tools = tuple(map(_declaration, request.tools))
    body = _Body(
        contents=contents_of(request.messages, needs_signature=not old),
        system_instruction=system_of(request.messages),
        tools=(_Tools(tools),) if tools else (),
        tool_config=_tool_config(request.tool_choice),
        generation_config=generation if generation != _Generation() else None,
    )
    return msgspec.json.encode(body)


def _is_old(model: str) -> bool:
    """Whether the model is older than Gemini 3; what has another name is not."""
    return "gemini-2" in model or "gemini-1" in model


def _generation(request: ChatRequest, *, old: bool) -> _Generation:
    sampling: Sampling = request.sampling
    output: OutputSchema | None = request.output
    return _Generation(
        max_output_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=_unless_negative(sampling.top_p),
        top_k=_unless_negative(sampling.top_k),
        stop_sequences=sampling.stop,
        seed=sampling.seed,
        candidate_count=sampling.choices,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        response_mime_type=None if output is None else "application/json",
        response_json_schema=None if output is None else output.schema,
        thinking_config=_thinking(request.reasoning, old=old),
    )


def _unless_negative(value: _N | None) -> _N | None:
    """The value; -1 is vLLM's and Cody's way of saying none."""
    return value if value is not None and value >= 0 else None


def _thinking(reasoning: Reasoning | None, *, old: bool) -> _Thinking | None:
    """How much to think. Who asks for it is shown the thoughts; both ways at once are a 400."""
    if reasoning is None:
        return None
    if reasoning.budget is not None:
        return _Thinking(reasoning.budget != 0, thinking_budget=reasoning.budget)
    effort = reasoning.effort
    if effort is None:
        return None
    if old:
        return _Thinking(effort != "none", thinking_budget=_BUDGETS.get(effort))
    return _Thinking(effort != "none", thinking_level=_LEVELS.get(effort, effort))


def _declaration(tool: Tool) -> _Declaration:
    parameters = tool.parameters
    if parameters is not None and bytes(parameters).strip() in _NO_PARAMETERS:
        parameters = None
    return _Declaration(tool.name, tool.description, parameters)


def _tool_config(choice: ToolChoice | None) -> _ToolConfig | None:
    match choice:
        case None:
            return None
        case ToolChoice(mode="tool", name=name):
            return _ToolConfig(_Calling("ANY", (name,) if name else ()))
        case ToolChoice(mode="required"):
            return _ToolConfig(_Calling("ANY"))
        case ToolChoice(mode="none"):
            return _ToolConfig(_Calling("NONE"))
        case _:
            return _ToolConfig(_Calling("AUTO"))
