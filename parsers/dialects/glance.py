r"""Reads of a stream that need no decoding, because all that they can say is known beforehand.

A model server writes the same bytes around each piece of text. `Glance` learns these bytes, the
*mould*, from two reads that were decoded, and counts a later read that fits it without decoding.
That its count is the decoder's own is a proof, not a guess:

1. The mould is `prefix + text + suffix`, one event of one data line with its blank line, cut out of
   two reads in a row, A and B, each at an event boundary and each told as that one text alone.
2. B's payload is JSON, and its text is a whole string token in it and no key. So whatever body of a
   JSON string replaces it (`_BODY`: UTF-8 without bare quote, backslash or control character; what
   is not UTF-8 clients could not read, and is left to `mending`), the result is the same event with
   another string in this one place.
3. A decoder reads no meaning from a string at the place of a text but whether it is empty (every
   other field that is looked at is another token). And the text does come from this place: A and B
   differ nowhere else, and were told as different texts.
4. B, read right after A, found everything as A had left it: the answer begun, the choice known and
   open, the parser between events. It left it so, and so does all that fits the mould after B, each
   told as one text. Skipping these reads is feeding them.
5. The first read that does not fit ends the mould. So between B and the reads that are counted
   nothing was decoded that could have finished a choice, broken off or begun an event.

Events that differ elsewhere too (TGI's native ones have an index and a token id) are never learnt;
after a few tries nothing is tried any more. Figures, and what else was weighed:
docs/adr/0011-glance.md; tests/parsers/test_glance.py compares both readings on all fixtures.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from parsers.dialects.repair import NOT_JSON
from parsers.events import StreamEvent, Text, Thinking

_PATIENCE = 8  # how many reads in a row may teach nothing before we give up
_MAX_LEARNT_BYTES = 4096  # an ordinary event has 200 to 400

_BLANK_LINES = (b"\n\n", b"\r\n\r\n")
_EVENT = re.compile(rb"(?:event:[^\r\n]*+(?:\r\n|\n))?data:(?P<payload>[^\r\n]*+)(?:\n\n|\r\n\r\n)")
# What may precede a string in a JSON text: strings that are whole, and no quote besides.
_STRINGS = re.compile(rb'(?:[^"]*+"(?:[^"\\]++|\\.)*+")*+[^"]*+')
_KEY_END = re.compile(rb'"[ \t]*+:')
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]++')
# Surrogates only in pairs: half of one is no character. Beyond ASCII only UTF-8 (RFC 3629, 4).
_BODY = re.compile(
    rb"(?:[ !#-\[\]-\x7f]++"
    rb'|\\["\\/bfnrt]'
    rb"|\\u(?:[0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}"
    rb"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    # Two branches, not six: each costs something at the end of every text.
    rb"|[\xe1-\xec\xee\xef][\x80-\xbf]{2}"
    rb"|[\xc2-\xf4](?:(?<=[\xc2-\xdf])[\x80-\xbf]|(?<=\xe0)[\xa0-\xbf][\x80-\xbf]"
    rb"|(?<=\xed)[\x80-\x9f][\x80-\xbf]|(?<=\xf0)[\x90-\xbf][\x80-\xbf]{2}"
    rb"|(?<=[\xf1-\xf3])[\x80-\xbf]{3}|(?<=\xf4)[\x80-\x8f][\x80-\xbf]{2}))++"
)
_is_body = _BODY.fullmatch
_JSON: msgspec.json.Decoder[object] = msgspec.json.Decoder(object)


class _Mould(msgspec.Struct, frozen=True):
    prefix: bytes
    text: bytes  # of the read that it was cut out of
    suffix: bytes


class Glance:
    """Beside the decoder of one stream: `dull` first, and if that is 0, `feed`, then `learn`.

    Every read of the stream goes through it. `max_event_bytes` is the decoder's.
    """

    def __init__(self, max_event_bytes: int) -> None:
        self._max_bytes = max_event_bytes
        self._patience = _PATIENCE
        self._candidate: _Mould | None = None
        self._at_boundary = False  # whether the read decoded last ended an event
        self._prefix: bytes | None = None  # of the mould in use
        self._suffix = b""
        self._seam = b""

    def dull(self, data: bytes) -> int:
        """How many texts, and nothing else, the decoder would tell of this read; 0: decode it."""
        # per token
        prefix = self._prefix
        if prefix is None:
            return 0
        if data.startswith(prefix) and data.endswith(self._suffix) and len(data) <= self._max_bytes:
            self._patience = _PATIENCE
            if _is_body(data, len(prefix), len(data) - len(self._suffix)):
                return 1
            texts = data[len(prefix) : -len(self._suffix)].split(self._seam)
            if all(map(_is_body, texts)):
                return len(texts)
        self._prefix = None
        return 0

    def learn(self, data: bytes, events: Sequence[StreamEvent]) -> None:
        """Take note of a read that was decoded, and of all that it gave."""
        # per token, where nothing can be learnt
        if not self._patience:
            return
        at_boundary, self._at_boundary = self._at_boundary, data.endswith(_BLANK_LINES)
        if len(events) != 1 or not isinstance(events[0], Text | Thinking):
            self._candidate = None
        elif at_boundary and len(data) <= _MAX_LEARNT_BYTES:
            self._learn(data, events[0].text.encode())

    def _learn(self, data: bytes, text: bytes) -> None:
        before, after = self._candidate, _cut(data, text)
        self._candidate = after
        self._patience -= 1
        if before is None or after is None or before.text == after.text:
            return
        if (before.prefix, before.suffix) == (after.prefix, after.suffix) and _is_sound(after):
            self._prefix, self._suffix = after.prefix, after.suffix
            self._seam = after.suffix + after.prefix


def _cut(data: bytes, text: bytes) -> _Mould | None:
    """The bytes around the text; None if it does not stand in them as it is."""
    at = data.rfind(b'"%b"' % text) + 1
    if not at or not _PLAIN.fullmatch(text):
        return None
    return _Mould(data[:at], text, data[at + len(text) :])


def _is_sound(mould: _Mould) -> bool:
    """Whether it is one event, and its text a whole string in the event's JSON and no key."""
    event = _EVENT.fullmatch(mould.prefix + mould.text + mould.suffix)
    if event is None or _KEY_END.match(mould.suffix):
        return False
    try:
        _JSON.decode(event["payload"])
    except NOT_JSON:
        return False
    opening = len(mould.prefix) - 1
    return bool(_STRINGS.fullmatch(mould.prefix, event.start("payload"), opening))
