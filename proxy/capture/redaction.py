"""Takes out of what passed what nobody may see: each of its bytes becomes a `*`.

So nothing moves: lengths, chunks and the boundaries of reads stay as they were. It works on all
the bytes of one kind together, and on bodies without their chunks, since a secret may be cut by a
read, or by a chunk, anywhere.

Secret are: the texts that are hidden from clients (`plan.hidden`: keys, query tokens, `apiModel`,
custom headers, all other texts of a `serverSideConfig`); the values of headers that carry keys, of
query parameters, and of every header of a call that penstock does not write itself; and what has
the form of a vendor's key. Each of them is looked for everywhere, in whatever way it is quoted.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeAlias

import msgspec

from proxy.capture.canonical import Canonical
from proxy.capture.format import CLIENT, Act, Event
from proxy.capture.wire import Field, Message, message
from proxy.transport import Inflater, TransportError

_Kind: TypeAlias = tuple[str, Act]
_Span: TypeAlias = tuple[int, int]

# A shorter text could be any word: it counts only where it stands alone, and is not a name.
_WHOLE_BYTES = 8
_PREFIX_BYTES = 4  # of a secret that is cut off at the end, so much may be seen
_MAX_INFLATED_BYTES = 16 * 1024 * 1024
_WINDOW_BYTES, _OVERLAP_BYTES = 16 * 1024, 1024  # a regular expression keeps the loop waiting

# Headers of a call that say nothing but how to read it; all others were configured, or are keys.
_PLAIN_HEADERS = frozenset(
    {
        *(b"accept", b"accept-encoding", b"anthropic-beta", b"anthropic-version", b"connection"),
        *(
            b"content-length",
            b"content-type",
            b"host",
            b"openai-beta",
            b"traceparent",
            b"tracestate",
        ),
        *(b"transfer-encoding", b"user-agent", b"x-amz-content-sha256", b"x-amz-date"),
        *(b"x-amzn-bedrock-accept", b"x-request-id"),
    }
)
_KEY_HEADERS = re.compile(
    rb"(?:.*[-_])?(?:authorization|cookie2?|api-?key|key|secret|password|credentials?|signature"
    rb"|auth|session|jwt|assertion|cert|(?<!per-)token)"
)
_PLAIN_PARAMETERS = frozenset(
    {b"api-version", b"alt", b"beta", b"client-name", b"client-version", b"stream"}
)
_REQUEST = re.compile(rb"[A-Z]+ /")
_PARAMETER = re.compile(rb"[?&;]([^=&; ]*)=([^&; ]*)")
# What vendors' keys look like; as in `parsers.dialects.safe_text`.
_FORMS = re.compile(
    rb"(?i:\bbearer\s+)([^\s\"',;\\]{8,})"
    rb"|\b((?:sk|pk|rk|hf|gsk|xai|fw|pplx|nvapi|ghp|github_pat)[-_][\w*.-]{12,})"
    rb"|\b(AIza[\w-]{10,}|(?:AKIA|ASIA)[A-Z0-9]{12,}|eyJ[\w-]{10,}\.[\w-]+\.[\w.-]*)"
)
_NAME_AFTER = re.compile(rb'\\*"\s*:')


def redacted(events: Sequence[Event], hidden: Iterable[str]) -> list[Event]:
    """The events without what is hidden, and without what their own heads say is secret."""
    streams = _streams(events)
    messages = {kind: message(data) for kind, data in streams.items()}
    secrets = Secrets(hidden)
    for kind, data in streams.items():
        if _is_request(kind):
            secrets.learn(data, messages[kind], is_call=kind[0] != CLIENT)
    clean = {kind: secrets.masked(data, messages[kind]) for kind, data in streams.items()}
    return list(_cut(events, clean))


def _streams(events: Iterable[Event]) -> dict[_Kind, bytes]:
    parts: dict[_Kind, list[bytes]] = {}
    for event in events:
        parts.setdefault((event.party, event.act), []).append(event.data)
    return {kind: b"".join(data) for kind, data in parts.items() if kind[1] != "ended"}


def _cut(events: Iterable[Event], streams: dict[_Kind, bytes]) -> Iterator[Event]:
    """The events with these bytes, where they were cut before."""
    places = dict.fromkeys(streams, 0)
    for event in events:
        kind = (event.party, event.act)
        if kind not in streams:
            yield event
            continue
        begin = places[kind]
        places[kind] = end = begin + len(event.data)
        yield msgspec.structs.replace(event, data=streams[kind][begin:end])


def _is_request(kind: _Kind) -> bool:
    return kind == (CLIENT, "received") or (kind[0] != CLIENT and kind[1] == "sent")


class Secrets:
    """What is looked for; grows by what the heads of requests hold."""

    def __init__(self, hidden: Iterable[str]) -> None:
        self._raw: set[bytes] = set()
        self._forms: set[bytes] = set()
        self._names: set[bytes] = set()  # of headers, in lower case
        for text in hidden:
            self._add(text.encode("utf-8", "surrogatepass"))

    def learn(self, data: bytes, request: Message, *, is_call: bool) -> None:
        """Take the keys of a request: of a call to a model server all that is not plain."""
        for field in request.fields:
            if self._is_key(field) or (is_call and field.name not in _PLAIN_HEADERS):
                self._names.add(field.name)
                self._add_value(field.value)
        for begin, end in _parameters(data, request):
            self._add_value(data[begin:end])

    def masked(self, data: bytes, found: Message) -> bytes:
        """The data with every secret masked, of the same length."""
        out = bytearray(data)
        for begin, end in self._spans(data, found):
            out[begin:end] = b"*" * (end - begin)
        return bytes(out)

    def _add(self, text: bytes) -> None:
        form = Canonical(text).text
        if form:
            self._raw.add(text)
            self._forms.add(form)

    def _add_value(self, value: bytes) -> None:
        """A header's value, with its scheme and without it; short ones could be any word."""
        for text in {value, value.rpartition(b" ")[2]}:
            if len(text) >= _WHOLE_BYTES:
                self._add(text)

    def _is_key(self, field: Field) -> bool:
        return field.name in self._names or _KEY_HEADERS.fullmatch(field.name) is not None

    def _spans(self, data: bytes, found: Message) -> Iterator[_Span]:
        for field in found.fields:
            if self._is_key(field):
                yield field.begin, field.end
        yield from _parameters(data, found)
        yield from self._in(_joined(data, found.frame), found.frame)
        body = _joined(data, found.body)
        yield from self._in(body, found.body)
        coding = found.value(b"content-encoding").lower()
        if coding not in (b"", b"identity") and self._hides_in(body, coding):
            yield from found.body

    def _in(self, text: bytes, places: Sequence[_Span]) -> Iterator[_Span]:
        """Where secrets stand in a text that is made of the bytes at these places."""
        starts = list(accumulate((end - begin for begin, end in places), initial=0))
        for begin, end in self._found(text):
            index = bisect_right(starts, begin) - 1
            while index < len(places) and starts[index] < end:
                move = places[index][0] - starts[index]
                yield max(begin, starts[index]) + move, min(end, starts[index + 1]) + move
                index += 1

    def _found(self, text: bytes) -> Iterator[_Span]:
        form = Canonical(text)
        for secret in self._raw:
            for begin in _places(text, secret):
                if _counts(text, begin, begin + len(secret)):
                    yield begin, begin + len(secret)
        for secret in self._forms:
            for at in _places(form.text, secret):
                begin, end = form.spot(at, at + len(secret))
                if _counts(text, begin, end):
                    yield begin, end
            size = _cut_off(form.text, secret)
            if size:
                yield form.spot(len(form.text) - size, len(form.text))
        yield from _of_known_form(text)

    def _hides_in(self, body: bytes, coding: bytes) -> bool:
        """Whether a compressed body holds a secret, or cannot be read."""
        plain = bytearray()
        try:
            for piece in Inflater(coding).feed(body):
                plain += piece
                if len(plain) > _MAX_INFLATED_BYTES:
                    return True
        except TransportError:
            return True
        return next(self._found(bytes(plain)), None) is not None


