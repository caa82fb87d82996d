"""Whether an engine stops when its client hangs up, by its own gauges."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic

from proxy.doctor.engines import Engine, busy_slots, samples
from proxy.doctor.findings import Finding, failure, ok, warning
from proxy.doctor.subject import Subject
from proxy.providers.base import UpstreamRequest

PATIENCE_SECONDS = 5.0  # engines see it at the next token, and some count once a second
_LOOK_SECONDS = 0.1
_FIRST_BYTE_SECONDS = 10.0
_SEEN_SECONDS = 2.0  # for the gauge to show the request

_CHECK = "hang-up"
_BY_HAND = "watch the engine's GPU while a client hangs up"


async def hung_up(subject: Subject, engine: Engine | None, question: UpstreamRequest) -> Finding:
    """What the engine does when a stream's reader leaves."""
    before = await working(subject, engine)
    if engine is None or before is None:
        return warning(_CHECK, "cannot tell: the server shows no gauge of its work", _BY_HAND)
    async with subject.wire.asking(question) as answer:
        with suppress(TimeoutError):  # a path may hold back what the engine makes
            async with asyncio.timeout(_FIRST_BYTE_SECONDS):
                await answer.streaming()
        during = await _risen(subject, engine, before)
        is_over = answer.ended_at is not None
    if is_over or during <= before:
        message = "cannot tell: the answer was over before the gauge showed it"
        return warning(_CHECK, message, _BY_HAND)
    return await _after(subject, engine, before)


async def _risen(subject: Subject, engine: Engine, before: float) -> float:
    """The gauge, once it shows the request; as it is if that takes too long."""
    until, now = monotonic() + _SEEN_SECONDS, before
    while now <= before and monotonic() < until:
        await asyncio.sleep(_LOOK_SECONDS)
        now = await working(subject, engine) or 0.0
    return now


async def _after(subject: Subject, engine: Engine, before: float) -> Finding:
    left, made = monotonic(), None
    while monotonic() < left + PATIENCE_SECONDS:
        if made is None and monotonic() > left + PATIENCE_SECONDS / 2:
            made = await _made(subject, engine)
        if (await working(subject, engine) or 0.0) <= before:
            return ok(_CHECK, f"the engine stopped {monotonic() - left:.1f} s after the hang-up")
        await asyncio.sleep(_LOOK_SECONDS)
    if made is not None and made == await _made(subject, engine):
        return ok(_CHECK, "the engine makes no tokens after the hang-up, though a gauge stands")
    if before:
        message = "cannot tell: others use the engine at the same time"
        return warning(_CHECK, message, "ask again when nobody else does")
    message = f"the engine still works {PATIENCE_SECONDS:g} s after the hang-up"
    remedy = "see what in the path holds on: for nginx, proxy_ignore_client_abort must be off"
    return failure(_CHECK, message, remedy)


async def working(subject: Subject, engine: Engine | None) -> float | None:
    """How many requests the engine has, by its own count; None where it does not say."""
    if engine is None:
        return None
    if engine.has_slots:
        slots = busy_slots(await subject.get("/slots"))
        if slots is not None:
            return slots
    page = await subject.get("/metrics")
    return samples(page.body, engine.working) if page.status == 200 else None


async def _made(subject: Subject, engine: Engine) -> float | None:
    """How many tokens it has ever made; None where it does not say."""
    if not engine.made:
        return None
    page = await subject.get("/metrics")
    return samples(page.body, (engine.made,)) if page.status == 200 else None
