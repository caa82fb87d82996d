"""The routes of the demo server, and the two ways of answering: at once and token by token."""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager

import msgspec
from aiohttp import web
from msgspec import Struct

from proxy import __version__
from proxy.demo import chat, completions, native, openai
from proxy.demo.counters import Counters, State
from proxy.demo.engine import End, Step, admit, interleave
from proxy.demo.failures import BadBody, Cut, InferError, Truncated
from proxy.demo.parameters import (
    MAX_BEST_OF,
    MAX_INPUT_TOKENS,
    MAX_STOP_SEQUENCES,
    MAX_TOTAL_TOKENS,
)
from proxy.demo.stream import EventStream, cut, open_stream
from proxy.demo.wire import MODEL_ID, TGI_VERSION, Work, error_body, read_body

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PAYLOAD_LIMIT_BYTES = 2_000_000  # TGI's --payload-limit
COMPUTE_TYPE = "demo"  # TGI's COMPUTE_TYPE, "gpu+optimized" by default
STATE_WAIT_SECONDS = 10.0


class Settings(Struct, frozen=True):
    """How one demo server behaves; `api_key` None means that everybody may ask."""

    pace_seconds: float = 0.03
    api_key: str | None = None
    keep_alive_seconds: float = 15.0
    max_concurrent_requests: int = 128


def build_app(settings: Settings) -> web.Application:
    """The application; run it with `handler_cancellation=True`, or lost readers show late."""
    server = _Server(settings)
    app = web.Application(client_max_size=PAYLOAD_LIMIT_BYTES, middlewares=[_refusals])
    app.add_routes(
        [
            web.post("/generate", server.guarded(server.generate)),
            web.post("/generate_stream", server.guarded(server.generate_stream)),
            web.post("/", server.guarded(server.compat)),
            web.post("/v1/chat/completions", server.guarded(server.chat)),
            web.post("/v1/completions", server.guarded(server.completions)),
            web.get("/", _health),
            web.get("/health", _health),
            web.get("/ping", _health),
            web.get("/info", server.info),
            web.get("/v1/models", _models),
            web.get("/metrics", server.metrics),
            web.get("/demo/state", server.state),
        ]
    )
    return app


