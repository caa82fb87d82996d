"""What the clients of each dialect make of penstock's answers: their official SDKs, and Cody."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

import anthropic
import huggingface_hub.errors as hf
import msgspec
import openai
from aiohttp import ClientResponseError
from huggingface_hub import AsyncInferenceClient

from tests.e2e.test_sourcegraph_api import asking, at, heard
from tests.harness import MODEL, Proxy

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}}
_FUNCTION: dict[str, Any] = {"name": "weather", "parameters": SCHEMA}
_TOOLS: list[Any] = [{"type": "function", "function": _FUNCTION}]
_TURNS: list[Any] = [{"role": "user", "content": "hi"}]


class Heard(msgspec.Struct):
    """What a client has been told."""

    text: str = ""
    thought: str = ""
    calls: list[tuple[str, str]] = []
    usage: tuple[int, int] | None = None
    whole: bool = False  # it takes the answer for complete
    error: str = ""
    status: int = 200
    retry_after: str | None = None

    def failed(self, text: object, status: int, headers: Mapping[str, str] | None = None) -> None:
        """Note an exception."""
        self.error, self.status = str(text), status
        self.retry_after = (headers or {}).get("retry-after")


Reader: TypeAlias = Callable[[Proxy, bool, bool], Awaitable[Heard]]


def _plain(sdk: Any) -> Any:
    """A client of HTTP that does not read the certificates of the system, which takes a while."""
    return sdk.DefaultAsyncHttpxClient(verify=False)


async def chat(proxy: Proxy, stream: bool, tools: bool, prefix: str = "/v1") -> Heard:
    """OpenAI's SDK, chat."""
    got = Heard(calls=[])
    more: dict[str, Any] = {"tools": _TOOLS} if tools else {}
    if stream:
        more |= {"stream": True, "stream_options": {"include_usage": True}}
    async with openai.AsyncOpenAI(
        base_url=proxy.url + prefix, api_key="none", max_retries=0, http_client=_plain(openai)
    ) as client:
        try:
            answer: Any = await client.chat.completions.create(model=MODEL, messages=_TURNS, **more)
            async for each in answer if stream else _alone(answer):
                _hear_chat(got, each)
        except openai.APIError as error:
            _hear_openai_error(got, error)
    return got


async def llm(proxy: Proxy, stream: bool, tools: bool) -> Heard:
    """The same at Sourcegraph's address for it."""
    return await chat(proxy, stream, tools, "/.api/llm")


def _hear_chat(got: Heard, each: Any) -> None:
    for choice in each.choices:
        said = choice.delta if hasattr(choice, "delta") else choice.message
        got.text += said.content or ""
        got.thought += getattr(said, "reasoning_content", None) or ""
        for call in said.tool_calls or ():
            if call.function.name:
                got.calls.append((call.function.name, ""))
            name, arguments = got.calls[-1]
            got.calls[-1] = (name, arguments + (call.function.arguments or ""))
        got.whole = got.whole or choice.finish_reason is not None
    if each.usage:
        got.usage = (each.usage.prompt_tokens, each.usage.completion_tokens)


def _hear_openai_error(got: Heard, error: openai.APIError) -> None:
    told = error if isinstance(error, openai.APIStatusError) else None
    got.failed(
        f"{error.message} {error.body}",
        told.status_code if told else 200,
        told.response.headers if told else None,
    )


async def _alone(answer: Any) -> AsyncIterator[Any]:
    yield answer


