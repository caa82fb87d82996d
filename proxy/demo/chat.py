"""The chat wire, `/v1/chat/completions`, with TGI's stricter types and its quirks.

Tools and response formats are checked for their form, and then not obeyed.
"""

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from proxy.demo.engine import End, Job, Step
from proxy.demo.failures import InferError
from proxy.demo.openai import Stamp, stamp, stream_error, usage
from proxy.demo.parameters import Grammar, Parameters, Seed, Unsigned
from proxy.demo.script import Trouble, read_script
from proxy.demo.wire import DONE, Work, generated, misfit


class Part(Struct, frozen=True):
    """One piece of a message; only text is read."""

    type: str
    text: str = ""


class Message(Struct, frozen=True):
    """One turn of a chat."""

    role: str
    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """The text of all parts."""
        if isinstance(self.content, list):
            return "".join(part.text for part in self.content)
        return self.content or ""


class StreamOptions(Struct, frozen=True):
    """`stream_options`; TGI refuses `null` here."""

    include_usage: bool = False


class ChatRequest(Struct, frozen=True):
    """`ChatRequest`: what TGI reads of an OpenAI request, with its stricter types."""

    messages: list[Message]
    model: str | None = None
    stream: bool = False
    # One field with an alias in TGI, so that both together are a duplicate.
    max_tokens: Unsigned | UnsetType | None = UNSET
    max_completion_tokens: Unsigned | UnsetType | None = UNSET
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: Unsigned | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: list[str] | None = None
    seed: Seed | None = None
    stream_options: StreamOptions = StreamOptions()
    response_format: Grammar | None = None
    tools: list[Raw] | None = None


DECODER = msgspec.json.Decoder(ChatRequest)


class ChatForm(Struct, frozen=True):
    """Chunks with the role in every delta, then the usage if it was asked for, then `[DONE]`."""

    stamp: Stamp
    include_usage: bool

    def event(self, number: int, step: Step) -> bytes:  # noqa: ARG002 - one prompt per request
        """One chunk; the token that ends a sequence has no text."""
        choice = {
            "index": 0,
            "delta": {
                "role": "assistant",
                "content": "" if step.token.special else step.token.text,
            },
            "logprobs": None,
            "finish_reason": _reason(step.end) if step.end else None,
        }
        return self._chunk([choice], None)

    def error(self, error: InferError) -> Sequence[bytes]:
        """The failure, always with status 422, and `[DONE]`."""
        return stream_error(error)

    def closing(self, ends: Sequence[End]) -> Sequence[bytes]:
        """The usage if it was asked for, and `[DONE]`."""
        return (self._chunk([], usage(ends)), DONE) if self.include_usage else (DONE,)

    def whole(self, answers: Sequence[Sequence[Step]]) -> bytes:
        """One `chat.completion`."""
        end = generated(answers[0])
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": end.text},
            "logprobs": None,
            "finish_reason": _reason(end),
        }
        head = self.stamp.head("chat.completion")
        return msgspec.json.encode({**head, "choices": [choice], "usage": usage([end])})

    def _chunk(self, choices: list[dict[str, object]], usage: dict[str, int] | None) -> bytes:
        head = self.stamp.head("chat.completion.chunk")
        return msgspec.json.encode({**head, "choices": choices, "usage": usage})


def chat_work(request: ChatRequest, query: Sequence[str]) -> Work:
    """What `/v1/chat/completions` makes of a request; raises what precedes even a stream."""
    if request.max_tokens is not UNSET and request.max_completion_tokens is not UNSET:
        raise misfit("duplicate field `max_tokens`")
    if request.tools and request.response_format:
        text = "Tool error: Grammar and tools are mutually exclusive"
        raise InferError("tool_error", text)
    question = _question(request.messages)
    script = read_script(question, query)
    if script.trouble is Trouble.TEMPLATE:
        raise InferError("template_error", "Template error: the demo was asked to refuse")
    prompt = "\n".join(message.text for message in request.messages)
    job = Job(prompt, question, _parameters(request), script, request.stream)
    form = ChatForm(stamp(request.model), request.stream_options.include_usage)
    return Work([job], form, request.stream)


def _question(messages: Sequence[Message]) -> str:
    asked = [message.text for message in messages if message.role == "user"]
    return asked[-1] if asked else ""


def _parameters(request: ChatRequest) -> Parameters:
    limit = request.max_tokens
    if request.max_completion_tokens is not UNSET:
        limit = request.max_completion_tokens
    presence = request.presence_penalty
    return Parameters(
        temperature=request.temperature or None,  # 0 means greedy on this route
        top_p=request.top_p,
        frequency_penalty=request.frequency_penalty,
        repetition_penalty=None if presence is None else presence + 2.0,  # sic
        max_new_tokens=None if limit is UNSET else limit,
        stop=request.stop or [],
        seed=request.seed,
        top_n_tokens=request.top_logprobs,
        grammar=request.response_format,
    )


def _reason(end: End) -> str:
    return "stop" if end.finish_reason == "eos_token" else end.finish_reason
