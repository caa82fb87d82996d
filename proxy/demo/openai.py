"""What TGI's two OpenAI routes have in common."""

from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from proxy.demo.engine import End
from proxy.demo.failures import InferError
from proxy.demo.wire import DONE, MODEL_ID, TGI_VERSION

FINGERPRINT = f"{TGI_VERSION}-demo"  # where TGI has "-native"


class Stamp(Struct, frozen=True):
    """What every object of one answer repeats; the id is empty, as TGI has it."""

    model: str
    created: int

    def head(self, kind: str) -> dict[str, object]:
        """The first keys of an object of type `kind`."""
        return {
            "object": kind,
            "id": "",
            "created": self.created,
            "model": self.model,
            "system_fingerprint": FINGERPRINT,
        }


def stamp(model: str | None) -> Stamp:
    """The stamp of an answer made now; `tgi` and no name mean the model that is served."""
    named = MODEL_ID if model is None or model in {"", "tgi"} else model
    return Stamp(named, int(datetime.now(UTC).timestamp()))


def usage(ends: Sequence[End]) -> dict[str, int]:
    """The tokens of one request, over all its prompts."""
    prompt = sum(end.input_tokens for end in ends)
    completion = sum(end.generated_tokens for end in ends)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }


def stream_error(error: InferError) -> Sequence[bytes]:
    """The events of a failure inside a stream: always status 422, then `[DONE]`."""
    # The constant is TGI's own: overload and failed passes are 422 here too.
    body = {"error": {"message": error.text, "http_status_code": 422}}
    return (msgspec.json.encode(body), DONE)


def models() -> bytes:
    """The answer of `/v1/models`; TGI's `created` is always 0."""
    model = {"id": MODEL_ID, "object": "model", "created": 0, "owned_by": MODEL_ID}
    return msgspec.json.encode({"object": "list", "data": [model]})