async def completions(proxy: Proxy, stream: bool, _: bool) -> Heard:
    """OpenAI's SDK, text completions."""
    got = Heard(calls=[])
    more: dict[str, Any] = (
        {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    )
    async with openai.AsyncOpenAI(
        base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, http_client=_plain(openai)
    ) as client:
        try:
            answer = await client.completions.create(model=MODEL, prompt="hi", **more)
            async for each in answer if stream else _alone(answer):
                for choice in each.choices:
                    got.text += choice.text
                    got.whole = got.whole or bool(choice.finish_reason)
                if each.usage:
                    got.usage = (each.usage.prompt_tokens, each.usage.completion_tokens)
        except openai.APIError as error:
            _hear_openai_error(got, error)
    return got


async def responses(proxy: Proxy, stream: bool, tools: bool) -> Heard:
    """OpenAI's SDK, Responses."""
    got = Heard(calls=[])
    more: dict[str, Any] = {"tools": [{"type": "function", "strict": False, **_FUNCTION}]}
    async with openai.AsyncOpenAI(
        base_url=f"{proxy.url}/v1", api_key="none", max_retries=0, http_client=_plain(openai)
    ) as client:
        try:
            answer: Any = await client.responses.create(
                model=MODEL, input="hi", stream=stream, **(more if tools else {})
            )
            if not stream:
                _hear_response(got, answer)
            async for event in answer if stream else _none():
                _hear_response_event(got, event)
        except openai.APIError as error:
            _hear_openai_error(got, error)
    return got


async def _none() -> AsyncIterator[Any]:
    return
    yield


def _hear_response_event(got: Heard, event: Any) -> None:
    match event.type:
        case "response.output_text.delta":
            got.text += event.delta
        case "response.completed":
            pieces, got.text = got.text, ""  # the last event says all of it again
            _hear_response(got, event.response)
            got.text = pieces
        case "error":
            got.failed(event.message, 200)
        case "response.failed":
            assert event.response.status == "failed"
        case _:
            pass


def _hear_response(got: Heard, answer: Any) -> None:
    got.text += answer.output_text
    for item in answer.output:
        if item.type == "function_call":
            got.calls.append((item.name, item.arguments))
        if item.type == "reasoning":
            parts = [*(item.summary or ()), *(item.content or ())]
            got.thought += "".join(part.text for part in parts)
    if answer.usage:
        got.usage = (answer.usage.input_tokens, answer.usage.output_tokens)
    got.whole = answer.status == "completed"


async def messages(proxy: Proxy, stream: bool, tools: bool) -> Heard:
    """Anthropic's SDK."""
    got = Heard(calls=[])
    more: dict[str, Any] = {"model": MODEL, "max_tokens": 99, "messages": _TURNS}
    if tools:
        more["tools"] = [{"name": "weather", "input_schema": SCHEMA}]
    async with anthropic.AsyncAnthropic(
        base_url=proxy.url, api_key="none", max_retries=0, http_client=_plain(anthropic)
    ) as client:
        try:
            if stream:
                async with client.messages.stream(**more) as events:
                    async for text in events.text_stream:
                        got.text += text
                    answer = await events.get_final_message()
                got.text = ""
            else:
                answer = await client.messages.create(**more)
            _hear_message(got, answer)
        except anthropic.APIStatusError as error:
            got.failed(f"{error.message} {error.body}", error.status_code, error.response.headers)
    return got


def _hear_message(got: Heard, answer: Any) -> None:
    for block in answer.content:
        match block.type:
            case "text":
                got.text += block.text
            case "thinking":
                got.thought += block.thinking
            case "tool_use":
                got.calls.append((block.name, msgspec.json.encode(block.input).decode()))
            case _:
                pass
    got.usage = (answer.usage.input_tokens, answer.usage.output_tokens)
    got.whole = answer.stop_reason is not None


async def generate(proxy: Proxy, stream: bool, _: bool) -> Heard:
    """Hugging Face's client, on TGI's own routes."""
    got = Heard(calls=[])
    async with AsyncInferenceClient(f"{proxy.url}/models/{MODEL}", token="none") as client:
        try:
            answer: Any = await client.text_generation(
                "hi", stream=stream, details=True, return_full_text=False
            )
            if not stream:
                got.text = answer.generated_text
                got.whole = answer.details.finish_reason is not None
            async for each in answer if stream else _none():
                got.text += "" if each.token.special else each.token.text
                if each.details is not None:
                    got.whole = True
                    got.usage = (each.details.input_length, each.details.generated_tokens)
        except hf.TextGenerationError as error:
            cause = error.__cause__  # nothing, where the stream said it
            if isinstance(cause, ClientResponseError):
                got.failed(error, cause.status, cause.headers)
            else:
                got.failed(error, 200)
    return got


def cody(path: str, version: int | None) -> Reader:
    """Cody's own reader, of this route and api-version."""

    async def read(proxy: Proxy, stream: bool, tools: bool) -> Heard:
        got = Heard(calls=[])
        more: dict[str, Any] = {"tools": _TOOLS} if tools else {}
        body = asking(stream=stream, **more)
        async with proxy.post(at(path, version), body) as answer:
            said = (await answer.read()).decode()
            if answer.status != 200:
                got.failed(said, answer.status, answer.headers)
                return got
        if stream:
            told = heard(said.encode(), version)
            got.text, got.thought, got.error = told.text, told.thinking, told.error or ""
            got.whole = bool(told.stop_reason)
            got.calls = [("weather", "".join(parts)) for parts in told.calls.values()]
            usage = told.usage
        else:
            whole = msgspec.json.decode(said)
            got.text, got.whole = whole["completion"], bool(whole["stopReason"])
            got.thought = whole.get("delta_thinking", "")
            functions = [call["function"] for call in whole.get("delta_tool_calls", ())]
            got.calls = [(each["name"], each["arguments"]) for each in functions]
            usage = whole.get("usage")
        if usage:
            got.usage = (usage["prompt_tokens"], usage["completion_tokens"])
        return got

    return read


class Client(msgspec.Struct, frozen=True):
    """A client, and what its dialect has words for."""

    name: str
    read: Reader
    calls: bool = True
    thinks: bool = True
    counts: bool = True


CLIENTS = (
    Client("chat", chat),
    Client("completions", completions, calls=False, thinks=False),
    Client("responses", responses),
    Client("messages", messages),
    Client("generate", generate, calls=False, thinks=False),
    Client("stream-9", cody("/.api/completions/stream", 9)),
    Client(
        "stream-0", cody("/.api/completions/stream", None), calls=False, thinks=False, counts=False
    ),
    Client("code-9", cody("/.api/completions/code", 9), calls=False),
    Client("code-0", cody("/.api/completions/code", None), calls=False, thinks=False, counts=False),
    Client("llm", llm),
)