def _joined(data: bytes, places: Sequence[_Span]) -> bytes:
    return b"".join([data[begin:end] for begin, end in places])


def _parameters(data: bytes, found: Message) -> Iterator[_Span]:
    """The values in the query of a request line that are not known to be plain."""
    begin, end = found.first
    if _REQUEST.match(data, begin) is None:
        return
    for each in _PARAMETER.finditer(data, begin, end):
        if each[1].lower() not in _PLAIN_PARAMETERS:
            yield each.span(2)


def _places(text: bytes, part: bytes) -> Iterator[int]:
    at = text.find(part)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _counts(text: bytes, begin: int, end: int) -> bool:
    """Whether what stands there is the secret: a short one may be part of a word, or a name."""
    if end - begin >= _WHOLE_BYTES:
        return True
    before, after = text[begin - 1 : begin] if begin else b"", text[end : end + 1]
    is_escape = begin > 1 and text[begin - 2 : begin - 1] == b"\\"
    if (before.isalnum() and not is_escape) or after.isalnum():
        return False
    is_field = after == b":" and before in (b"", b"\n", b"\r")
    return not is_field and _NAME_AFTER.match(text, end) is None


def _cut_off(text: bytes, secret: bytes) -> int:
    """How many bytes at the end of the text begin the secret; 0 for too few to tell."""
    longest = min(len(secret) - 1, len(text))
    if len(secret) < _WHOLE_BYTES:
        return 0
    sizes = range(longest, _PREFIX_BYTES - 1, -1)
    return next((size for size in sizes if text.endswith(secret[:size])), 0)


def _of_known_form(text: bytes) -> Iterator[_Span]:
    for begin in range(0, len(text), _WINDOW_BYTES):
        end = begin + _WINDOW_BYTES + _OVERLAP_BYTES
        for found in _FORMS.finditer(text, begin, end):
            whole = _FORMS.match(text, found.start()) if found.end() == end else found
            if whole is not None:
                yield whole.span(whole.lastindex or 0)
