"""What a dialect can do, for a client that speaks it and for a server that answers in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol, TypeAlias, runtime_checkable

import msgspec

from parsers.chat import Operation, Request
from parsers.events import Fault, StreamEvent

# The top level of a JSON request, each value still in the sender's own bytes.
Members: TypeAlias = dict[str, msgspec.Raw]
Amend: TypeAlias = Callable[[Members], None]

# What compatible servers put in the place of an object of counts: nothing is counted then, and
# no answer fails for it.
NoCounts: TypeAlias = str | float | bool | list[object] | None

# One event may hold a picture or a whole tool call (fixture openai/chat-huge-event), not more.
MAX_EVENT_BYTES = 16 * 1024 * 1024


class RequestHead(msgspec.Struct, frozen=True, gc=False):
    """What routing needs to know of a request, read without decoding the rest."""

    model: str = ""  # empty: the client named none
    stream: bool = False
    include_usage: bool = False
    fast: bool = False  # Cody's: the default model for fast answers, whatever `model` says
    members: Members | None = None  # what was read on the way, for `forward`


class Identity(msgspec.Struct, frozen=True, gc=False):
    """The name of an answer; made by the relay, for a parser invents no id and reads no clock."""

    id: str
    created: int  # seconds since the epoch
    model: str


class StreamDecoder(Protocol):
    """The bytes of one upstream answer, as events. After a terminal event it gives no more."""

    @property
    def frames(self) -> int:
        """How many of the wire's own events, or lines, it has read."""

    @property
    def pending_bytes(self) -> int:
        """How many of the bytes fed last belong to an event that is not complete."""

    @property
    def odd(self) -> bool:
        """Whether there was what the dialect's own clients fail on, and we do not."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that these bytes complete. Raises ParseError beyond the event limit."""

    def close(self) -> list[StreamEvent]:
        """The last events, at a clean end of the body; ends in exactly one terminal event.

        A broken connection is not a clean end: then do not call it.
        """


class StreamEncoder(Protocol):
    """Events, as the bytes of one answer to a client."""

    def encode(self, event: StreamEvent) -> bytes:
        """The frames for this event; empty where the dialect has no word for it."""


class UpstreamDialect(Protocol):
    """How a model server is asked and how it answers."""

    @property
    def name(self) -> str:
        """Equal names on both sides mean the exact path."""

    @property
    def spoken(self) -> frozenset[str]:
        """The optional fields of a request that it understands, by their names in `policy`."""

    def amend(self, members: Members) -> None:
        """Rewrite, in place, what this server understands differently from its dialect."""

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body, for the upstream's own name of the model.

        What the dialect has no word for, `policy` has taken out or refused. Raises Untranslatable
        for what the dialect cannot say in this one request.
        """

    def stream_decoder(self, max_event_bytes: int = MAX_EVENT_BYTES) -> StreamDecoder:
        """A decoder for one streamed answer."""

    def decode_body(self, body: bytes) -> list[StreamEvent]:
        """A whole, not streamed answer as the same events, terminal event included."""

    def judge_body(self, body: bytes) -> list[StreamEvent]:
        """As `decode_body`, for who needs to know how the answer ended and not what it says.

        Events with content may be left out.
        """

    def decode_error(self, status: int, body: bytes) -> Fault:
        """What a failed call was about, from whatever body came with it."""


@runtime_checkable
class HeaderReader(Protocol):
    """An upstream dialect whose servers say in a header what kind of error it is (AWS)."""

    def decode_refusal(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> Fault:
        """As `decode_error`; the names of the headers are in lower case."""


def refusal_of(
    dialect: UpstreamDialect, status: int, headers: Mapping[bytes, bytes], body: bytes
) -> Fault:
    """What a failed call was about, from everything that came with it."""
    if isinstance(dialect, HeaderReader):
        return dialect.decode_refusal(status, headers, body)
    return dialect.decode_error(status, body)


class ClientDialect(Protocol):
    """How a client asks and wants to be answered."""

    @property
    def name(self) -> str:
        """Equal names on both sides mean the exact path."""

    @property
    def operation(self) -> Operation:
        """What its requests ask for."""

    @property
    def keepalive(self) -> bytes:
        """What may be written between two frames to say "still here"; empty: nothing may."""

    @property
    def error_content_type(self) -> str:
        """The content type of `encode_error`."""

    @property
    def words(self) -> Mapping[str, str]:
        """Its names for fields of `policy`, where they are not OpenAI's."""

    def peek(self, body: bytes) -> RequestHead:
        """Model and stream flag. Raises BadPayload, with a text for the client, on bad input."""

    def decode_request(self, body: bytes) -> Request:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""

    def stream_encoder(self, identity: Identity, *, include_usage: bool) -> StreamEncoder:
        """An encoder for one streamed answer."""

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""

    def encode_error(self, fault: Fault, status: int) -> bytes:
        """The body of an error answer."""

    def error_frame(self, fault: Fault, status: int) -> bytes:
        """The frame that tells of a failure after the first byte."""

    def error_status(self, fault: Fault, status: int, *, streaming: bool) -> int:
        """The status of an error answer, `status` itself in most dialects.

        `streaming` says that a model server was asked for a stream, of which nothing has been
        sent. 200 then means a stream of `error_frame` alone.
        """


class ExactDialect(ClientDialect, Protocol):
    """A dialect that servers speak too, so that bytes can be passed on as they are."""

    @property
    def remembers(self) -> bool:
        """Whether a request may refer to earlier answers by names that their server gave them."""

    def forward(
        self, body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
    ) -> bytes:
        """The same request under the upstream's model name, asking for usage if told to.

        `members` are those that `peek` gave, so that a long body is read through once.
        Every value that is neither renamed nor amended keeps its bytes.
        """

    def without_usage(self, frames: bytes) -> bytes:
        """Whole frames as read, without those that only report usage."""

    def mended(self, frames: bytes) -> bytes:
        """Whole frames as its clients' own readers can take them; asked for once a decoder is odd.

        Every event keeps its data.
        """


@runtime_checkable
class Renamer(Protocol):
    """An exact dialect whose answers name the model in one place alone."""

    def renamed(self, body: bytes, model: str) -> bytes:
        """A whole answer as read, by a model of this name."""


class Untranslatable(ValueError):
    """The target dialect has no word for a field that changes the contract.

    `field` is its name in `policy`, or the place in the messages; `named` gives the error under
    the client's name for it.
    """

    def __init__(self, field: str, target: str) -> None:
        super().__init__(f'"{field}" cannot be expressed to a {target} server')
        self.field = field
        self.target = target

    def named(self, words: Mapping[str, str]) -> Untranslatable:
        """The same, in the words of the client's dialect."""
        return Untranslatable(words.get(self.field, self.field), self.target)
