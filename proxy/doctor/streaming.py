"""How an answer comes: whether it is a stream and has an end, and what the path does to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec

from parsers.dialects.base import refusal_of
from parsers.errors import ParseError
from parsers.events import Ended, Failed, FaultKind, StreamEvent, Text, Thinking, Usage
from proxy.doctor.findings import Finding, Shown, failure, ok, warning
from proxy.doctor.redaction import Redaction, printable
from proxy.doctor.wire import Answer
from proxy.providers.base import Route
from proxy.transport import Inflater, TransportError

_SHOWN_READS = 12
_SHOWN_CHARS = 72
_QUIET_SECONDS = 5.0  # between the head and the first event
_TOLD_APART = 5  # events with content; fewer tell nothing about buffering
_COMPUTED_SECONDS = 0.2  # what is made faster may well come in one read
_SPREAD = 0.2  # of the time it took to make them, over which events should come at least
_BUNCH = 8  # events in a read; engines with several steps at once send so many

_REMEDIES = {
    FaultKind.UNAUTHENTICATED: "see that accessToken is the server's key",
    FaultKind.FORBIDDEN: "see that accessToken may use this model",
    FaultKind.UNKNOWN_MODEL: "see that modelName is the server's own name of the model",
    FaultKind.RATE_LIMITED: "try again, and let fewer requests through: admission.maxConcurrent",
    FaultKind.OVERLOADED: "try again, and let fewer requests through: admission.maxConcurrent",
    FaultKind.PROTOCOL: "see whether type and dialect of the provider are the server's",
    FaultKind.INVALID_REQUEST: "see whether type and dialect of the provider are the server's",
}


class Stream(msgspec.Struct, frozen=True):
    """An answer, and what it means."""

    answer: Answer
    events: tuple[StreamEvent, ...]
    times: tuple[float, ...]  # of the events with content
    broken: str = ""  # why it cannot be read

    @property
    def usage(self) -> bool:
        """Whether it counts tokens."""
        return any(isinstance(event, Usage) for event in self.events)

    @property
    def end(self) -> Ended | Failed | None:
        """Its end, if it has one."""
        found = [event for event in self.events if isinstance(event, (Ended, Failed))]
        return found[-1] if found else None


def read(answer: Answer, route: Route) -> Stream:
    """The answer as this route's dialect understands it."""
    decoder = route.dialect.stream_decoder()
    events: list[StreamEvent] = []
    times: list[float] = []
    try:
        inflate = _inflater(answer)
        for each in answer.reads:
            for data in inflate(each.data):
                new = decoder.feed(data)
                events += new
                times += [each.at for event in new if isinstance(event, (Text, Thinking))]
        events += decoder.close()
    except (ParseError, TransportError) as error:
        return Stream(answer, tuple(events), tuple(times), str(error))
    return Stream(answer, tuple(events), tuple(times))


def _inflater(answer: Answer) -> Callable[[bytes], Iterable[bytes]]:
    encoding = answer.headers.get(b"content-encoding", b"identity")
    if encoding.lower() == b"identity":
        return lambda data: (data,)
    return Inflater(encoding).feed


def short_findings(stream: Stream, route: Route, *, asks_usage: bool) -> Iterator[Finding]:
    """What a stream of one token shows."""
    refused = _refused(stream.answer, route)
    if refused is not None:
        yield refused
        return
    yield _ending(stream)
    yield from _head(stream.answer, route)
    if asks_usage and not stream.usage and isinstance(stream.end, Ended):
        remedy = 'penstock counts events instead; "usage": "off" spares the asking'
        yield warning("usage", "it does not say how many tokens it used", remedy)


def _refused(answer: Answer, route: Route) -> Finding | None:
    """The finding on an answer that is none."""
    if answer.error is not None and not answer.status:
        remedy = "look into the model server's log"
        return failure("stream", f"no answer: {answer.error}", remedy)
    if 300 <= answer.status < 400:
        remedy = "write the url that it redirects to: penstock follows none"
        return failure("stream", f"it redirects ({answer.status})", remedy)
    if answer.status >= 400:
        fault = refusal_of(route.dialect, answer.status, answer.headers, answer.body[:65536])
        remedy = _REMEDIES.get(fault.kind, "look into the model server's log")
        if answer.status in (404, 405):
            remedy = f"see that the url leads to where {route.stream_path} is"
        return failure("stream", f"it refuses with {answer.status}: {fault.message}", remedy)
    return None


