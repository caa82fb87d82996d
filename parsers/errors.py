"""What a parser raises when bytes are not the format: `ParseError` and its children.

`parsers` promises on any input either values or a `ParseError`, in memory bounded by the
constructor's limits. Anything else that leaves a parser is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

SizeLimit: TypeAlias = Literal["line_too_long", "event_too_large"]
FrameDefect: TypeAlias = Literal["prelude_crc", "message_crc", "length", "header", "truncated"]


class ParseError(ValueError):
    """The input is not in the format; the message never quotes the input."""


class BadPayload(ParseError):
    """A frame was well formed, its content was not."""


class FrameTooLarge(ParseError):
    """A line or an event went over the limit given to the parser.

    `kind` names the limit. `events` are what the same call completed before it: nothing else
    returns them.
    """

    def __init__(
        self,
        message: str = "event over the size limit",
        *,
        kind: SizeLimit = "event_too_large",
        events: Sequence[object] = (),
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.events = events


class BadFrame(ParseError):
    """A message of an AWS event stream that cannot be read, and so neither what follows it.

    `kind` says what is wrong with it. `messages` are what the same call completed before it:
    nothing else returns them.
    """

    def __init__(self, message: str, *, kind: FrameDefect, messages: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.kind = kind
        self.messages = messages


class BadChecksum(BadFrame):
    """A message that is not as it was sent: its CRC does not fit."""
