"""A request in the hub's words, for Ollama: `/api/chat`, or `/api/generate` for raw text."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    ImagePart,
    Message,
    OutputSchema,
    Reasoning,
    Request,
    Sampling,
    ThinkingPart,
    Tool,
    ToolUse,
)
from parsers.dialects.base import Untranslatable
from parsers.dialects.objects import object_of

_TARGET = "Ollama"
_BASE64 = ";base64,"

# What its levels are, of OpenAI's words; models without levels take any of them for "yes".
_LEVELS = {"minimal": "low", "xhigh": "high"}


class _Options(msgspec.Struct, frozen=True, omit_defaults=True):
    num_predict: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    typical_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None


class _Function(msgspec.Struct, frozen=True, omit_defaults=True):
    name: str
    arguments: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    description: str | None = None
    parameters: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Call(msgspec.Struct, frozen=True):
    id: str
    function: _Function


class _Tool(msgspec.Struct, frozen=True):
    function: _Function
    type: str = "function"


class _Message(msgspec.Struct, frozen=True, omit_defaults=True):
    role: str
    content: str
    thinking: str = ""
    images: list[str] = []
    tool_calls: list[_Call] = []
    tool_name: str = ""
    tool_call_id: str = ""


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    model: str
    stream: bool  # never left out: streaming is the default there
    messages: list[_Message] = []
    prompt: str | None = None
    suffix: str | None = None
    raw: bool = False
    tools: list[_Tool] = []
    format: str | msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    think: bool | str | None = None
    options: _Options | None = None


def encode(request: Request, model: str) -> bytes:
    """The request body, under the upstream's own name of the model.

    Raises Untranslatable for pictures that Ollama would have to fetch.
    """
    if isinstance(request, CompletionRequest):
        return msgspec.json.encode(_completion(request, model))
    return msgspec.json.encode(_chat(request, model))


def _completion(request: CompletionRequest, model: str) -> _Request:
    return _Request(
        model=model,
        stream=request.stream,
        prompt=request.prompt,
        suffix=request.suffix or None,
        # The model's template is for questions; only what fills a gap needs it.
        raw=not request.suffix,
        options=_options(request.sampling),
    )


def _chat(request: ChatRequest, model: str) -> _Request:
    return _Request(
        model=model,
        stream=request.stream,
        messages=_messages(request.messages),
        tools=[_tool(tool) for tool in request.tools],
        format=_format(request.output),
        think=_think(request.reasoning),
        options=_options(request.sampling),
    )


def _options(sampling: Sampling) -> _Options | None:
    options = _Options(
        num_predict=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        typical_p=sampling.typical_p,
        seed=sampling.seed,
        stop=sampling.stop,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        repeat_penalty=sampling.repetition_penalty,
    )
    return None if options == _Options() else options


def _messages(messages: Iterable[Message]) -> list[_Message]:
    """The messages; who answers a call is told by its name too, which is what templates show."""
    names: dict[str, str] = {}
    wire = []
    for at, message in enumerate(messages):
        names.update({use.id: use.name for use in message.tool_calls})
        answered = message.tool_call_id or ""
        wire.append(
            _Message(
                role="system" if message.role == "developer" else message.role,
                content=message.text,
                thinking="".join(p.text for p in message.parts if isinstance(p, ThinkingPart)),
                images=[_image(p, at) for p in message.parts if isinstance(p, ImagePart)],
                tool_calls=[_call(use) for use in message.tool_calls],
                tool_name=names.get(answered, ""),
                tool_call_id=answered,
            )
        )
    return wire


def _image(part: ImagePart, at: int) -> str:
    """The picture's own bytes, in base64: Ollama fetches nothing, and neither do we."""
    head, found, data = part.url.partition(_BASE64)
    if not (found and head.startswith("data:")):
        raise Untranslatable(f"messages[{at}].content: a picture by its URL", _TARGET)
    return data


def _call(use: ToolUse) -> _Call:
    return _Call(use.id, _Function(use.name, arguments=object_of(use.arguments)))


def _tool(tool: Tool) -> _Tool:
    parameters = msgspec.UNSET if tool.parameters is None else tool.parameters
    return _Tool(_Function(tool.name, description=tool.description, parameters=parameters))


def _format(output: OutputSchema | None) -> str | msgspec.Raw | msgspec.UnsetType:
    if output is None:
        return msgspec.UNSET
    return "json" if output.schema is None else output.schema


def _think(reasoning: Reasoning | None) -> bool | str | None:
    if reasoning is None:
        return None
    if reasoning.effort is not None:
        return (
            False if reasoning.effort == "none" else _LEVELS.get(reasoning.effort, reasoning.effort)
        )
    return None if reasoning.budget is None else reasoning.budget > 0
