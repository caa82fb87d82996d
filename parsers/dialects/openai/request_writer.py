"""A request in the hub's words, for a server that speaks OpenAI chat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from parsers.chat import (
    ChatRequest,
    ImagePart,
    Message,
    OutputSchema,
    Part,
    Reasoning,
    RedactedThinkingPart,
    Request,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
    ToolUse,
)
from parsers.dialects.base import Members, Untranslatable
from parsers.dialects.openai.blocks import block_of, extra_content

_Object = dict[str, object]
_ERROR = "Error: "

_LEVELS = {"minimal": "low", "xhigh": "high"}  # vLLM's, of OpenAI's words
# Tokens of reasoning that are worth this effort, at least: OpenAI's words for Anthropic's budgets,
# as LiteLLM has them. No server says how it counts.
_EFFORTS = ((10_000, "high"), (5_000, "medium"), (1, "low"))


class Habits(msgspec.Struct, frozen=True):
    """Where servers of this dialect differ."""

    # OpenAI's models that reason refuse `max_tokens`; not every other server knows the newer name.
    limit: str = "max_completion_tokens"
    knows_developer: bool = True  # else its messages are the system's: most templates refuse them
    knows_efforts: bool = True  # else `low`, `medium`, `high`, and a template that can be told no


OPENAI = Habits()
HOSTED = Habits(limit="max_tokens", knows_developer=False)
SELF_HOSTED = Habits(limit="max_tokens", knows_developer=False, knows_efforts=False)


def request_members(request: Request, model: str, habits: Habits = OPENAI) -> Members:
    """The request, member by member, under the upstream's own name of the model.

    Raises Untranslatable for raw text: a chat server would put its template around it.
    """
    if not isinstance(request, ChatRequest):
        raise Untranslatable("prompt", "chat")
    members: _Object = {
        "model": model,
        "messages": _messages(request.messages, habits),
        **_sampling(request.sampling, habits.limit),
        **_streaming(request),
        "tools": [_tool(tool) for tool in request.tools] or None,
        "tool_choice": _tool_choice(request.tool_choice),
        # OpenAI refuses it where there is no tool
        "parallel_tool_calls": request.parallel_tool_calls if request.tools else None,
        **_reasoning(_effort(request.reasoning), habits),
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


def _sampling(sampling: Sampling, limit: str) -> _Object:
    return {
        limit: sampling.max_tokens,
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


def _effort(reasoning: Reasoning | None) -> str | None:
    if reasoning is None:
        return None
    if reasoning.effort is not None or reasoning.budget is None:
        return reasoning.effort
    efforts = (effort for least, effort in _EFFORTS if reasoning.budget >= least)
    return next(efforts, "none")


def _reasoning(effort: str | None, habits: Habits) -> _Object:
    if habits.knows_efforts:
        return {"reasoning_effort": effort}
    if effort == "none":
        return {"chat_template_kwargs": {"enable_thinking": False}}
    return {"reasoning_effort": effort and _LEVELS.get(effort, effort)}


def _messages(messages: Iterable[Message], habits: Habits) -> list[_Object]:
    """The messages. Pictures in tools' answers, where there is no place for them, follow.

    They wait until all answers of a turn are told: nothing may come in between.
    """
    wire: list[_Object] = []
    shown: list[ImagePart] = []
    for message in messages:
        if message.role != "tool" and shown:
            wire.append({"role": "user", "content": _content(shown)})
            shown = []
        wire.append(_message(message, habits))
        if message.role == "tool":
            shown += [part for part in message.parts if isinstance(part, ImagePart)]
    return [*wire, {"role": "user", "content": _content(shown)}] if shown else wire


def _message(message: Message, habits: Habits) -> _Object:
    if message.role == "tool":
        return _answer(message)
    role = message.role
    if role == "developer" and not habits.knows_developer:
        role = "system"
    wire: _Object = {"role": role, "content": _content(message.parts)}
    if message.name is not None:
        wire["name"] = message.name
    if role == "assistant":
        wire |= _thoughts(message.parts)
    if message.tool_calls:
        wire["tool_calls"] = [_use(use) for use in message.tool_calls]
    return wire


def _answer(message: Message) -> _Object:
    """What a tool answered: text alone, and no other word for its failure."""
    parts: list[Part] = [part for part in message.parts if isinstance(part, TextPart)]
    if message.is_error and not message.text.lower().startswith("error"):
        parts = [TextPart(_ERROR + message.text)]
    content = _content(parts)
    wire: _Object = {"role": "tool", "content": "" if content is None else content}
    if message.name is not None:
        wire["name"] = message.name
    if message.tool_call_id is not None:
        wire["tool_call_id"] = message.tool_call_id
    return wire


def _thoughts(parts: Iterable[Part]) -> _Object:
    thoughts = [p for p in parts if isinstance(p, ThinkingPart | RedactedThinkingPart)]
    text = "".join(part.text for part in thoughts if isinstance(part, ThinkingPart))
    wire: _Object = {"reasoning_content": text} if text else {}
    if any(isinstance(part, RedactedThinkingPart) or part.signature for part in thoughts):
        wire["thinking_blocks"] = [block_of(part) for part in thoughts]
    return wire


def _content(parts: Sequence[Part]) -> object:
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
    wire: _Object = {"id": use.id, "type": "function", "function": function}
    if use.signature is not None:
        wire["extra_content"] = extra_content(use.signature)
    return wire


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
