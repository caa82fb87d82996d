"""A conversation as Gemini reads it: turns of the user and of the model, each a list of parts.

A call has no id here: a result names its function, so names are looked up in the history, and
results stand in the order of the calls. Gemini 3 refuses a call of the current turn that comes
back without its signature, for which there is a documented stand-in. Source: translation.md 1, 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from parsers.chat import ImagePart, Message, Part, TextPart, ToolUse
from parsers.dialects.base import Untranslatable
from parsers.dialects.objects import object_of, object_with
from parsers.dialects.turns import SYSTEM

_TARGET = "gemini"
# For calls whose signature was lost, or that another model made.
_NO_SIGNATURE = "skip_thought_signature_validator"

# Vertex wants to be told what is at a URL.
_PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
}


class _Wire(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    pass


class _Blob(_Wire, frozen=True):
    mime_type: str
    data: str  # base64


class _File(_Wire, frozen=True):
    file_uri: str
    mime_type: str | None = None


class _Call(_Wire, frozen=True):
    name: str
    args: msgspec.Raw


class _Result(_Wire, frozen=True):
    name: str
    response: msgspec.Raw


class _Part(_Wire, frozen=True):
    text: str | None = None
    inline_data: _Blob | None = None
    file_data: _File | None = None
    function_call: _Call | None = None
    function_response: _Result | None = None
    thought_signature: str | None = None


class Content(_Wire, frozen=True):
    """One turn, `user` or `model`; the system's has no role."""

    parts: list[_Part]
    role: str | None = None


# A part, and where it stands among others: a result by the number of its call.
_Placed: TypeAlias = tuple[int, _Part]
_ANYWHERE = 2**31  # after the results, in the order in which it was said


class _Made(msgspec.Struct, frozen=True):
    """A call in the history: its place among all calls, and its function."""

    number: int
    name: str


def system_of(messages: Sequence[Message]) -> Content | None:
    """What the system says, wherever it stands, in one text; None if it says nothing."""
    texts = [message.text for message in messages if message.role in SYSTEM]
    text = "\n\n".join(filter(None, texts))
    return Content([_Part(text=text)]) if text else None


def contents_of(messages: Sequence[Message], *, needs_signature: bool) -> list[Content]:
    """The turns, neighbours of one role merged; what is empty is left out.

    Raises Untranslatable for a picture that cannot be told, and for a result of no known call.
    """
    history = _History(needs_signature=needs_signature)
    turns: list[tuple[str, list[_Placed]]] = []
    for at, message in enumerate(messages):
        if message.role in SYSTEM:
            continue
        placed = history.parts_of(message, f"messages[{at}]")
        role = "model" if message.role == "assistant" else "user"
        if placed and turns and turns[-1][0] == role:
            turns[-1][1].extend(placed)
        elif placed:
            turns.append((role, placed))
    return [Content(_in_order(placed), role) for role, placed in turns]


def _in_order(placed: list[_Placed]) -> list[_Part]:
    return [part for _, part in sorted(placed, key=lambda each: each[0])]


class _History:
    """The calls so far, for the results that come after them."""

    def __init__(self, *, needs_signature: bool) -> None:
        self._needs_signature = needs_signature
        self._made: dict[str, _Made] = {}  # by id; TGI's clients use one again and again
        self._count = 0

    def parts_of(self, message: Message, place: str) -> list[_Placed]:
        """What one message says; results first, in the order of their calls."""
        if message.role == "tool":
            pictures = [part for part in message.parts if isinstance(part, ImagePart)]
            return [self._result(message, place), *_said(pictures, place)]
        calls = [(_ANYWHERE, self._call(use)) for use in message.tool_calls]
        if calls and self._needs_signature:
            calls = _signed(calls)
        return [*_said(message.parts, place), *calls]

    def _call(self, use: ToolUse) -> _Part:
        self._made[use.id] = _Made(self._count, use.name)
        self._count += 1
        call = _Call(use.name, object_of(use.arguments))
        return _Part(function_call=call, thought_signature=use.signature)

    def _result(self, message: Message, place: str) -> _Placed:
        made = self._made.get(message.tool_call_id or "")
        if made is None:
            raise Untranslatable(f"{place}.tool_call_id", _TARGET)
        response = object_of(message.text, "output")
        if message.is_error:
            response = object_with("error", message.text)
        return made.number, _Part(function_response=_Result(made.name, response))


def _signed(calls: list[_Placed]) -> list[_Placed]:
    """The calls of one turn; the signature of the first is the one that must be there."""
    if any(part.thought_signature for _, part in calls):
        return calls
    place, first = calls[0]
    return [(place, replace(first, thought_signature=_NO_SIGNATURE)), *calls[1:]]


def _said(parts: Iterable[Part], place: str) -> list[_Placed]:
    """Texts and pictures; reasoning stays here, for only calls must bring it back."""
    said: list[_Placed] = []
    for part in parts:
        if isinstance(part, TextPart) and part.text:
            said.append((_ANYWHERE, _Part(text=part.text)))
        elif isinstance(part, ImagePart):
            said.append((_ANYWHERE, _picture(part.url, place)))
    return said


def _picture(url: str, place: str) -> _Part:
    scheme, _, rest = url.partition(":")
    if scheme.lower() != "data":
        name = rest.partition("?")[0].rpartition(".")[2].lower()
        return _Part(file_data=_File(url, _PICTURES.get(name)))
    head, _, data = rest.partition(",")
    kind, *parameters = head.split(";")
    if not kind or not data or "base64" not in parameters:
        raise Untranslatable(f"{place}.content", _TARGET)
    return _Part(inline_data=_Blob(kind, data))
