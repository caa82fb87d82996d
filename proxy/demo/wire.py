"""What the routes share: a body taken in as axum would, and the forms that answers are put in."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from proxy.demo.engine import End, Job, Step
from proxy.demo.failures import BadBody, InferError

MODEL_ID = "penstock-demo"
TGI_VERSION = "3.3.7"  # the version whose behaviour is imitated
DONE = b"[DONE]"

T = TypeVar("T")


class Form(Protocol):
    """How one route writes an answer; every `bytes` is one JSON text or `[DONE]`."""

    def event(self, number: int, step: Step) -> bytes:
        """The event for one step of job `number`."""

    def error(self, error: InferError) -> Sequence[bytes]:
        """The events for a failure inside a stream."""

    def closing(self, ends: Sequence[End]) -> Sequence[bytes]:
        """The events after the last step, given the end of each job."""

    def whole(self, answers: Sequence[Sequence[Step]]) -> bytes:
        """The answer that is not streamed, given the steps of each job."""


class Work(Struct, frozen=True):
    """A request that was understood: what to make, how to write it, and whether to stream it."""

    jobs: list[Job]
    form: Form
    stream: bool


async def read_body(request: web.Request, decoder: msgspec.json.Decoder[T]) -> T:
    """The decoded body; raises `BadBody` with the texts of axum's `Json` extractor."""
    if request.content_type != "application/json" and not request.content_type.endswith("+json"):
        raise BadBody(415, "Expected request with `Content-Type: application/json`")
    try:
        return decoder.decode(await request.read())
    except msgspec.ValidationError as error:
        raise misfit(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadBody(400, f"Failed to parse the request body as JSON: {error}") from error
    except web.HTTPRequestEntityTooLarge as error:
        text = "Failed to buffer the request body: length limit exceeded"
        raise BadBody(413, text) from error


def misfit(problem: str) -> BadBody:
    """The refusal of a body that is JSON, but of the wrong shape."""
    return BadBody(422, f"Failed to deserialize the JSON body into the target type: {problem}")


def error_body(error: InferError) -> bytes:
    """A failure in TGI's own form, used by every route that is not streaming."""
    return msgspec.json.encode({"error": error.text, "error_type": error.error_type})


def generated(answer: Sequence[Step]) -> End:
    """The end of a complete answer."""
    end = answer[-1].end
    if end is None:
        raise ValueError("an answer without an end")
    return end
