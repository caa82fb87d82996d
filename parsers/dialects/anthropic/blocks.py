"""The blocks of a streamed message: one after the other, each closed before the next opens.

Our events may come in another order: OpenAI's servers interleave the pieces of several calls. So
a call that is not whole when something else comes stays open, and what came waits behind it, as
frames, until the call's JSON is whole or the message ends (translation.md 2, rule 2). Blocks get
their numbers as they come, for they are written in that order.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto

import msgspec

from parsers.dialects.repair import NOT_JSON
from parsers.events import RedactedThinking, Thinking, ToolArguments, ToolCall

_json = msgspec.json.Encoder().encode
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])

_START = (
    b"event: content_block_start\n"
    b'data: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
)
_DELTA = (
    b"event: content_block_delta\n"
    b'data: {"type":"content_block_delta","index":%d,"delta":{"type":"%b","%b":'
)
_DELTA_END = b"}}\n\n"
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'

_TEXT = b'{"type":"text","text":""}'
_THINKING = b'{"type":"thinking","thinking":"","signature":""}'
_REDACTED = b'{"type":"redacted_thinking","data":%b}'
_CALL = b'{"type":"tool_use","id":%b,"name":%b,"input":{}}'

# How often the JSON of one call is read to see whether it is whole, each time from its beginning.
_MAX_TRIES = 32


class _Kind(Enum):
    TEXT = auto()
    THINKING = auto()
    CALL = auto()
    SEALED = auto()  # nothing more goes into it


class _Block:
    __slots__ = ("arguments", "delta", "index", "is_closed", "kind", "tries", "waiting")

    def __init__(self, index: int, kind: _Kind, delta: bytes) -> None:
        self.index = index
        self.kind = kind
        self.delta = delta  # how the frame of a piece begins
        self.waiting: list[bytes] = []  # frames that may not be written yet
        self.arguments: list[str] = []
        self.tries = _MAX_TRIES
        self.is_closed = False

    def is_whole(self) -> bool:
        """Whether it can be closed; a call only with its arguments, for more may come."""
        if self.kind is not _Kind.CALL:
            return True
        if not self.tries or not self.arguments:
            return False
        self.tries -= 1
        try:
            _OBJECT.decode("".join(self.arguments))
        except NOT_JSON:
            return False
        return True


class Blocks:
    """Gives the frames that can be written now, for each thing that is said."""

    def __init__(self) -> None:
        self._count = 0
        self._line: deque[_Block] = deque()  # the first is open, the others wait
        self._calls: dict[int, _Block] = {}
        self._text_delta: bytes | None = None  # where nothing but a text is open

    @property
    def has_calls(self) -> bool:
        """Whether a call was opened."""
        return bool(self._calls)

    def text(self, text: str) -> bytes:
        """A piece of text, not empty."""
        # per token
        delta = self._text_delta
        if delta is not None:
            return delta + _json(text) + _DELTA_END
        block, out = self._last(_Kind.TEXT, _TEXT, b"text_delta", b"text")
        out += self._put(block, block.delta + _json(text) + _DELTA_END)
        if len(self._line) == 1:
            self._text_delta = block.delta
        return out

    def thinking(self, event: Thinking) -> bytes:
        """A piece of thought; its signature ends the block."""
        # per token
        if not event.text and not event.signature:
            return b""
        block, out = self._last(_Kind.THINKING, _THINKING, b"thinking_delta", b"thinking")
        if event.text:
            out += self._put(block, block.delta + _json(event.text) + _DELTA_END)
        if event.signature:
            delta = _DELTA % (block.index, b"signature_delta", b"signature")
            out += self._put(block, delta + _json(event.signature) + _DELTA_END)
            block.kind = _Kind.SEALED
        return out

    def redacted(self, event: RedactedThinking) -> bytes:
        """A block of thought that only its model can read."""
        return self._add(_Kind.SEALED, _REDACTED % _json(event.data), b"", b"")

    def call(self, event: ToolCall, call_id: str) -> bytes:
        """A call opens."""
        opening = _CALL % (_json(call_id), _json(event.name))
        out = self._add(_Kind.CALL, opening, b"input_json_delta", b"partial_json")
        self._calls[event.call] = self._line[-1]
        return out

    def arguments(self, event: ToolArguments) -> bytes:
        """A piece of a call's arguments; what comes after they were whole is no part of them."""
        # per token
        block = self._calls.get(event.call)
        if block is None or block.is_closed or not event.fragment:
            return b""
        block.arguments.append(event.fragment)
        out = self._put(block, block.delta + _json(event.fragment) + _DELTA_END)
        if len(self._line) > 1 and event.fragment.rstrip().endswith("}"):
            out += self._advance()
        return out

    def close(self) -> bytes:
        """Everything that waits, and the end of all blocks."""
        out = [self._closed(block) for block in self._line]
        self._line.clear()
        self._text_delta = None
        return b"".join(out)

    def _last(
        self, kind: _Kind, opening: bytes, type_: bytes, member: bytes
    ) -> tuple[_Block, bytes]:
        """The block that goes on, if the last is of this kind, else a new one and its frames."""
        if self._line and self._line[-1].kind is kind:
            return self._line[-1], b""
        out = self._add(kind, opening, type_, member)
        return self._line[-1], out

    def _add(self, kind: _Kind, opening: bytes, type_: bytes, member: bytes) -> bytes:
        self._text_delta = None
        block = _Block(self._count, kind, _DELTA % (self._count, type_, member))
        self._count += 1
        self._line.append(block)
        return self._put(block, _START % (block.index, opening)) + self._advance()

    def _put(self, block: _Block, frame: bytes) -> bytes:
        # per token
        if block is self._line[0]:
            return frame
        block.waiting.append(frame)
        return b""

    def _advance(self) -> bytes:
        """Close the open block if it is whole and others wait; and those after it."""
        out = []
        while len(self._line) > 1 and self._line[0].is_whole():
            out.append(self._closed(self._line.popleft()))
            out += self._line[0].waiting
            self._line[0].waiting = []
        return b"".join(out)

    def _closed(self, block: _Block) -> bytes:
        block.is_closed = True
        block.arguments = []
        return b"".join(block.waiting) + _STOP % block.index
