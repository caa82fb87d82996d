"""The log for people: what a terminal shows of each line, in the order in which they ask."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec


def as_text(line: bytes) -> bytes:
    """A line of the log as text; a traceback follows on lines of its own."""
    fields: dict[str, Any] = msgspec.json.decode(line)
    time = datetime.fromisoformat(fields.pop("time")).astimezone()
    event, trace = fields.pop("event"), fields.pop("traceback", "")
    words = _request(fields) if "outcome" in fields else _pairs(fields)
    text = " ".join([f"{time:%H:%M:%S}", f"{event:<8}", *words])
    return "\n".join([text, *map(_plain, trace.splitlines()), ""]).encode()


def _request(fields: dict[str, Any]) -> Iterator[str]:
    """How it ended and for whom, then how long it took, then why it failed."""
    yield f"{fields['outcome']:<9} {fields['status']:>3} {fields['seconds']:7.3f} s "
    yield _plain(f"{fields['model']} at {fields['endpoint']} for {fields['client']}")
    if "first_token_seconds" in fields:
        yield f"first token {fields['first_token_seconds']:.3f} s"
    if "output_tokens" in fields:
        yield f"tokens {fields['input_tokens']}+{fields['output_tokens']}"
    if fields["attempts"] > 1:
        yield f"attempts {fields['attempts']}"
    fault = fields.get("fault")
    if fault is not None:
        yield _plain(f"{fault['origin']} {fault['kind']}: {fault['message']}")
    yield f"[{fields['request_id']}]"


def _pairs(fields: dict[str, Any]) -> Iterator[str]:
    for name, value in fields.items():
        yield f"{name}={_plain(value if isinstance(value, str) else str(value))}"


def _plain(text: str) -> str:
    """Without what a terminal would obey."""
    return text if text.isprintable() else ascii(text)
