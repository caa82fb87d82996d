"""How long a server wants to be left alone, in whichever header it says so."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from proxy.transport import ResponseHead

_MAX_DIGITS = 8
_MAX_CHARS = 40
# OpenAI's "6m0s" and "20ms"; Azure's are seconds without a unit.
_DURATION = re.compile(
    rb"(?=.)(?:(\d{1,8})h)?(?:(\d{1,8})m)?(?:(\d{1,8}(?:\.\d{1,9})?)s)?(?:(\d{1,8})ms)?"
)
_LIMITED = (b"requests", b"tokens")


def retry_after(head: ResponseHead) -> float | None:
    """The seconds to wait; None where no header says them that can be read.

    Retry-After, also as a date, comes first, then Azure's and OpenAI's `retry-after-ms`. Without
    them it is when the limits that are used up will be reset (`x-ratelimit-reset-*`, on a 429).
    """
    seconds = _stated(head.headers.get(b"retry-after"))
    if seconds is None:
        milliseconds = _number(head.headers.get(b"retry-after-ms"))
        seconds = None if milliseconds is None else milliseconds / 1000
    return _reset(head) if seconds is None and head.status == 429 else seconds


def _stated(text: bytes | None) -> float | None:
    if text is None or len(text) > _MAX_CHARS:
        return None
    return _number(text) if text.isdigit() else _seconds_until(text.decode("latin-1"))


def _number(text: bytes | None) -> float | None:
    return float(text) if text and text.isdigit() and len(text) <= _MAX_DIGITS else None


def _seconds_until(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, OverflowError):  # the latter for a zone beyond all clocks
        return None
    if then.tzinfo is None:  # "-0000": UTC, says RFC 5322
        then = then.replace(tzinfo=UTC)
    return max((then - datetime.now(UTC)).total_seconds(), 0.0)


def _reset(head: ResponseHead) -> float | None:
    """Until the last of the limits of which nothing remains is reset."""
    waits = [
        _duration(head.headers.get(b"x-ratelimit-reset-" + limit, b""))
        for limit in _LIMITED
        if head.headers.get(b"x-ratelimit-remaining-" + limit) == b"0"
    ]
    return max((wait for wait in waits if wait is not None), default=None)


def _duration(text: bytes) -> float | None:
    found = _DURATION.fullmatch(text[:_MAX_CHARS])
    if found is None:
        return _number(text)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
