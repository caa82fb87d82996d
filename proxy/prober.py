"""Asks self-hosted servers how they are, before a request finds out.

A server that refuses connections is starting: TGI and vLLM open their port once the model is
loaded. One that answers its health route with an error, or not in time, is given a few more
chances, since TGI computes a token for that answer when it was in trouble, behind whatever it is
computing. Any other answer says that it is alive: not every server has such a route.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from random import Random
from time import monotonic
from weakref import WeakSet

import msgspec

from proxy.config.rules import HealthRules
from proxy.endpoints import Endpoint, EndpointState, Health
from proxy.providers.base import Checks, Provider
from proxy.registry import Registry
from proxy.transport import TransportError
from proxy.upstream import Fetched, Upstream

TICK_SECONDS = 0.25  # how late a check may be
_JITTER = 0.2

_logger = logging.getLogger(__name__)
_NUMBERS: msgspec.json.Decoder[dict[str, object]] = msgspec.json.Decoder(dict[str, object])


class Subject(msgspec.Struct, frozen=True):
    """An endpoint that is to be checked."""

    provider: Provider
    checks: Checks
    endpoint: Endpoint
    state: EndpointState
    rules: HealthRules


class Prober:
    """Checks the endpoints of whichever registry serves; `run` until cancelled."""

    def __init__(
        self, registry: Callable[[], Registry], upstream: Upstream, random: Random | None = None
    ) -> None:
        self._registry = registry
        self._upstream = upstream
        self._random = random or Random()  # noqa: S311 - spreads checks, guards nothing
        self._running: set[EndpointState] = set()
        self._checked: WeakSet[EndpointState] = WeakSet()

    async def run(self) -> None:
        """Start each check when it is due, none twice at a time."""
        async with asyncio.TaskGroup() as group:
            while True:
                now = monotonic()
                due = tuple(subjects(self._registry()))
                self._forget_all_but({subject.state for subject in due})
                for subject in due:
                    state = subject.state
                    if now >= state.next_check and state not in self._running:
                        self._running.add(state)
                        group.create_task(self._check(subject))
                await asyncio.sleep(TICK_SECONDS)

    async def _check(self, subject: Subject) -> None:
        state = subject.state
        try:
            await self._judge(subject)
        except Exception:  # a bug here must not stop all checks
            _logger.exception("a health check failed")
        finally:
            spread = self._random.uniform(1 - _JITTER, 1 + _JITTER)
            state.next_check = monotonic() + _seconds_until_next(subject) * spread
            self._running.discard(state)
            self._checked.add(state)

    def _forget_all_but(self, checked: set[EndpointState]) -> None:
        """What checks once said of an endpoint must not outlive them."""
        for state in set(self._checked) - checked - self._running:
            state.health, state.failed_checks, state.told_limit = Health.UNKNOWN, 0, None
            self._checked.discard(state)

    async def _judge(self, subject: Subject) -> None:
        try:
            answer = await self._ask(subject, subject.rules.path or subject.checks.health)
        except TransportError as error:
            starting = error.kind == "unreachable"
            _note_failure(subject, Health.STARTING if starting else Health.DOWN)
            return
        if answer.status >= 500:
            _note_failure(subject, Health.DOWN)
            return
        if subject.state.health is not Health.UP:
            subject.state.told_limit = await self._told_limit(subject)
        _note_success(subject.state)

    async def _told_limit(self, subject: Subject) -> int | None:
        """How many requests at once it takes, if it says so."""
        try:
            answer = await self._ask(subject, subject.checks.limits)
            told = _NUMBERS.decode(answer.body).get(subject.checks.limit)
        except (TransportError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return told if answer.status == 200 and isinstance(told, int) and told > 0 else None

    async def _ask(self, subject: Subject, path: str) -> Fetched:
        head = subject.provider.check_head(subject.endpoint, path)
        seconds = subject.rules.timeout_seconds
        return await self._upstream.fetch(head, subject.state, seconds=seconds)


def subjects(registry: Registry) -> Iterator[Subject]:
    """The endpoints that are to be checked, each once."""
    seen: set[EndpointState] = set()
    for model in registry.models.values():
        provider, rules = model.provider, model.pool.rules.health
        if provider.checks is None or rules.interval_seconds <= 0:
            continue
        for member in model.pool.members:
            if member.state not in seen:
                seen.add(member.state)
                yield Subject(provider, provider.checks, member.endpoint, member.state, rules)


def _seconds_until_next(subject: Subject) -> float:
    """Sooner where an endpoint is out, so that it is back in use soon after it is well."""
    state, rules = subject.state, subject.rules
    if state.health in (Health.UP, Health.UNKNOWN) and state.breaker.admits(monotonic()):
        return rules.interval_seconds
    return min(rules.interval_seconds, rules.eject_seconds)


def _note_failure(subject: Subject, health: Health) -> None:
    state = subject.state
    state.failed_checks += 1
    if health is Health.STARTING or state.failed_checks >= subject.rules.failures:
        state.health = health


def _note_success(state: EndpointState) -> None:
    state.failed_checks = 0
    if state.health is not Health.UP:
        state.health = Health.UP
        state.breaker.hurry(monotonic())
        state.line.wake()
