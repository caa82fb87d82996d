"""What an endpoint tells of itself: its health, its engine, where its routes are, its models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import msgspec

from proxy.doctor.engines import QUESTIONS, Engine, recognised
from proxy.doctor.findings import Finding, failure, listed, ok, warning
from proxy.doctor.reach import speaks_tls
from proxy.doctor.subject import Subject
from proxy.doctor.wire import Answer

_SLOW_SECONDS = 2.0
# What people paste behind a base URL.
_ROUTES = ("/chat/completions", "/completions", "/models", "/generate_stream", "/generate")


class _Listed(msgspec.Struct, frozen=True):
    id: str


class _Models(msgspec.Struct, frozen=True):
    data: tuple[_Listed, ...]


async def health(subject: Subject) -> Finding:
    """What its health route says."""
    checks = subject.provider.checks
    answer = await subject.get("/health" if checks is None else checks.health)
    if answer.error is not None:
        return await _speechless(subject, answer)
    took = f"after {answer.seconds * 1000:.0f} ms"
    if answer.status >= 500:
        remedy = "look into the model server's log; it may still be loading its model"
        return failure("health", f"it says that it is ill: {answer.status} {took}", remedy)
    if answer.status in (401, 403):
        remedy = "see that accessToken is the server's key"
        return warning("health", f"it wants another key: {answer.status} {took}", remedy)
    if answer.status == 404:
        return ok("health", "it has no /health; that it answers at all is taken for health")
    if answer.seconds > _SLOW_SECONDS:
        remedy = "keep health.timeoutSeconds above it: engines answer late while they compute"
        return warning("health", f"{answer.status}, but only {took}", remedy)
    return ok("health", f"{answer.status} {took}")


async def _speechless(subject: Subject, answer: Answer) -> Finding:
    assert answer.error is not None  # noqa: S101 - the caller looked
    if answer.error.kind == "timeout":
        remedy = "the server accepts connections and does nothing with them: look into its log"
        return failure("health", "it does not answer in time", remedy)
    if await speaks_tls(subject.origin):
        return failure("tls", "it speaks TLS and was called without", "write https:// in the url")
    remedy = "see that the port is the one of its HTTP API"
    return failure("health", f"it does not answer in HTTP/1.1: {answer.error}", remedy)


async def engine(subject: Subject) -> Engine | None:
    """Which engine it is, by what only that one would answer."""
    async with asyncio.TaskGroup() as group:
        asked = {path: group.create_task(subject.get(path)) for path in QUESTIONS}
    return recognised({path: task.result() for path, task in asked.items()})


def engine_finding(found: Engine | None) -> Finding:
    """The engine in a sentence."""
    if found is None:
        return ok("engine", "it does not say which engine it is")
    says = f", and {found.says}" if found.says else ""
    return ok("engine", f"it is {found}{says}")


async def base_url(subject: Subject, path: str) -> list[Finding]:
    """Whether OpenAI's routes are below this path, to which the URL leads; else where they are."""
    found = await _models_at(subject, path)
    if found is not None:
        return [
            ok("base-url", "its models are listed where the url leads"),
            *_model(subject, found),
        ]
    for other, remedy in _elsewhere(path):
        if await _models_at(subject, other) is not None:
            return [failure("base-url", "its routes are not where the url leads", remedy)]
    return []  # not every server lists its models: the stream will tell


async def _models_at(subject: Subject, base_path: str) -> _Models | None:
    answer = await subject.get("/models", base_path)
    try:
        return msgspec.json.decode(answer.body, type=_Models) if answer.status == 200 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _elsewhere(path: str) -> Iterator[tuple[str, str]]:
    """Where else the routes may be, and what then is to be done; the path itself is not shown."""
    for route in _ROUTES:
        if path.endswith(route):
            yield path.removesuffix(route), f'write the url without "{route}"'
    yield f"{path}/v1", 'write "/v1" at the end of the url'
    if path.endswith("/v1/v1"):
        yield path.removesuffix("/v1"), 'write "/v1" once at the end of the url'
    elif path.endswith("/v1"):
        yield path.removesuffix("/v1"), 'write a path into the url that does not end with "/v1"'
    for place in ("/v1", "/openai/v1", "/api/v1"):
        if place != path:
            yield place, f'write "{place}" as the path of the url'


def _model(subject: Subject, found: _Models) -> Iterator[Finding]:
    """Whether it knows the model that it will be asked for."""
    model, names = subject.model, [each.id for each in found.data]
    if model is None or model.upstream_name in names or not names:
        return
    if subject.provider.kind == "huggingface-tgi":  # has one model, and takes any name for it
        return
    remedy = f"it lists {listed(names)}: name one of them as modelName"
    if model.hides_name:
        remedy = "compare the name with what the server lists"
    name = "the model" if model.hides_name else f'"{model.upstream_name}"'
    yield warning("model", f"it does not list {name}", remedy)