def _ending(stream: Stream) -> Finding:
    answer, end = stream.answer, stream.end
    kind = answer.headers.get(b"content-type", b"").decode("latin-1")
    if kind.startswith("text/html"):
        remedy = "see that the url leads to the model server, and not to a login page"
        return failure("stream", "it sent a web page", remedy)
    if kind.startswith("application/json"):
        remedy = "see what in the path makes whole answers of streams: no token comes early"
        return warning("stream", "asked for a stream, it sent a whole answer", remedy)
    if stream.broken:
        remedy = "see whether type and dialect of the provider are the server's"
        return failure("stream", f"its stream cannot be read: {stream.broken}", remedy)
    if isinstance(end, Ended) and answer.error is None:
        took = f"{len(answer.reads)} reads in {answer.seconds * 1000:.0f} ms"
        return ok("stream", f"one token streams: {took}, and its end")
    if isinstance(end, Failed) and end.fault.kind is not FaultKind.TRUNCATED:
        remedy = _REMEDIES.get(end.fault.kind, "look into the model server's log")
        return failure("stream", f"it failed within the stream: {end.fault.message}", remedy)
    remedy = "see whether something in the path cuts answers, or limits their time or size"
    return failure("stream", "the stream broke off before its end mark", remedy)


def _head(answer: Answer, route: Route) -> Iterator[Finding]:
    kind = answer.headers.get(b"content-type", b"").decode("latin-1").partition(";")[0]
    if kind not in ("", "text/html", "application/json", route.stream_type):
        remedy = f"see what in the path changes {route.stream_type}"
        yield warning("stream", f"its content type is {kind}", remedy)
    encoding = answer.headers.get(b"content-encoding", b"identity").decode("latin-1")
    if encoding != "identity":
        remedy = "turn compression off for streams: compressors hold tokens back"
        yield warning("buffering", f"something in the path compresses with {encoding}", remedy)


def pace_finding(stream: Stream, first_seconds: float) -> Finding:
    """Whether tokens come as they are made; one token takes `first_seconds` here."""
    answer, times = stream.answer, stream.times
    if answer.status != 200 or answer.error is not None:
        remedy = "look into the model server's log"
        return warning("buffering", "cannot tell: a longer answer was not given whole", remedy)
    if answer.head_at is not None and times and times[0] - answer.head_at > _QUIET_SECONDS:
        late = f"the first token came {times[0] - answer.head_at:.1f} s after the head"
        remedy = "the engine is busy or its prompts are long; firstTokenSeconds must allow for it"
        return warning("buffering", late, remedy)
    if len(times) < _TOLD_APART:
        return ok("buffering", f"cannot tell: the answer had {len(times)} events")
    computed = answer.seconds - first_seconds
    spread = times[-1] - times[0]
    if computed > _COMPUTED_SECONDS and spread < _SPREAD * computed:
        message = f"{len(times)} events came at once, {times[0]:.2f} s after the request"
        remedy = "something in the path gathers the answer: for nginx, proxy_buffering off"
        return failure("buffering", message, remedy)
    return _bunches(times)


def _bunches(times: Sequence[float]) -> Finding:
    reads = len(set(times))
    told = f"{len(times)} events in {reads} reads"
    if len(times) / reads > _BUNCH and times[-1] - times[0] > _COMPUTED_SECONDS:
        remedy = "see whether the path buffers some kB, or the engine makes several steps at once"
        return warning("buffering", f"tokens come in bunches: {told}", remedy)
    return ok("buffering", f"tokens come as they are made: {told}")


def shown(answer: Answer, redaction: Redaction) -> tuple[Shown, ...]:
    """The reads of an answer for people; without their bytes where these hold a secret.

    It could be in two reads, half in each.
    """
    has_secret = redaction.finds(answer.body.decode("utf-8", "replace"))
    return tuple(
        Shown(round(each.at, 4), len(each.data), "***" if has_secret else _begins(each.data))
        for each in answer.reads[:_SHOWN_READS]
    )


def _begins(data: bytes) -> str:
    return printable(data[:_SHOWN_CHARS].decode("utf-8", "replace"))