class _Server:
    """The handlers and what they share."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._counters = Counters(settings.max_concurrent_requests)

    def guarded(self, handler: Handler) -> Handler:
        """The handler behind the API key; the refusal has no body, as TGI's has none."""
        if self._settings.api_key is None:
            return handler
        # Both sides in lower case: the key of TGI is in effect case-insensitive.
        wanted = f"Bearer {self._settings.api_key}".lower().encode(errors="surrogateescape")

        async def behind_key(request: web.Request) -> web.StreamResponse:
            given = request.headers.get("authorization", "").lower()
            if not hmac.compare_digest(given.encode(errors="surrogateescape"), wanted):
                return web.Response(status=401)
            return await handler(request)

        return behind_key

    async def generate(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, native.DECODER)
        return await self._answer(request, native.native_work(body, _query(request), stream=False))

    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, native.DECODER)
        return await self._answer(request, native.native_work(body, _query(request), stream=True))

    async def compat(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, native.DECODER)
        return await self._answer(request, native.compat_work(body, _query(request)))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, chat.DECODER)
        return await self._answer(request, chat.chat_work(body, _query(request)))

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, completions.DECODER)
        return await self._answer(request, completions.completion_work(body, _query(request)))

    async def info(self, _request: web.Request) -> web.Response:
        return _json(msgspec.json.encode(_info(self._settings)))

    async def metrics(self, _request: web.Request) -> web.Response:
        return web.Response(text=self._counters.page())

    async def state(self, request: web.Request) -> web.Response:
        """The counts; with `?running=0` and the like, as soon as they are so (or after 10 s)."""
        wanted = {
            name: int(value)
            for name, value in request.query.items()
            if name in State.__struct_fields__ and value.isdecimal() and len(value) < 10
        }
        state = await self._counters.reached(wanted, STATE_WAIT_SECONDS)
        return _json(msgspec.json.encode(state))

    async def _answer(self, request: web.Request, work: Work) -> web.StreamResponse:
        if work.stream:
            return await self._stream(request, work)
        return await self._whole(request, work)

    async def _stream(self, request: web.Request, work: Work) -> web.StreamResponse:
        # The head goes out before anything is checked, so that every failure is inside a 200.
        stream = await open_stream(request, _basic(work), self._settings.keep_alive_seconds)
        try:
            with self._permits(work):
                ends = await self._pump(stream, work)
            last = work.form.closing(ends)
        except InferError as error:
            last = work.form.error(error)
        except Truncated:
            last = ()
        except Cut:
            stream.cut()
            last = ()
        for payload in last:
            await stream.send(payload)
        return stream.response

    def _permits(self, work: Work) -> AbstractContextManager[None]:
        for job in work.jobs:
            admit(job)
        return self._counters.generation(len(work.jobs))

    async def _pump(self, stream: EventStream, work: Work) -> list[End]:
        ends = []
        for number, step in interleave(work.jobs, self._settings.pace_seconds):
            await stream.rest(step.seconds)
            await stream.send(work.form.event(number, step))
            if step.end is not None:
                ends.append(step.end)
        return ends

    async def _whole(self, request: web.Request, work: Work) -> web.StreamResponse:
        began = time.monotonic()
        try:
            with self._permits(work):
                answers = await self._collect(work)
        except Truncated as error:
            raise InferError("incomplete_generation", "Incomplete generation") from error
        except Cut:
            cut(request)
            return web.Response(status=500)  # nobody will see it
        headers = _basic(work) | _timings(answers, time.monotonic() - began)
        return _json(work.form.whole(answers), headers=headers)

    async def _collect(self, work: Work) -> list[list[Step]]:
        answers: list[list[Step]] = [[] for _ in work.jobs]
        for number, step in interleave(work.jobs, self._settings.pace_seconds):
            await asyncio.sleep(step.seconds)
            answers[number].append(step)
        return answers


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except InferError as error:
        return _json(error_body(error), status=error.status)
    except BadBody as error:
        return web.Response(status=error.status, text=error.text)
    except web.HTTPException as error:  # unknown route, wrong method: no body in axum
        return web.Response(status=error.status)


async def _health(_request: web.Request) -> web.Response:
    return web.Response()


async def _models(_request: web.Request) -> web.Response:
    return _json(openai.models())


def _query(request: web.Request) -> list[str]:
    return request.query.getall("demo", [])


def _json(body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=body, status=status, headers=headers, content_type="application/json")


def _basic(work: Work) -> dict[str, str]:
    characters = sum(len(job.prompt) for job in work.jobs)
    return {"x-compute-type": COMPUTE_TYPE, "x-compute-characters": str(characters)}


def _timings(answers: Sequence[Sequence[Step]], seconds: float) -> dict[str, str]:
    ends = [step.end for answer in answers for step in answer if step.end]
    made = sum(end.generated_tokens for end in ends)
    milliseconds = round(seconds * 1000)
    return {
        "x-compute-time": f"{seconds:.6f}",
        "x-total-time": str(milliseconds),
        "x-validation-time": "0",
        "x-queue-time": "0",
        "x-inference-time": str(milliseconds),
        "x-time-per-token": str(round(milliseconds / made)),
        "x-prompt-tokens": str(sum(end.input_tokens for end in ends)),
        "x-generated-tokens": str(made),
    }


def _info(settings: Settings) -> dict[str, object]:
    return {
        "model_id": MODEL_ID,
        "model_sha": None,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": settings.max_concurrent_requests,
        "max_best_of": MAX_BEST_OF,
        "max_stop_sequences": MAX_STOP_SEQUENCES,
        "max_input_tokens": MAX_INPUT_TOKENS,
        "max_total_tokens": MAX_TOTAL_TOKENS,
        "validation_workers": 1,
        "max_client_batch_size": completions.MAX_CLIENT_BATCH_SIZE,
        "router": "text-generation-router",
        "version": TGI_VERSION,
        "sha": None,
        "docker_label": f"{MODEL_ID}-{__version__}",
    }
