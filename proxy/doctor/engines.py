"""Which engine answers, and by which of its own gauges one can see whether it works.

Sources: TGI's router/src/server.rs and docs/source/reference/metrics.md, vLLM's v1/metrics,
SGLang's http_server.py, llama.cpp's tools/server/README.md, Ollama's docs/api.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import msgspec

from proxy.doctor.wire import Answer

Members = Mapping[str, object]

_OBJECT = msgspec.json.Decoder(dict[str, object])
_LIST = msgspec.json.Decoder(list[dict[str, object]])
_SAMPLE = re.compile(
    rb"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{[^\n]*\})?[ \t]+(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s",
    re.MULTILINE,
)


class Engine(msgspec.Struct, frozen=True):
    """An engine: the sum of `working` is what it does, `made` counts the tokens it has made."""

    name: str
    version: str = ""
    says: str = ""  # what else it tells of itself
    working: tuple[str, ...] = ()
    made: str = ""
    has_slots: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


TGI = Engine("TGI", working=("tgi_batch_current_size", "tgi_queue_size"))
VLLM = Engine(
    "vLLM",
    working=("vllm:num_requests_running", "vllm:num_requests_waiting"),
    made="vllm:generation_tokens_total",
)
SGLANG = Engine(
    "SGLang",
    working=("sglang:num_running_reqs", "sglang:num_queue_reqs"),
    made="sglang:generation_tokens_total",
)
LLAMA_CPP = Engine(
    "llama.cpp",
    working=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
    made="llamacpp:tokens_predicted_total",
    has_slots=True,
)
OLLAMA = Engine("Ollama")


def _tgi(told: Members) -> Engine | None:
    if "model_id" not in told or "max_concurrent_requests" not in told:
        return None
    if told.get("router") == "penstock":
        return Engine("penstock", _text(told.get("version")))
    at_once = f"takes {told['max_concurrent_requests']} requests at once"
    return msgspec.structs.replace(TGI, version=_text(told.get("version")), says=at_once)


def _sglang(told: Members) -> Engine | None:
    return SGLANG if "model_path" in told else None


def _llama_cpp(told: Members) -> Engine | None:
    if "total_slots" not in told and "default_generation_settings" not in told:
        return None
    slots = f"has {told['total_slots']} slots" if "total_slots" in told else ""
    return msgspec.structs.replace(LLAMA_CPP, version=_text(told.get("build_info")), says=slots)


def _ollama(told: Members) -> Engine | None:
    version = told.get("version")
    return msgspec.structs.replace(OLLAMA, version=_text(version)) if version else None


def _vllm(told: Members) -> Engine | None:
    version = told.get("version")
    return msgspec.structs.replace(VLLM, version=_text(version)) if version else None


# Asked in this order; the first that knows its answer wins.
_QUESTIONS: tuple[tuple[str, Callable[[Members], Engine | None]], ...] = (
    ("/info", _tgi),
    ("/get_model_info", _sglang),
    ("/model_info", _sglang),
    ("/props", _llama_cpp),
    ("/api/version", _ollama),
    ("/version", _vllm),
)
QUESTIONS = tuple(path for path, _ in _QUESTIONS)


def recognised(answers: Mapping[str, Answer]) -> Engine | None:
    """The engine that these answers, by path, are of; None for one that tells nothing."""
    for path, read in _QUESTIONS:
        answer = answers[path]
        told = members_of(answer) if answer.status == 200 else {}
        engine = read(told)
        if engine is not None:
            return engine
    return None


def members_of(answer: Answer) -> Members:
    """The members of an answer's object; none where it is not one."""
    try:
        return _OBJECT.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def samples(page: bytes, names: Sequence[str]) -> float | None:
    """The sum of these series, whatever their labels; None where the first of them is missing."""
    found = [
        (name.decode(), float(value))
        for name, value in _SAMPLE.findall(page)
        if name.decode() in names
    ]
    if not names or names[0] not in {name for name, _ in found}:
        return None
    return sum(value for _, value in found)


def busy_slots(answer: Answer) -> float | None:
    """How many of llama.cpp's slots compute; None where it does not say."""
    try:
        slots = _LIST.decode(answer.body) if answer.status == 200 else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if slots is None:
        return None
    return float(sum(slot.get("is_processing") is True for slot in slots))


def _text(value: object) -> str:
    return value[:100] if isinstance(value, str) else ""
