"""Many requests of every kind at once, and what each client saw of the end of its own.

A client knows less than the proxy: it sees a status, a body, and how the body ends. From these
alone `ending` says which outcomes the proxy may have written into its books. It is deaf to what
the request was meant to provoke, so a failure that the client cannot see is found here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from random import Random
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec

KEY = "key-of-a-client"
CONCURRENCY = 32
UNLIMITED = 100_000  # tokens
SILENCE_SECONDS = 2.0  # the proxy's limits; a client's patience is far longer

MODELS = ("chat::v1::model", "native::v1::model", "plain::v1::model")
TROUBLES = ("overload", "validation", "template", "fail", "incomplete", "truncate", "cut")

TIMEOUTS = frozenset(
    f"timeout_{clock}" for clock in ("connect", "headers", "first_token", "idle", "total")
)
# Words of an error, its code or its type, and the outcome that they stand for.
WORDS: dict[str, frozenset[str]] = {
    **{timeout: frozenset({timeout}) for timeout in TIMEOUTS},
    "timeout": TIMEOUTS,
    "truncated": frozenset({"truncated"}),
    "incomplete_generation": frozenset({"truncated"}),
    "incomplete_generation_stream": frozenset({"truncated"}),
    "upstream_error": frozenset({"upstream_error"}),
    "upstream_unreachable": frozenset({"upstream_error"}),
    "upstream_protocol_error": frozenset({"upstream_error"}),
    "overloaded": frozenset({"upstream_error"}),
    "generation": frozenset({"upstream_error"}),
    "validation": frozenset({"rejected"}),
    "template_error": frozenset({"rejected"}),
    "context_length_exceeded": frozenset({"rejected"}),
    "invalid_api_key": frozenset({"rejected"}),
    "model_not_found": frozenset({"rejected"}),
    "invalid_request_error": frozenset({"rejected"}),
    "unauthenticated": frozenset({"rejected"}),
    "unknown_model": frozenset({"rejected"}),
}
REASONS: dict[str | None, frozenset[str]] = {
    "stop": frozenset({"complete"}),
    "eos_token": frozenset({"complete"}),
    "length": frozenset({"length"}),
    None: frozenset({"complete", "length"}),  # TGI tells it only to those who asked for details
}
LEFT = frozenset({"client_gone"})
UNTOLD: frozenset[str] = frozenset()  # the client cannot say how it ended: always wrong


class Case(msgspec.Struct, frozen=True):
    """One request; `leave_after` so many bytes of the answer, 0: before any, None: never."""

    request_id: str
    path: str
    body: bytes
    key: str = KEY
    leave_after: int | None = None


class Seen(msgspec.Struct, frozen=True):
    """What a client saw: the status (0 if none came) and which outcomes that can have been."""

    status: int
    outcomes: frozenset[str]
    tail: bytes = b""


def cases(seed: int, count: int) -> Iterator[Case]:
    """So many requests; the same for the same seed."""
    random = Random(seed)
    for number in range(count):
        yield _case(random, f"{seed}-{number}")


async def send_all(url: str, requests: Iterator[Case]) -> AsyncIterator[tuple[Case, Seen]]:
    """Send them, `CONCURRENCY` at a time; each with what its client saw, as they end."""
    ended: asyncio.Queue[tuple[Case, Seen] | None] = asyncio.Queue()

    async def work(session: aiohttp.ClientSession) -> None:
        for case in requests:  # shared: each takes the next one
            await ended.put((case, await _send(session, url, case)))
        await ended.put(None)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(work(session))
        working = CONCURRENCY
        while working:
            end = await ended.get()
            if end is None:
                working -= 1
            else:
                yield end


def ending(path: str, status: int, body: bytes) -> frozenset[str]:
    """The outcomes that a whole answer can have had, as far as its client can tell."""
    if status != 200:
        return _failure(msgspec.json.decode(body))
    if not body.startswith(b"data:"):
        return _whole(msgspec.json.decode(body))
    events = [event.removeprefix(b"data:").strip() for event in body.split(b"\n\n") if event]
    return _native_stream(events) if "generate" in path else _openai_stream(events)


# -- making requests


def _case(random: Random, request_id: str) -> Case:
    model = random.choice(MODELS)
    chance = random.random()
    if chance < 0.02:
        return Case(request_id, "/v1/chat/completions", _chat("nobody", "hello", stream=True))
    if chance < 0.04:
        body = _chat(model, "hello", stream=False)
        return Case(request_id, "/v1/chat/completions", body, "key-of-nobody")
    if chance < 0.06:
        path = random.choice(("/v1/chat/completions", "/v1/completions", "/generate_stream"))
        return Case(request_id, path, b'{"model": "x", "inputs": ')
    if chance < 0.16:  # leave in the middle of a long answer
        case = _request(random, request_id, model, "[[tokens=9999 slow=0.01]]", stream=True)
        return msgspec.structs.replace(case, leave_after=random.randint(1, 3000))
    if chance < 0.20:  # leave before an answer
        stream = random.random() < 0.5
        case = _request(random, request_id, model, "[[wait=600]]", stream=stream)
        return msgspec.structs.replace(case, leave_after=0)
    stream, limit = random.random() < 0.6, random.choice((1, 3, 5, *[UNLIMITED] * 12))
    return _request(random, request_id, model, _prompt(random), stream=stream, limit=limit)


def _prompt(random: Random) -> str:
    chance = random.random()
    after = random.randint(0, 4)
    if chance < 0.02:
        return f"[[stall after={after}]] hello"
    if chance < 0.03:
        return "[[wait=600]] hello"
    if chance < 0.30:
        return f"[[{random.choice(TROUBLES)} after={after}]] hello"
    return f"[[tokens={random.randint(1, 40)}]] hello"


def _request(
    random: Random,
    request_id: str,
    model: str,
    prompt: str,
    *,
    stream: bool,
    limit: int = UNLIMITED,
) -> Case:
    surface = random.choice(("chat", "completions", "native"))
    if surface == "chat":
        body = _chat(model, prompt, stream=stream, max_tokens=limit)
        return Case(request_id, "/v1/chat/completions", body)
    if surface == "completions":
        asked = {"model": model, "prompt": prompt, "stream": stream, "max_tokens": limit}
        return Case(request_id, "/v1/completions", msgspec.json.encode(asked))
    parameters = {"max_new_tokens": limit, "details": random.random() < 0.5}
    body = msgspec.json.encode({"inputs": prompt, "parameters": parameters})
    route = "generate_stream" if stream else "generate"
    return Case(request_id, f"/models/{model}/{route}", body)


def _chat(model: str, prompt: str, **members: object) -> bytes:
    messages = [{"role": "user", "content": prompt}]
    return msgspec.json.encode({"model": model, "messages": messages, **members})


# -- sending them


async def _send(session: aiohttp.ClientSession, url: str, case: Case) -> Seen:
    if case.leave_after == 0:
        return await _leave_unanswered(url, case)
    headers = {"x-request-id": case.request_id, "authorization": f"Bearer {case.key}"}
    body = bytearray()
    async with session.post(url + case.path, data=case.body, headers=headers) as response:
        try:
            async for data in response.content.iter_any():
                body += data
                if case.leave_after is not None and len(body) >= case.leave_after:
                    response.close()
                    return Seen(response.status, LEFT)
        except aiohttp.ClientPayloadError:
            return Seen(response.status, UNTOLD, b"the body broke off")
    return Seen(response.status, _judged(case, response.status, bytes(body)), bytes(body[-300:]))


def _judged(case: Case, status: int, body: bytes) -> frozenset[str]:
    try:
        return ending(case.path, status, body)
    except (msgspec.DecodeError, LookupError, TypeError):  # not an answer of this dialect
        return UNTOLD


async def _leave_unanswered(url: str, case: Case) -> Seen:
    """Go once the proxy has certainly met the request: it has asked for the body."""
    target = urlsplit(url)
    reader, writer = await asyncio.open_connection(target.hostname, target.port)
    head = (
        f"POST {case.path} HTTP/1.1\r\nHost: {target.netloc}\r\nExpect: 100-continue\r\n"
        f"Authorization: Bearer {case.key}\r\nX-Request-Id: {case.request_id}\r\n"
        f"Content-Length: {len(case.body)}\r\n\r\n"
    )
    writer.write(head.encode())
    await reader.readuntil(b"100 Continue\r\n\r\n")
    writer.write(case.body)
    writer.close()
    return Seen(0, LEFT)


# -- judging the answers


def _whole(answer: Any) -> frozenset[str]:
    if "generated_text" in answer:
        return REASONS[(answer.get("details") or {}).get("finish_reason")]
    return REASONS[answer["choices"][0]["finish_reason"]]


def _openai_stream(events: list[bytes]) -> frozenset[str]:
    if events[-1] != b"[DONE]":
        return _failure(msgspec.json.decode(events[-1]))
    answers = [msgspec.json.decode(event) for event in events[:-1]]
    choices = [choice for answer in answers for choice in answer["choices"]]
    reasons = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    return REASONS[reasons[0]] if len(reasons) == 1 else UNTOLD


def _native_stream(events: list[bytes]) -> frozenset[str]:
    last = msgspec.json.decode(events[-1])
    if last.get("generated_text") is None:
        return _failure(last)
    return REASONS[(last.get("details") or {}).get("finish_reason")]


def _failure(answer: Any) -> frozenset[str]:
    """What an error says of its cause: by its code, else by its type."""
    error = answer.get("error")
    if isinstance(error, dict):
        return WORDS.get(error["code"] or error["type"], UNTOLD)
    return WORDS.get(answer.get("error_type"), UNTOLD)
