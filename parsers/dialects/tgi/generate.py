"""TGI's native request, both ways: `inputs` and `parameters` (tgi.md section 4)."""

from __future__ import annotations

import msgspec

from parsers.chat import ChatRequest, CompletionRequest, OutputSchema, Request, Sampling
from parsers.dialects import client_input, transcript
from parsers.dialects.base import RequestHead, Untranslatable
from parsers.errors import BadPayload

_TARGET = "TGI"
_MAX_SEED = 2**64 - 1  # u64


class Grammar(msgspec.Struct, frozen=True):
    """What the answer must match; `value` is a JSON Schema here, never a regular expression."""

    type: str
    value: msgspec.Raw


class Parameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """The parameters that penstock reads or writes; TGI ignores unknown keys, and so do we.

    `watermark` and `truncate` are hints without a counterpart: not read, so dropped.
    """

    adapter_id: str | None = None
    best_of: int | None = None
    decoder_input_details: bool | None = None
    details: bool | None = None
    do_sample: bool | None = None
    frequency_penalty: float | None = None
    grammar: Grammar | None = None
    max_new_tokens: int | None = None
    repetition_penalty: float | None = None
    return_full_text: bool | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_n_tokens: int | None = None
    top_p: float | None = None
    typical_p: float | None = None


class GenerateRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of `/generate` and `/generate_stream`, and with `stream` that of `POST /`."""

    inputs: str
    parameters: Parameters | None = None
    stream: bool | None = None


class _HeadParameters(msgspec.Struct, frozen=True):
    details: bool | None = None


class _Head(msgspec.Struct, frozen=True):
    inputs: str
    parameters: _HeadParameters | None = None
    stream: bool | None = None


_HEAD = msgspec.json.Decoder(_Head)
_REQUEST = msgspec.json.Decoder(GenerateRequest)
_NO_PARAMETERS = Parameters(do_sample=True)


def peek(body: bytes, *, compat: bool = False) -> RequestHead:
    """What routing needs. TGI's body names no model; `include_usage` says "details asked".

    Raises BadPayload.
    """
    head = client_input.decode(_HEAD, body)
    details = head.parameters is not None and bool(head.parameters.details)
    return RequestHead(stream=compat and bool(head.stream), include_usage=details)


def decode(body: bytes, *, compat: bool = False) -> CompletionRequest:
    """The request as a completion.

    `compat` is for `POST /`: its body says whether to stream. Where it does not say whether to
    repeat the prompt, it is not repeated: TGI's own default there depends on a tag of the model
    that nobody here knows.
    Raises BadPayload, also for what would change the answer and has no word in the hub.
    """
    request = client_input.decode(_REQUEST, body)
    # Without the object TGI samples, with an empty one it is greedy (tgi.md section 4).
    parameters = _NO_PARAMETERS if request.parameters is None else request.parameters
    _refuse_untranslatable(parameters)
    stream = compat and bool(request.stream)
    return CompletionRequest(
        model="",
        prompt=request.inputs,
        stream=stream,
        include_usage=bool(parameters.details),
        sampling=_sampling(parameters),
        echo=bool(parameters.return_full_text),
        details=bool(parameters.details),
    )


def _refuse_untranslatable(parameters: Parameters) -> None:
    asked = {
        "adapter_id": parameters.adapter_id is not None,
        "best_of": parameters.best_of is not None and parameters.best_of > 1,
        "decoder_input_details": bool(parameters.decoder_input_details),
        "grammar": parameters.grammar is not None,
        "top_n_tokens": bool(parameters.top_n_tokens),
    }
    for field, wanted in asked.items():
        if wanted:
            raise BadPayload(f"parameters.{field}: not supported for this model")


def _sampling(parameters: Parameters) -> Sampling:
    temperature = parameters.temperature
    return Sampling(
        max_tokens=parameters.max_new_tokens,
        temperature=0.0 if _greedy(parameters) else temperature,
        top_p=parameters.top_p,
        top_k=parameters.top_k,
        typical_p=parameters.typical_p,
        stop=parameters.stop or (),
        seed=parameters.seed,
        frequency_penalty=parameters.frequency_penalty,
        repetition_penalty=parameters.repetition_penalty,
    )


def _greedy(parameters: Parameters) -> bool:
    """Whether TGI would take the likeliest token: any warper switches sampling on by itself."""
    if parameters.do_sample:
        return False
    warpers = (parameters.top_p, parameters.top_k, parameters.typical_p)
    return parameters.temperature in (None, 1.0) and warpers == (None, None, None)


def encode(request: Request, *, compat: bool = False) -> bytes:
    """The body for a TGI server; the route decides on streaming, except on `POST /` (`compat`).

    Details are always asked for: they alone bring the finish reason and the token counts.
    `presence_penalty` is a hint that TGI has no word for, and is not sent. Raises Untranslatable
    for what TGI cannot do and what must not be dropped.
    """
    _refuse_unknown(request.sampling)
    if isinstance(request, ChatRequest):
        inputs, grammar, echo = _from_chat(request), _grammar(request.output), False
    else:
        inputs, grammar, echo = _from_completion(request), None, request.echo
    return msgspec.json.encode(
        GenerateRequest(
            inputs=inputs,
            parameters=_parameters(request.sampling, grammar, echo=echo),
            stream=request.stream if compat else None,
        )
    )


def _refuse_unknown(sampling: Sampling) -> None:
    # TGI's `best_of` gives one sequence back, so it is no `n`.
    if sampling.choices is not None and sampling.choices > 1:
        raise Untranslatable("n", _TARGET)
    # `top_n_tokens` would bring them, but in a form that no other dialect's client reads.
    if sampling.logprobs is not None:
        raise Untranslatable("logprobs", _TARGET)


def _from_completion(request: CompletionRequest) -> str:
    if request.suffix:
        raise Untranslatable("suffix", _TARGET)
    if request.echo and request.stream:  # a native stream never repeats the prompt
        raise Untranslatable("echo", _TARGET)
    return request.prompt


def _from_chat(request: ChatRequest) -> str:
    if request.tools:
        raise Untranslatable("tools", _TARGET)
    return transcript.render(request.messages, _TARGET)


def _grammar(output: OutputSchema | None) -> Grammar | None:
    if output is None:
        return None
    if output.schema is None:  # TGI refuses a schema without properties
        raise Untranslatable("response_format", _TARGET)
    return Grammar(type="json", value=output.schema)


def _parameters(sampling: Sampling, grammar: Grammar | None, *, echo: bool) -> Parameters:
    common = Parameters(
        details=True,
        do_sample=False,
        frequency_penalty=sampling.frequency_penalty,
        grammar=grammar,
        max_new_tokens=sampling.max_tokens,
        repetition_penalty=sampling.repetition_penalty,
        return_full_text=echo,  # always said: `POST /` has another default
        seed=None if sampling.seed is None else sampling.seed & _MAX_SEED,  # OpenAI's has a sign
        stop=sampling.stop or None,
    )
    if sampling.temperature is not None and sampling.temperature <= 0:
        return common  # any warper would switch sampling on again
    return msgspec.structs.replace(
        common,
        do_sample=True,
        temperature=sampling.temperature,
        top_k=sampling.top_k if (sampling.top_k or 0) > 0 else None,  # -1 and 0: off, elsewhere
        top_p=_open_unit(sampling.top_p),
        typical_p=_open_unit(sampling.typical_p),
    )


def _open_unit(probability: float | None) -> float | None:
    """TGI refuses 1, which means "off" everywhere else."""
    return None if probability is None or probability >= 1 else probability
