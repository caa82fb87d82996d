"""What the log says of a request: one line, which its capture carries too.

No prompt, no answer, no key, no address. A field without a value is left out.
"""

from __future__ import annotations

import msgspec

from parsers.events import Fault, FaultKind
from proxy.log import cut
from proxy.outcome import Account, Outcome


class Spent(msgspec.Struct, omit_defaults=True, gc=False):
    """Where the time of a request went, in seconds."""

    queue: float = 0.0
    connect: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0
    slow_reader: float = 0.0
    loop_lag: float = 0.0


class FaultLine(msgspec.Struct, omit_defaults=True, gc=False):
    """A fault as it may be logged: its message is safe to show, and is shown."""

    kind: FaultKind
    origin: str
    message: str
    code: str | int | None = None


class RequestLine(msgspec.Struct, omit_defaults=True, gc=False):
    """An account, as it is logged."""

    request_id: str
    client: str
    model: str
    provider: str
    endpoint: str
    dialect: str
    exact: bool
    upstream_dialect: str
    stream: bool
    generation: int
    outcome: Outcome
    status: int
    phase: str
    attempts: int
    seconds: float
    bytes_in: int
    bytes_out: int
    usage: str
    spent: Spent
    wasted: int = 0
    dropped: tuple[str, ...] = ()
    first_token_seconds: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    contents: int = 0
    fault: FaultLine | None = None


def request_line(account: Account) -> RequestLine:
    """The line of a request that has ended."""
    usage, first, fault = account.usage, account.first_token, account.fault
    return RequestLine(
        request_id=account.request_id,
        client=account.client,
        model=account.model,
        provider=account.provider,
        endpoint=account.endpoint,
        dialect=account.dialect,
        exact=account.exact,
        upstream_dialect=account.upstream_dialect,
        stream=account.stream,
        generation=account.generation,
        outcome=account.outcome or Outcome.INTERNAL_ERROR,
        status=account.status,
        phase=account.phase,
        attempts=account.attempts,
        seconds=_micros(account.ended - account.started),
        bytes_in=account.bytes_in,
        bytes_out=account.bytes_out,
        usage=account.usage_source,
        spent=_spent(account),
        wasted=account.wasted,
        dropped=account.dropped,
        first_token_seconds=None if first is None else _micros(first - account.started),
        input_tokens=None if usage is None else usage.prompt,
        output_tokens=None if usage is None else usage.completion,
        contents=account.contents if usage is None else 0,
        fault=None if fault is None else _fault_line(fault),
    )


def _spent(account: Account) -> Spent:
    return Spent(
        queue=_micros(account.queue_seconds),
        connect=_micros(account.connect_seconds),
        prefill=_micros(account.prefill_seconds or 0.0),
        decode=_micros(account.decode_seconds or 0.0),
        slow_reader=_micros(account.reader_seconds),
        loop_lag=_micros(account.lag_seconds),
    )


def _micros(seconds: float) -> float:
    """To the microsecond; `round` takes three times as long, and there are eight in a line."""
    return int(seconds * 1e6 + 0.5) / 1e6 if seconds else 0.0


def _fault_line(fault: Fault) -> FaultLine:
    return FaultLine(fault.kind, fault.origin, cut(fault.message), fault.code)
