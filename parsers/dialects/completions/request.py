"""A text completion request, both ways.

The hub has one prompt, as text. Several prompts, or prompts as token ids, are understood only by
a server of the same protocol, which gets them untouched on the exact path.
"""

from __future__ import annotations

import msgspec

from parsers.chat import CompletionRequest, Request, Sampling
from parsers.dialects import client_input
from parsers.dialects.base import Members, Untranslatable
from parsers.dialects.openai.beside import TERMS, passed_over
from parsers.errors import BadPayload


class _StreamOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    include_usage: bool | None = None


class _Request(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is read and written."""

    model: str | None = None
    prompt: str | list[object] | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None  # vLLM's, SGLang's and llama.cpp's addition, as the next two
    typical_p: float | None = None
    repetition_penalty: float | None = None
    stop: str | tuple[str, ...] | None = None
    seed: int | None = None
    n: int | None = None
    best_of: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: int | None = None
    suffix: str | None = None
    echo: bool | None = None
    user: str | None = None


_REQUEST = msgspec.json.Decoder(_Request)
_KNOWN = frozenset(_Request.__struct_fields__)
# The form of the answer, for which raw text has no word in the hub.
_TERMS = TERMS | {"response_format", "guided_json"}
_ASK_FOR_USAGE = _StreamOptions(include_usage=True)
_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)


def decode_request(body: bytes) -> CompletionRequest:
    """The whole request. Raises BadPayload, with a text for the client, on bad input."""
    wire = client_input.decode(_REQUEST, body)
    hints = passed_over(client_input.decode(_MEMBERS, body), _KNOWN, _TERMS)
    # More candidates than are given back: no other protocol can choose among them.
    if wire.best_of is not None and wire.best_of > (wire.n or 1):
        raise BadPayload("best_of: not supported for this model")
    return CompletionRequest(
        model=wire.model or "",
        prompt=_prompt(wire.prompt),
        stream=bool(wire.stream),
        include_usage=bool(wire.stream_options and wire.stream_options.include_usage),
        sampling=_sampling(wire),
        suffix=wire.suffix,
        echo=bool(wire.echo),
        user=wire.user,
        passed_over=hints,
    )


def _prompt(prompt: str | list[object] | None) -> str:
    match prompt:
        case str(text) | [str(text)]:
            return text
        case None:
            raise BadPayload("prompt: missing")
        case _:
            raise BadPayload("prompt: this model takes one text, not several and not token ids")


def _sampling(wire: _Request) -> Sampling:
    return Sampling(
        max_tokens=wire.max_tokens,
        temperature=wire.temperature,
        top_p=wire.top_p,
        top_k=wire.top_k,
        typical_p=wire.typical_p,
        stop=(wire.stop,) if isinstance(wire.stop, str) else wire.stop or (),
        seed=wire.seed,
        choices=wire.n,
        presence_penalty=wire.presence_penalty,
        frequency_penalty=wire.frequency_penalty,
        repetition_penalty=wire.repetition_penalty,
        logprobs=wire.logprobs,
    )


def request_members(request: Request, model: str, target: str) -> Members:
    """The request, member by member, under the upstream's own name of the model.

    Raises Untranslatable for a conversation: this protocol has no template for it.
    """
    if not isinstance(request, CompletionRequest):
        raise Untranslatable("messages", target)
    sampling = request.sampling
    wire = _Request(
        model=model,
        prompt=request.prompt,
        stream=request.stream or None,
        stream_options=_ASK_FOR_USAGE if request.stream and request.include_usage else None,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        typical_p=sampling.typical_p,
        repetition_penalty=sampling.repetition_penalty,
        stop=sampling.stop or None,
        seed=sampling.seed,
        n=sampling.choices,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        logprobs=sampling.logprobs,
        suffix=request.suffix,
        echo=request.echo or None,
        user=request.user,
    )
    return _MEMBERS.decode(msgspec.json.encode(wire))
