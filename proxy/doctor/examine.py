"""The whole examination of one endpoint, from its name to its GPU."""

from __future__ import annotations

import ssl

from parsers.dialects.base import Untranslatable
from proxy.doctor import asking, reach, streaming
from proxy.doctor.engines import Engine
from proxy.doctor.findings import (
    Examined,
    Finding,
    Level,
    Shown,
    failure,
    ok,
    redacted,
    warning,
)
from proxy.doctor.hangup import hung_up
from proxy.doctor.subject import Subject, Target
from proxy.doctor.wire import Answer
from proxy.errors import RequestFailed
from proxy.providers.base import Route, UpstreamRequest
from proxy.transport import TransportError

ANSWER_SECONDS = 60.0  # for each question; a cold engine takes its time
IDLE_SECONDS = 90.0  # longer than the usual 60 s and 75 s

_PACE_TOKENS = 32
_LONG_TOKENS = 256  # some seconds of work, and below the limit of small servers
_OPENAI_ROUTES = ("/chat/completions", "/completions")
_REUSED_SECONDS = 4.0  # for so long penstock itself keeps a connection


class Examination:
    """One endpoint's; `run` it once."""

    def __init__(
        self,
        target: Target,
        tls: ssl.SSLContext,
        *,
        slow: bool = False,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._target = target
        self._subject = Subject(target, tls, answer_seconds)
        self._slow = slow
        self._engine: Engine | None = None
        self._found: list[Finding] = []
        self._wire: tuple[Shown, ...] = ()

    async def run(self) -> Examined:
        """All findings, up to the first that makes the next ones senseless."""
        try:
            if await self._is_reached() and await self._is_alive():
                await self._ask()
                await self._wait()
        finally:
            self._subject.wire.close()
        target, model, redaction = self._target, self._target.model, self._subject.redaction
        return Examined(
            provider=target.provider.id,
            endpoint=target.endpoint.name,
            model=None if model is None else model.label,
            engine=None if self._engine is None else redaction(str(self._engine)),
            findings=redacted(self._found, redaction),
            wire=self._wire,
        )

    def _note(self, *findings: Finding) -> bool:
        """Keep these; whether to go on."""
        self._found += findings
        return all(each.level is not Level.FAILURE for each in findings)

    async def _is_reached(self) -> bool:
        subject = self._subject
        return self._note(await reach.resolved(subject)) and self._note(
            await reach.connected(subject)
        )

    async def _is_alive(self) -> bool:
        """What it tells of itself; only servers one hosts oneself are asked."""
        subject = self._subject
        if subject.provider.checks is None:
            return True
        if not self._note(await asking.health(subject)):
            return False
        self._engine = await asking.engine(subject)
        return self._note(asking.engine_finding(self._engine))

    async def _ask(self) -> None:
        """What asking the model shows."""
        subject, route = self._subject, self._subject.route
        if route is None:
            self._note(ok("stream", "no model here answers chats or completions"))
            return
        try:
            question = await subject.question(1)
        except (RequestFailed, Untranslatable) as error:
            remedy = "see the provider's settings"
            self._note(failure("stream", f"it cannot be asked: {error}", remedy))
            return
        if not self._note(*await self._base_url(route, question)):
            return
        short = await subject.wire.ask(question)
        self._wire = streaming.shown(short, subject.redaction)
        stream = streaming.read(short, route)
        asks_usage = subject.provider.asks_usage
        if not self._note(*streaming.short_findings(stream, route, asks_usage=asks_usage)):
            return
        self._note(await self._pace(route, short))
        if subject.provider.checks is not None:
            self._note(await self._hang_up())

    async def _wait(self) -> None:
        """How long the path keeps a connection on which nothing happens."""
        if self._slow and self._subject.provider.checks is not None:
            self._note(await self._idle())

    async def _base_url(self, route: Route, question: UpstreamRequest) -> list[Finding]:
        if self._subject.provider.checks is None or route.stream_path not in _OPENAI_ROUTES:
            return []
        called = question.head.split(b" ", 2)[1].decode("latin-1").partition("?")[0]
        return await asking.base_url(self._subject, called.removesuffix(route.stream_path))

    async def _pace(self, route: Route, short: Answer) -> Finding:
        answer = await self._subject.wire.ask(await self._long_question(_PACE_TOKENS))
        return streaming.pace_finding(streaming.read(answer, route), short.seconds)

    async def _hang_up(self) -> Finding:
        question = await self._long_question(_LONG_TOKENS)
        return await hung_up(self._subject, self._engine, question)

    async def _long_question(self, tokens: int) -> UpstreamRequest:
        model = self._target.model
        limit = tokens if model is None else min(tokens, model.max_output_tokens)
        return await self._subject.question(limit)

    async def _idle(self) -> Finding:
        subject = self._subject
        checks = subject.provider.checks
        assert checks is not None  # noqa: S101 - the caller looked
        head = subject.provider.check_head(subject.endpoint, checks.health)
        try:
            seconds = await subject.wire.idle(head, IDLE_SECONDS)
        except (TransportError, TimeoutError) as error:
            return failure("idle", f"no answer: {error}", "look into the model server's log")
        if seconds is None:
            return ok("idle", f"an idle connection is kept for more than {IDLE_SECONDS:g} s")
        if seconds < _REUSED_SECONDS:
            remedy = "let the server keep idle connections longer: penstock does for 4 s"
            return warning("idle", f"an idle connection is closed after {seconds:.1f} s", remedy)
        return ok("idle", f"an idle connection is closed after {seconds:.1f} s")
