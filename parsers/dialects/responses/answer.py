"""The object `response`: what surrounds an answer's items, from its creation to its end."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from parsers.dialects import client_input
from parsers.dialects.base import Identity, Members
from parsers.events import Finished, FinishReason, Usage

_Object = dict[str, object]

# What of a request stands in its answer too, and what stands there if it was not said.
_ECHOED: Mapping[str, object] = MappingProxyType(
    {
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": None,
        "truncation": "disabled",
        "user": None,
    }
)
# True whatever was asked for: nothing is stored, and so nothing can be followed up.
_FIXED: Mapping[str, object] = MappingProxyType(
    {"background": False, "previous_response_id": None, "store": False}
)
_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)
_JSON: msgspec.json.Decoder[object] = msgspec.json.Decoder(object)

_CUT = {
    FinishReason.LENGTH: "max_output_tokens",
    FinishReason.CONTENT_FILTER: "content_filter",
}
# What their raw words would only repeat.
_PLAIN = frozenset({"completed", *FinishReason, *_CUT.values()})


def echo_of(body: bytes) -> Mapping[str, object]:
    """What an answer to this request repeats of it. Raises BadPayload if it is no JSON object."""
    members = client_input.decode(_MEMBERS, body)
    said = {
        # decoded, for a line end between two members would break a frame
        name: client_input.decode(_JSON, members[name], name)
        for name in _ECHOED
        if name in members
    }
    return {name: value for name, value in said.items() if value is not None}


def is_cut(finished: Finished | None) -> bool:
    """Whether the answer stopped before its end."""
    return finished is not None and finished.reason in _CUT


def response_id(identity: Identity) -> str:
    """The answer's id, with the prefix that clients know it by."""
    return identity.id if identity.id.startswith("resp_") else f"resp_{identity.id}"


def response_object(identity: Identity, echo: Mapping[str, object]) -> _Object:
    """An answer in progress that has said nothing yet."""
    return {
        "id": response_id(identity),
        "object": "response",
        "created_at": identity.created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": identity.model,
        "output": [],
        "usage": None,
        **_ECHOED,
        **echo,
        **_FIXED,
    }


def ended(response: _Object, finished: Finished | None) -> _Object:
    """The answer at its end; it is whole if nobody said why it stopped."""
    if finished is None:
        return {**response, "status": "completed"}
    told: _Object = {"status": "completed"}
    if finished.reason in _CUT:
        details = {"reason": _CUT[finished.reason]}
        told = {"status": "incomplete", "incomplete_details": details}
    # What our words cannot say stays readable under the names it has in chat.
    if finished.raw is not None and finished.raw not in _PLAIN:
        told["native_finish_reason"] = finished.raw
    if finished.stop is not None:
        told["stop_reason"] = finished.stop
    return {**response, **told}


def usage_object(usage: Usage | None) -> _Object | None:
    """The counts; details are never left out, for the SDKs' types promise them."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {
            "cached_tokens": usage.cached or 0,
            "cache_write_tokens": usage.cache_write or 0,
        },
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.prompt + usage.completion,
    }
