"""The parts of a message that mean something to us, whole or in events.

Compatible servers disagree about leaves, and one odd leaf must not end a stream. So leaves are
`object` and are looked at where they are used; only the structure is typed.
"""

from __future__ import annotations

import msgspec

from parsers.dialects.base import NoCounts

ABSENT = msgspec.Raw(b"")


class Block(msgspec.Struct, frozen=True, gc=False):
    """An entry of `content`, and what a `content_block_start` opens."""

    type: object = None
    text: object = None
    thinking: object = None
    signature: object = None
    data: object = None
    id: object = None
    name: object = None
    input: msgspec.Raw = ABSENT


class Delta(msgspec.Struct, frozen=True, gc=False):
    """A piece of a block, or what `message_delta` says of the message."""

    type: object = None
    text: object = None
    thinking: object = None
    signature: object = None
    partial_json: object = None
    stop_reason: object = None
    stop_sequence: object = None


class OutputDetails(msgspec.Struct, frozen=True, gc=False):
    """`usage.output_tokens_details`."""

    thinking_tokens: object = None


class Counts(msgspec.Struct, frozen=True, gc=False):
    """`usage`; what an event does not say is as it was."""

    input_tokens: object = None
    output_tokens: object = None
    cache_creation_input_tokens: object = None
    cache_read_input_tokens: object = None
    output_tokens_details: OutputDetails | NoCounts = None


class Head(msgspec.Struct, frozen=True, gc=False):
    """`message` of a `message_start`."""

    id: object = None
    model: object = None
    usage: Counts | NoCounts = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """Any event of a stream; their members do not collide."""

    type: object = None
    index: object = 0
    delta: Delta | None = None
    content_block: Block | None = None
    message: Head | None = None
    usage: Counts | NoCounts = None
    error: object = None


class Kind(msgspec.Struct, frozen=True, gc=False):
    """An event of which nothing but its type can be read."""

    type: str


class Body(Head, frozen=True, gc=False):
    """A whole answer."""

    content: list[Block] | None = None
    stop_reason: object = None
    stop_sequence: object = None
    error: object = None


class BareBlock(msgspec.Struct, frozen=True, gc=False):
    """A block without what it says."""

    type: object = None


class BareBody(msgspec.Struct, frozen=True, gc=False):
    """A whole answer without what it says."""

    content: list[BareBlock] | None = None
    stop_reason: object = None
    stop_sequence: object = None
    usage: Counts | NoCounts = None
    error: object = None


EVENT = msgspec.json.Decoder(Event)
KIND = msgspec.json.Decoder(Kind)
BODY = msgspec.json.Decoder(Body)
BARE = msgspec.json.Decoder(BareBody)
