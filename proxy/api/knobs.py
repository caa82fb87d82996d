"""A model's client-side knobs as defaults of a request: clients are told them and ignore most.

What a request says itself stays, zero included (B-06, B-07).
"""

from __future__ import annotations

from typing import TypeVar

import msgspec

from parsers.chat import ChatRequest, Request, Sampling
from proxy.config.schema import Knobs
from proxy.registry import Model

T = TypeVar("T")


def with_knobs(request: Request, model: Model) -> Request:
    """The request, asking for what the knobs say wherever it says nothing itself."""
    knobs = model.config.knobs
    if knobs is None:
        return request
    defaults = chat_defaults(knobs) if isinstance(request, ChatRequest) else code_defaults(knobs)
    return msgspec.structs.replace(request, sampling=_filled(request.sampling, defaults))


def chat_defaults(knobs: Knobs) -> Sampling:
    """What a chat asks for by default."""
    return Sampling(
        max_tokens=knobs.chat_max_tokens or None,
        temperature=knobs.chat_temperature,
        top_p=knobs.chat_top_p or None,
        top_k=_whole(knobs.chat_top_k),
        stop=knobs.stop_sequences or (),
    )


def code_defaults(knobs: Knobs) -> Sampling:
    """What a completion asks for by default; it does not say how many lines it wants."""
    longest = max(
        knobs.auto_complete_singleline_max_tokens or 0,
        knobs.auto_complete_multiline_max_tokens or 0,
    )
    return Sampling(
        max_tokens=longest or None,
        temperature=knobs.auto_complete_temperature,
        top_p=knobs.auto_complete_top_p or None,
        top_k=_whole(knobs.auto_complete_top_k),
        stop=knobs.stop_sequences or (),
    )


def _filled(given: Sampling, defaults: Sampling) -> Sampling:
    return msgspec.structs.replace(
        given,
        max_tokens=_either(given.max_tokens, defaults.max_tokens),
        temperature=_either(given.temperature, defaults.temperature),
        top_p=_either(given.top_p, defaults.top_p),
        top_k=_either(given.top_k, defaults.top_k),
        stop=given.stop or defaults.stop,
    )


def _either(given: T | None, default: T | None) -> T | None:
    return default if given is None else given


def _whole(number: float | None) -> int | None:
    return int(number) if number is not None and number >= 1 else None
