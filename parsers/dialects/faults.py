"""The one recogniser of errors: is this payload an error, and which kind of error is it?

Servers announce failure in a dozen shapes, and most of them also inside an answer that began with
HTTP 200. So every decoder asks here before it reads anything else. Three steps: find the error
object (`_find`), read its words (`_Report`), then classify them and make them safe to show.
"""

from __future__ import annotations

import msgspec

from parsers.dialects import repair
from parsers.dialects.fault_kinds import by_status, classify
from parsers.dialects.safe_text import safe_text
from parsers.errors import BadPayload
from parsers.events import Fault, FaultKind

MAX_MESSAGE_CHARS = 1000
_MAX_WORD_CHARS = 200

_UNSAID = "upstream reported an error without a message"

_JSON: msgspec.json.Decoder[object] = msgspec.json.Decoder(object)
_ABSENT = object()  # no JSON at all; None is JSON's null


class _Report(msgspec.Struct, frozen=True):
    """What an error object says, in the server's own words."""

    message: str | None = None
    type: str | None = None
    code: str | int | None = None
    param: str | None = None
    status: int | None = None


def recognise(payload: bytes, event: str = "") -> Fault | None:
    """The error in the data of one stream event, None if it is none.

    `event` is the event's name; an event called `error` is one whatever it carries.
    `"error": null` (and false, and empty) is none. Sources: upstreams.md 0 rule 6, tgi.md 7.
    """
    value = _decoded(payload)
    report = _find(value)
    if report is None:
        if event != "error":
            return None
        report = _from_object(value) if isinstance(value, dict) else _from_text(payload)
    return _fault(report, report.status)


def from_response(status: int, body: bytes) -> Fault:
    """What a failed call was about, from whatever body came with it.

    Also for a body that should have been an answer and is not (`status` below 400): then, unless
    it is an error object, the fault is PROTOCOL.
    """
    failed = status >= 400
    value = _decoded(body)
    report = _find(value)
    if report is not None:
        return _fault(report, status if failed else report.status)
    if not failed:
        return _unsaid(FaultKind.PROTOCOL, "upstream sent something that is not an answer")
    if isinstance(value, dict):
        report = _from_object(value)
    elif not _is_html(body):
        report = _from_text(value.encode() if isinstance(value, str) else body)
    if report is None or not report.message:
        return _unsaid(by_status(status), f"upstream answered with status {status}", status)
    return _fault(report, status)


def from_words(message: str | None, *, type: str | None = None, status: int | None = None) -> Fault:
    """A failure told outside JSON: Bedrock's exception frames and `x-amzn-errortype`."""
    return _fault(_Report(message=message, type=type), status)


def _fault(report: _Report, status: int | None) -> Fault:
    return Fault(
        kind=classify(report.message, report.code, report.type, status=status),
        origin="upstream",
        message=safe_text(report.message or "", MAX_MESSAGE_CHARS) or _UNSAID,
        status=report.status if report.status is not None else status,
        type=_safe_word(report.type),
        code=_safe_word(report.code) if isinstance(report.code, str) else report.code,
        param=_safe_word(report.param),
    )


def _safe_word(word: str | None) -> str | None:
    return None if word is None else safe_text(word, _MAX_WORD_CHARS)


def _unsaid(kind: FaultKind, message: str, status: int | None = None) -> Fault:
    return Fault(kind=kind, origin="upstream", message=message, status=status)


# Finding


def _decoded(payload: bytes) -> object:
    try:
        return repair.decode(_JSON, payload)
    except BadPayload:
        return _ABSENT


# A text beside one of these is part of an answer, not the whole of an error.
_ANSWER = frozenset(
    {"choices", "candidates", "content", "delta", "done", "generated_text", "output", "token"}
)


def _find(value: object) -> _Report | None:
    if isinstance(value, list) and value:  # Gemini, without alt=sse
        value = value[0]
    if not isinstance(value, dict):
        return None
    if error := value.get("error"):
        return _from_error(error, value)
    if value.get("object") == "error" or value.get("type") == "error":  # vLLM, SGLang; Responses
        return _from_object(value)
    if isinstance(fault := value.get("fault"), dict):  # Fireworks' edge
        return _from_fault(fault)
    return _find_bare(value) if _ANSWER.isdisjoint(value) else None


def _find_bare(value: dict[object, object]) -> _Report | None:
    if detail := value.get("detail"):  # FastAPI
        return _from_error(detail, value)
    named = "type" not in value or "code" in value  # else one of Anthropic's or OpenAI's events
    if isinstance(value.get("message"), str) and named:  # AWS
        return _from_object(value)
    return None


def _from_error(error: object, around: dict[object, object]) -> _Report:
    if isinstance(error, dict):
        return _from_object(error)
    return _Report(
        message=_joined(error) or _text(around.get("message")),
        type=_text(around.get("error_type")),
        code=_code(around.get("code")),
        status=_first_status(around),
    )


def _from_object(error: dict[object, object]) -> _Report:
    details = error.get("details")  # Anthropic names the spend limit here; Gemini has a list
    inner = details.get("error_code") if isinstance(details, dict) else None
    type_ = _text(error.get("type")) or _text(error.get("status"))  # Gemini: status is a name
    return _Report(
        message=_joined(error.get("message") or error.get("detail") or error.get("msg")),
        type=None if type_ == "error" else type_,
        code=_code(error.get("code")) or _code(inner),
        param=_text(error.get("param")),
        status=_first_status(error),
    )


def _from_fault(fault: dict[object, object]) -> _Report:
    detail = fault.get("detail")
    code = detail.get("errorcode") if isinstance(detail, dict) else None
    return _Report(message=_text(fault.get("faultstring")), code=_code(code))


def _from_text(payload: bytes) -> _Report:
    return _Report(message=payload[: 8 * MAX_MESSAGE_CHARS].decode("utf-8", "replace"))


def _joined(value: object) -> str | None:
    """A text, or the texts of a list of them (FastAPI: objects with `msg`)."""
    if not isinstance(value, list):
        return _text(value)
    parts = [_text(part.get("msg") if isinstance(part, dict) else part) for part in value]
    return "; ".join(part for part in parts if part)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _code(value: object) -> str | int | None:
    if isinstance(value, bool):
        return None
    return value if isinstance(value, int) else _text(value)


def _first_status(error: dict[object, object]) -> int | None:
    for key in ("status", "code", "http_status_code", "status_code"):
        value = error.get(key)
        if isinstance(value, str) and len(value) == 3 and value.isdecimal():  # Azure: "429"
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    return None


def _is_html(body: bytes) -> bool:
    return body[:512].lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
