"""Every failure and every ending as a page of Markdown: `docs/errors.md`.

What can be asked of the code is asked: statuses, words, frames, outcomes, verdicts. Only what a
word means to a reader is said here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

import msgspec

from parsers.dialects.base import Identity
from parsers.events import Ended, Fault, FaultKind, Finished, FinishReason, Origin, Text
from proxy.commands.dialects import CLIENTS, Client
from proxy.errors import status_of
from proxy.outcome import (
    DRAINED_CODE,
    Clock,
    Outcome,
    outcome_of_fault,
    timeout_fault,
    verdict_of,
)
from proxy.relay.stream import HOLD_BYTES, HOLD_SECONDS

_HEAD = f"""\
# Errors and endings

<!-- Made by `make docs` from proxy/outcome.py, proxy/errors.py and the dialects. Change those. -->

Each request has exactly one outcome.
It is counted once, in `penstock_requests_total{{outcome}}`, and stands in the request's log line.
Beside it stands the fault, if there was one: `kind`, `origin`, `code` and `message`.

Before the client's first byte a failure is a status and a body in the client's dialect.
That holds where the model server had said 200 already, too: the status waits for the first event
with content, for {HOLD_SECONDS:g} seconds or {HOLD_BYTES // 2**20} MiB at most.
After the first byte the status is spent: the client gets one error frame, then the end of the body.
No end mark of a whole answer follows a failure, but for Cody's `done`, without which Cody waits.
With `keepAlive` of mode `early` the status is spent with the first comment.
"""

_MEANINGS: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.COMPLETE: "The answer is whole: it ended by itself, or at a stop sequence.",
        Outcome.LENGTH: "The answer is whole, cut at the limit of tokens.",
        Outcome.TOOL_CALLS: "The answer is whole and calls tools.",
        Outcome.FILTERED: "The answer was ended by the model server's filter of contents.",
        Outcome.REJECTED: "Refused for what was asked or who asked, here or by the model server.",
        Outcome.SHED: "Refused here because there was too much to do: `limits`, `admission`.",
        Outcome.UPSTREAM_ERROR: "The model server failed, was full, refused penstock's key, or"
        " could not be reached.",
        Outcome.TRUNCATED: "The answer broke off: a reset, a cut chunk, an end without a finish"
        " mark.",
        Outcome.TIMEOUT_CONNECT: "`connectSeconds` ran out.",
        Outcome.TIMEOUT_HEADERS: "`headersSeconds` ran out.",
        Outcome.TIMEOUT_FIRST_TOKEN: "`firstTokenSeconds` ran out.",
        Outcome.TIMEOUT_IDLE: "`idleSeconds` ran out in mid-stream.",
        Outcome.TIMEOUT_TOTAL: "`totalSeconds` ran out, or what the client said in `X-Timeout-Ms`.",
        Outcome.CLIENT_GONE: "The client left, or stopped reading. The model server's connection"
        " was closed at once.",
        Outcome.DRAINED: "penstock leaves: the request came too late, or ran beyond the deadline.",
        Outcome.INTERNAL_ERROR: "A bug of penstock's. The log has the traceback.",
    }
)

_WHOLE = "200 and the whole answer"
_TOLD: Mapping[Outcome, str] = MappingProxyType(
    {
        Outcome.REJECTED: "a 4xx, see below",
        Outcome.SHED: "503 beyond `maxConcurrentRequests`, else 429",
        Outcome.CLIENT_GONE: "nothing: nobody is there",
        Outcome.INTERNAL_ERROR: "500; in mid-stream the connection is cut",
    }
)

_KINDS: Mapping[FaultKind, str] = MappingProxyType(
    {
        FaultKind.INVALID_REQUEST: "The request is malformed, or asks for what cannot be done.",
        FaultKind.UNAUTHENTICATED: "The key is missing or unknown: the client's, or penstock's at"
        " the server.",
        FaultKind.FORBIDDEN: "The key may not do this: the client's, or penstock's at the server.",
        FaultKind.UNKNOWN_MODEL: "There is no such model.",
        FaultKind.TOO_LARGE: "The body is larger than `limits.maxBodyBytes`, or than the server"
        " takes.",
        FaultKind.CONTEXT_LENGTH: "Prompt and answer do not fit into the model's context.",
        FaultKind.CONTENT_FILTER: "The server's filter refuses the request.",
        FaultKind.RATE_LIMITED: "Too many requests: for the server, or for a user's `dailyLimits`.",
        FaultKind.QUOTA_EXCEEDED: "The account at the server is used up.",
        FaultKind.OVERLOADED: "Too much to do, at the server or here.",
        FaultKind.UNREACHABLE: "No connection, or one that closed without an answer.",
        FaultKind.TIMEOUT: "A clock ran out; the client's is for sending its body.",
        FaultKind.TRUNCATED: "The answer broke off.",
        FaultKind.PROTOCOL: "The answer cannot be read.",
        FaultKind.UPSTREAM: "The server failed, in whatever words.",
        FaultKind.INTERNAL: "A bug of penstock's.",
    }
)

# Of whose making each kind can be; a test looks into the code for others.
_CLIENT_OR_UPSTREAM: tuple[Origin, ...] = ("client", "upstream")
_ORIGINS: Mapping[FaultKind, tuple[Origin, ...]] = MappingProxyType(
    {
        FaultKind.INVALID_REQUEST: _CLIENT_OR_UPSTREAM,
        FaultKind.UNAUTHENTICATED: _CLIENT_OR_UPSTREAM,
        FaultKind.FORBIDDEN: _CLIENT_OR_UPSTREAM,
        FaultKind.UNKNOWN_MODEL: _CLIENT_OR_UPSTREAM,
        FaultKind.TOO_LARGE: _CLIENT_OR_UPSTREAM,
        FaultKind.RATE_LIMITED: _CLIENT_OR_UPSTREAM,
        FaultKind.TIMEOUT: _CLIENT_OR_UPSTREAM,
        FaultKind.OVERLOADED: ("proxy", "upstream"),
        FaultKind.INTERNAL: ("proxy",),
    }
)

_MESSAGE = "…"
_BROKEN = "the model server broke off its answer"
_STATUSES = """\
`origin` says whose the fault is: the client's, penstock's (`proxy`), the model server's.
A client's fault has a status of its own where the kind's is too coarse: 404 for a path and 405 for
a method that is not there, 415 for a compressed body, 431 for large headers, 505 for another HTTP.
Cody's routes also have 400, 401 and 406.
A request that waited too long for room, or found no place to wait, gets 429.
A model server's 429 stays a 429 where it means overload, as TGI's does.
`retry-after` is there where penstock or the server knows when.
"""

_RETRIES = """\
*Tried again*: another endpoint may be asked, before the client's first byte and within `retries`.
*Verdict*: what it says of the endpoint, as in `penstock_upstream_attempts_total{verdict}`.
Only `fault` is held against it.
Which failures a model's `fallbacks` are for is [`fallbackOn`](configuration.md#modeltraffic).
"""

_WIRE = """\
## In each dialect's words

The status, then the words of the error object.
To OpenAI's clients a server's own `type`, `code` and `param` are passed on.
There a timeout has its outcome for a code (`timeout_idle`), and a drain `drained`.
Cody's routes say everything in one line of text.
Where a stream was asked for and the model server fails before its first event, they answer 200 with
an `error` event, but for 429.
"""

_RESPONSES = """\
After the first byte of a translated answer `/v1/responses` says `error`, and then
`response.failed` with what the answer had come to.
"""


class Case(msgspec.Struct, frozen=True):
    """A fault that can happen, and what becomes of it."""

    fault: Fault

    @property
    def status(self) -> int:
        """What a client is told, but for a dialect's own."""
        return status_of(self.fault)

    @property
    def outcome(self) -> Outcome:
        """How its request ends."""
        return outcome_of_fault(self.fault)

    @property
    def verdict(self) -> str:
        """What is held against the endpoint; nothing where none was asked."""
        if self.fault.origin != "upstream":
            return ""
        return f"`{verdict_of(self.outcome, self.fault)}`"

    @property
    def tried_again(self) -> str:
        """Whether another endpoint may be asked."""
        return "yes" if self.fault.origin == "upstream" and self.fault.kind.retryable else ""


def cases() -> list[Case]:
    """Every kind of fault, once for each of those whose it can be."""
    return [
        Case(_fault(kind, origin))
        for kind in FaultKind
        for origin in _ORIGINS.get(kind, ("upstream",))
    ]


def _fault(kind: FaultKind, origin: Origin) -> Fault:
    if kind is FaultKind.TIMEOUT and origin == "upstream":
        return msgspec.structs.replace(timeout_fault(Clock.IDLE, 0), message=_MESSAGE)
    return Fault(kind, origin, _MESSAGE)


def page() -> str:
    """All of it."""
    parts = (_HEAD, _outcomes(), _faults(), _WIRE, _words(), _RESPONSES, *_forms())
    return "\n".join(parts)


def _outcomes() -> str:
    rows = [[f"`{each}`", _MEANINGS[each], _told(each)] for each in Outcome]
    return "## Outcomes\n\n" + _table(["outcome", "meaning", "what the client gets"], rows)


def _told(outcome: Outcome) -> str:
    """What a client gets, before its first byte and after."""
    if outcome.is_success:
        return _WHOLE
    return _TOLD.get(outcome) or f"{_statuses(outcome)}, or an error frame"


def _statuses(outcome: Outcome) -> str:
    found = {case.status for case in cases() if case.outcome is outcome}
    if outcome is Outcome.DRAINED:
        found.add(status_of(Fault(FaultKind.OVERLOADED, "proxy", "", code=DRAINED_CODE)))
    if outcome.startswith("timeout_"):
        found.add(status_of(timeout_fault(Clock(outcome.removeprefix("timeout_")), 0)))
    return ", ".join(f"{int(status)}" for status in sorted(found))


def _faults() -> str:
    rows = [
        [
            f"`{case.fault.kind}`",
            f"`{case.fault.origin}`",
            _KINDS[case.fault.kind],
            f"{case.status}",
            _ending(case),
            case.tried_again,
            case.verdict,
        ]
        for case in cases()
    ]
    heads = ["kind", "origin", "meaning", "status", "outcome", "tried again", "verdict"]
    return f"## Faults\n\n{_table(heads, rows)}\n{_STATUSES}\n{_RETRIES}"


def _ending(case: Case) -> str:
    named = case.outcome.startswith("timeout_")
    return "`timeout_…`" if named else f"`{case.outcome}`"


# The wire


def _words() -> str:
    """A row for each fault, a column for each way to say it."""
    speakers = list(_speakers())
    rows = [
        [
            f"`{case.fault.kind}`",
            f"`{case.fault.origin}`",
            *(_said(client, case) for client in speakers),
        ]
        for case in cases()
    ]
    return _table(["kind", "origin", *(_paths([each]) for each in speakers)], rows)


def _speakers() -> Iterator[Client]:
    """The first of the clients for each way of saying all these faults."""
    seen: set[tuple[str, ...]] = set()
    for client in CLIENTS:
        said = tuple(_said(client, case) for case in cases())
        if said not in seen:
            seen.add(said)
            yield client


def _said(client: Client, case: Case) -> str:
    """The status and the words of an error's body."""
    status = client.dialect.error_status(case.fault, case.status, streaming=False)
    body = client.dialect.encode_error(case.fault, status)
    if not client.dialect.error_content_type.startswith("application/json"):
        return f"{status}"
    error = msgspec.json.decode(body)
    words = error["error"] if isinstance(error["error"], dict) else error
    said = [words.get(name) for name in ("type", "code", "error_type")]
    return f"{status} {', '.join(f'`{each}`' for each in said if each is not None)}"


def _forms() -> Iterator[str]:
    """For each way to fail on the wire: a body, a frame, and how a whole stream ends instead."""
    found: dict[tuple[str, str, str], list[Client]] = {}
    for client in CLIENTS:
        found.setdefault((_body(client), _frame(client), _mark(client)), []).append(client)
    for (body, frame, mark), clients in found.items():
        lines = [f"### {_paths(clients)}", "", "Before the first byte:", "", _block("http", body)]
        if mark:
            lines += ["After it:", "", _block("text", frame)]
            lines += [f"The last frame of a whole stream instead: {mark}.", ""]
        yield "\n".join(lines)


_SAMPLE = Fault(FaultKind.TRUNCATED, "upstream", _BROKEN)


def _body(client: Client) -> str:
    dialect = client.dialect
    status = HTTPStatus(dialect.error_status(_SAMPLE, status_of(_SAMPLE), streaming=False))
    body = dialect.encode_error(_SAMPLE, status).decode().strip()
    head = f"HTTP/1.1 {int(status)} {status.phrase}\ncontent-type: {dialect.error_content_type}"
    return f"{head}\n\n{body}"


def _frame(client: Client) -> str:
    return client.dialect.error_frame(_SAMPLE, status_of(_SAMPLE)).decode().strip()


def _mark(client: Client) -> str:
    """The last frame of a whole stream, by its event or its data; empty where none streams."""
    if not client.translates:
        return ""
    encoder = client.dialect.stream_encoder(Identity("1", 1, "m"), include_usage=False)
    events = (Text("Hi"), Finished(FinishReason.STOP), Ended())
    stream = b"".join(encoder.encode(each) for each in events).decode()
    last = stream.strip().rpartition("\n\n")[2]
    name, _, data = last.rpartition("\n")
    if name:
        return f"`{name}`"
    return f"`{data}`" if "{" not in data else "an event with `generated_text`"


def _paths(clients: Iterable[Client]) -> str:
    return ", ".join(f"`{path}`" for client in clients for path in client.paths)


def _block(kind: str, text: str) -> str:
    return f"```{kind}\n{text}\n```\n"


def _table(heads: list[str], rows: Iterable[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("| --- ", "|---")


def main(path: str) -> None:
    """Write it."""
    Path(path).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
