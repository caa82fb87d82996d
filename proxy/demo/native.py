"""The native wire: `/generate`, `/generate_stream` and the compat route `/`."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from proxy.demo.engine import End, Job, Step
from proxy.demo.failures import InferError
from proxy.demo.parameters import Parameters
from proxy.demo.script import read_script
from proxy.demo.wire import Work, error_body, generated


class NativeRequest(Struct, frozen=True):
    """`GenerateRequest`, with the `stream` that only the compat route reads."""

    inputs: str
    parameters: Parameters = Parameters(do_sample=True)
    stream: bool = False


DECODER = msgspec.json.Decoder(NativeRequest)


class NativeForm(Struct, frozen=True):
    """Token events without `[DONE]`; `prefix` precedes the text, `listed` is the compat array."""

    details: bool
    prefix: str
    listed: bool

    def event(self, number: int, step: Step) -> bytes:  # noqa: ARG002 - one prompt per request
        """One token; the last one has the whole text, and the details if they were asked for."""
        return msgspec.json.encode(
            {
                "index": step.index,
                "token": step.token,
                "generated_text": self.prefix + step.end.text if step.end else None,
                "details": _stream_details(step.end) if step.end and self.details else None,
            }
        )

    def error(self, error: InferError) -> Sequence[bytes]:
        """The same object as without streaming, and then the end."""
        return (error_body(error),)

    def closing(self, ends: Sequence[End]) -> Sequence[bytes]:  # noqa: ARG002 - the form is fixed
        """Nothing: the last token is the end."""
        return ()

    def whole(self, answers: Sequence[Sequence[Step]]) -> bytes:
        """The text, with details if they were asked for."""
        end = generated(answers[0])
        body: dict[str, object] = {"generated_text": self.prefix + end.text}
        if self.details:
            body["details"] = _details(end, answers[0])
        return msgspec.json.encode([body] if self.listed else body)


def native_work(request: NativeRequest, query: Sequence[str], *, stream: bool) -> Work:
    """What `/generate` (`stream` false) and `/generate_stream` make of a request."""
    parameters = request.parameters
    return _work(request, query, stream=stream, full_text=bool(parameters.return_full_text))


def compat_work(request: NativeRequest, query: Sequence[str]) -> Work:
    """What `/` makes of a request: the body decides about streaming, the prompt comes back."""
    full_text = request.parameters.return_full_text is not False
    return _work(request, query, stream=request.stream, full_text=full_text, listed=True)


def _work(
    request: NativeRequest,
    query: Sequence[str],
    *,
    stream: bool,
    full_text: bool,
    listed: bool = False,
) -> Work:
    script = read_script(request.inputs, query)
    job = Job(request.inputs, request.inputs, request.parameters, script, stream)
    prefix = request.inputs if full_text else ""
    return Work([job], NativeForm(request.parameters.details, prefix, listed), stream)


def _stream_details(end: End) -> dict[str, object]:
    return {
        "finish_reason": end.finish_reason,
        "generated_tokens": end.generated_tokens,
        "seed": end.seed,
        "input_length": end.input_tokens,
    }


def _details(end: End, steps: Sequence[Step]) -> dict[str, object]:
    return {
        "finish_reason": end.finish_reason,
        "generated_tokens": end.generated_tokens,
        "seed": end.seed,
        "prefill": [],
        "tokens": [step.token for step in steps],
    }
