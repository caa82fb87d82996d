"""`penstock drain`: tells a running penstock to leave, and waits until it can go if asked to.

It is a preStop hook for an image without a shell, so it ends in every case: with the drain, at the
drain's deadline, or after as many seconds as it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from time import monotonic, sleep
from typing import TextIO

import msgspec

from proxy.origin import Origin, parse_origin

EX_USAGE = 2
EX_UNAVAILABLE = 69  # sysexits.h: it could not be told
STILL_RUNNING = 1

_ANSWER_SECONDS = 5.0
_LOOK_SECONDS = 0.2
_AFTER_DEADLINE_SECONDS = 2.0  # for what was ended then to have ended


class _Drain(msgspec.Struct, frozen=True):
    refusing: bool
    seconds_left: float


class _Status(msgspec.Struct, frozen=True):
    in_flight: int
    drain: _Drain | None = None

    @property
    def is_over(self) -> bool:
        """Nothing runs, and nothing new is served."""
        return self.in_flight == 0 and self.drain is not None and self.drain.refusing


class _CannotTell(Exception):
    """No answer, or not one of penstock's; the text says which."""


def drain(admin: str, err: TextIO, *, wait_seconds: float) -> int:
    """Begin the drain, and wait for no longer than this until nothing runs; the exit status."""
    try:
        origin = _tcp_origin(admin)
    except ValueError as error:
        err.write(f"penstock drain: --admin: {error}\n")
        return EX_USAGE
    try:
        status = _asked(origin, "POST", "/drain")
    except _CannotTell as error:
        err.write(f"penstock drain: {admin} was not told: {error}\n")
        return EX_UNAVAILABLE
    left = 0.0 if status.drain is None else status.drain.seconds_left
    for each in _statuses(origin, status, min(wait_seconds, left + _AFTER_DEADLINE_SECONDS)):
        status = each
    if wait_seconds and not status.is_over:
        err.write(f"penstock drain: {status.in_flight} requests still run\n")
        return STILL_RUNNING
    return 0


def _tcp_origin(url: str) -> Origin:
    origin = parse_origin(url)
    if origin.uds is not None:
        raise ValueError("the admin listener has no unix socket")
    return origin


def _statuses(origin: Origin, first: _Status, seconds: float) -> Iterator[_Status]:
    """One status after the other, until the drain is over or this time is."""
    status, until = first, monotonic() + seconds
    while not status.is_over and monotonic() < until:
        sleep(min(_LOOK_SECONDS, max(0.0, until - monotonic())))
        try:
            status = _asked(origin, "GET", "/status")
        except _CannotTell:  # it has left
            status = _Status(0, _Drain(refusing=True, seconds_left=0.0))
        yield status


def _asked(origin: Origin, method: str, path: str) -> _Status:
    """What it answers. Raises _CannotTell."""
    kind = HTTPSConnection if origin.scheme == "https" else HTTPConnection
    try:
        with closing(kind(origin.host, origin.port, timeout=_ANSWER_SECONDS)) as connection:
            connection.request(method, origin.path + path)
            response = connection.getresponse()
            body = response.read()
    except (HTTPException, OSError) as error:
        raise _CannotTell(_reason(error)) from error
    if response.status >= 300:
        raise _CannotTell(f"it answered {response.status}")
    try:
        return msgspec.json.decode(body, type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _CannotTell("it did not answer as penstock does") from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
