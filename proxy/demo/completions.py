"""The completions wire, `/v1/completions`."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from proxy.demo.engine import End, Job, Step
from proxy.demo.failures import InferError
from proxy.demo.openai import Stamp, stamp, stream_error, usage
from proxy.demo.parameters import Parameters, Seed, Unsigned
from proxy.demo.script import read_script
from proxy.demo.wire import DONE, Work, generated, misfit

MAX_CLIENT_BATCH_SIZE = 4
NO_SUFFIX = "Suffix is not supported and can be achieved by preprocessing the prompt."


class CompletionRequest(Struct, frozen=True):
    """`CompletionRequest`: one prompt or several."""

    prompt: str | list[str]
    model: str | None = None
    stream: bool = False
    max_tokens: Unsigned | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    stop: list[str] | None = None
    seed: Seed | None = None
    suffix: str | None = None


DECODER = msgspec.json.Decoder(CompletionRequest)


class CompletionForm(Struct, frozen=True):
    """Text chunks, told apart by their index, and `[DONE]`; the reasons are the native words."""

    stamp: Stamp

    def event(self, number: int, step: Step) -> bytes:
        """One chunk; an unfinished one has an empty reason, the last of a prompt its usage."""
        text = "" if step.token.special else step.token.text
        head = self.stamp.head("text_completion")
        if step.end is None:
            return msgspec.json.encode({**head, "choices": [_choice(number, text, "")]})
        choice = _choice(number, text, step.end.finish_reason)
        return msgspec.json.encode({**head, "choices": [choice], "usage": usage([step.end])})

    def error(self, error: InferError) -> Sequence[bytes]:
        """The failure, always with status 422, and `[DONE]`."""
        return stream_error(error)

    def closing(self, ends: Sequence[End]) -> Sequence[bytes]:  # noqa: ARG002 - the form is fixed
        """`[DONE]`: every prompt has had its usage."""
        return (DONE,)

    def whole(self, answers: Sequence[Sequence[Step]]) -> bytes:
        """One `text_completion` with a choice for each prompt."""
        ends = [generated(answer) for answer in answers]
        choices = [_choice(n, end.text, end.finish_reason) for n, end in enumerate(ends)]
        head = self.stamp.head("text_completion")
        return msgspec.json.encode({**head, "choices": choices, "usage": usage(ends)})


def completion_work(request: CompletionRequest, query: Sequence[str]) -> Work:
    """What `/v1/completions` makes of a request; raises what precedes even a stream."""
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    if not prompts:
        raise misfit("prompt: empty array")
    if request.suffix is not None:
        raise InferError("suffix not supported", NO_SUFFIX)
    if len(prompts) > MAX_CLIENT_BATCH_SIZE:
        text = (
            f"Number of prompts exceeds the maximum allowed batch size of {MAX_CLIENT_BATCH_SIZE}"
        )
        raise InferError("batch size exceeded", text)
    parameters = _parameters(request)
    scripts = [read_script(prompt, query) for prompt in prompts]
    jobs = [
        Job(prompt, prompt, parameters, script, request.stream)
        for prompt, script in zip(prompts, scripts, strict=True)
    ]
    return Work(jobs, CompletionForm(stamp(request.model)), request.stream)


def _parameters(request: CompletionRequest) -> Parameters:
    return Parameters(
        temperature=request.temperature or None,
        top_p=request.top_p,
        frequency_penalty=request.frequency_penalty,
        max_new_tokens=request.max_tokens,
        stop=request.stop or [],
        seed=request.seed,
    )


def _choice(number: int, text: str, reason: str) -> dict[str, object]:
    return {"index": number, "text": text, "logprobs": None, "finish_reason": reason}
