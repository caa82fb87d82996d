"""The parts of a response, whole or in events, that mean something to us.

As in `openai.wire`, leaves are `object` and are looked at where they are used: one odd leaf must
not end a stream. llama.cpp names no `output_index`, proxies change the item ids in every event.
"""

from __future__ import annotations

import msgspec

from parsers.dialects.base import NoCounts
from parsers.events import MAX_COUNT, Usage


class InputDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.input_tokens_details`."""

    cached_tokens: object = None
    cache_write_tokens: object = None


class OutputDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.output_tokens_details`."""

    reasoning_tokens: object = None


class Counts(msgspec.Struct, frozen=True, gc=False):
    """`usage`."""

    input_tokens: object = None
    output_tokens: object = None
    input_tokens_details: InputDetails | NoCounts = None
    output_tokens_details: OutputDetails | NoCounts = None


class Item(msgspec.Struct, frozen=True, gc=False):
    """An entry of `output`."""

    type: object = None
    id: object = None
    content: object = None
    summary: object = None
    encrypted_content: object = None
    call_id: object = None
    name: object = None
    arguments: object = None
    input: object = None  # of a call whose arguments are no JSON
    extra_content: object = None  # a call's signature, as in chat


class Incomplete(msgspec.Struct, frozen=True, gc=False):
    """`incomplete_details`."""

    reason: object = None


class Response(msgspec.Struct, frozen=True, gc=False):
    """A whole answer, and the state of one in the events of its life."""

    id: object = None
    model: object = None
    created_at: object = None
    status: object = None
    error: object = None
    incomplete_details: Incomplete | None = None
    output: list[Item] | None = None
    usage: Counts | NoCounts = None
    native_finish_reason: object = None  # our own extension, as in chat
    stop_reason: object = None  # likewise


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of a stream."""

    type: object = None
    delta: object = None
    text: object = None
    refusal: object = None
    arguments: object = None
    input: object = None
    item_id: object = None
    output_index: object = None
    content_index: object = None
    summary_index: object = None
    logprobs: object = None
    item: Item | None = None
    response: Response | None = None


EVENT: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
RESPONSE: msgspec.json.Decoder[Response] = msgspec.json.Decoder(Response)


def usage_of(counts: object) -> list[Usage]:
    """The counts as an event, if anything was counted."""
    if not isinstance(counts, Counts):
        return []
    prompt, completion = _count(counts.input_tokens), _count(counts.output_tokens)
    if prompt is None and completion is None:
        return []
    before, after = counts.input_tokens_details, counts.output_tokens_details
    before = before if isinstance(before, InputDetails) else None
    after = after if isinstance(after, OutputDetails) else None
    usage = Usage(
        prompt=prompt or 0,
        completion=completion or 0,
        cached=_count(before.cached_tokens) if before else None,
        reasoning=_count(after.reasoning_tokens) if after else None,
        cache_write=_count(before.cache_write_tokens) if before else None,
    )
    return [usage]


def text_of(value: object) -> str | None:
    """A text that is not empty."""
    return value if isinstance(value, str) and value else None


def number_of(value: object) -> int | None:
    """A number that counts something."""
    return value if type(value) is int else None


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value <= MAX_COUNT else None
