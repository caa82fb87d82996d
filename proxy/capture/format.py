"""The file of one capture: a line of JSON, then what passed, in the order in which it passed.

    {"format":"penstock-capture/1", …}
    #### 0.000310 client received 187
    POST /v1/chat/completions HTTP/1.1
    …
    #### 0.104531 upstream-1 received 211
    data: {"id":"x","choices":[…

A marker says when (monotonic seconds since the request came), who was at the other end, whether
penstock received, sent, or saw the end, and how many bytes follow; they are the bytes of one read
or write, with a line feed after them that is not theirs. What follows `ended` is one of `ENDINGS`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TypeAlias, cast

import msgspec

FORMAT = "penstock-capture/1"
CLIENT = "client"
# How an upstream's answer ended: as framed, or as `proxy.transport.Kind` has it, or by our abort.
ENDINGS = (
    *("whole", "reset", "truncated", "framing", "too_large"),
    *("unreachable", "timeout", "aborted"),
)

Act: TypeAlias = Literal["received", "sent", "ended"]

_MARKER = re.compile(rb"#### (\d+\.\d{6}) (client|upstream-\d+) (received|sent|ended) (\d+)")


class BadCapture(ValueError):
    """The bytes are not those of a capture; the text says where they stop being one."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One read or write, or an end."""

    at: float  # seconds since the request came
    party: str  # `client`, or `upstream-N` for the N-th call
    act: Act  # what penstock did
    data: bytes


class Header(msgspec.Struct, frozen=True):
    """The first line."""

    format: str
    time: str  # of day, UTC
    reason: str  # debug, failed, slow
    request: dict[str, Any]  # the fields of the request's log line
    incomplete: dict[str, int] = {}  # by "party act": bytes there were, where not all are kept


class CaptureFile(msgspec.Struct, frozen=True):
    """A capture as it was read."""

    header: Header
    events: tuple[Event, ...]

    def of(self, party: str, act: Act) -> list[Event]:
        """The events of this kind, in their order."""
        return [event for event in self.events if event.party == party and event.act == act]

    @property
    def upstreams(self) -> list[str]:
        """The calls to model servers, in their order."""
        parties = (event.party for event in self.events if event.party != CLIENT)
        return list(dict.fromkeys(parties))


def written(header: Header, events: Iterable[Event]) -> bytes:
    """The file."""
    parts = [msgspec.json.encode(header), b"\n"]
    for event in events:
        marker = f"#### {event.at:.6f} {event.party} {event.act} {len(event.data)}\n"
        parts += (marker.encode(), event.data, b"\n")
    return b"".join(parts)


def read_capture(data: bytes) -> CaptureFile:
    """The capture in a file's bytes. Raises BadCapture."""
    line, _, _ = data.partition(b"\n")
    try:
        header = msgspec.json.decode(line, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadCapture("the first line is not that of a capture") from error
    if header.format != FORMAT:
        raise BadCapture(f"the format is not {FORMAT}")
    return CaptureFile(header, tuple(_events(data, len(line) + 1)))


def _events(data: bytes, at: int) -> Iterator[Event]:
    while at < len(data):
        found = _MARKER.match(data, at)
        if found is None or data[found.end() : found.end() + 1] != b"\n":
            raise BadCapture(f"no marker at byte {at}")
        begin = found.end() + 1
        at = begin + int(found[4])
        if data[at : at + 1] != b"\n":
            raise BadCapture(f"the event at byte {found.start()} ends early")
        act = cast(Act, found[3].decode())  # the pattern knows no other
        yield Event(float(found[1]), found[2].decode(), act, data[begin:at])
        at += 1
