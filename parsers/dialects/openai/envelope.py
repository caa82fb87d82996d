"""The top level of an OpenAI request, and the usage frames of its answer: the exact path's part.

Everything below the top level keeps the sender's own bytes.
"""

from __future__ import annotations

import msgspec

from parsers.dialects import faults, repair
from parsers.dialects.base import Amend, Members, RequestHead
from parsers.dialects.client_input import decode
from parsers.sse import frames as split_frames

_CR = 0x0D
_RAW_NULL = b"null"
_RAW_TRUE = msgspec.Raw(b"true")


class _StreamOptions(msgspec.Struct, frozen=True):
    include_usage: bool | None = None


_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)
_MODEL: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
_STREAM: msgspec.json.Decoder[bool | None] = msgspec.json.Decoder(bool | None)
_OPTIONS: msgspec.json.Decoder[_StreamOptions | None] = msgspec.json.Decoder(_StreamOptions | None)


def peek(body: bytes) -> RequestHead:
    """Model and stream flag. Raises BadPayload, with a text for the client, on bad input.

    The body is read through once: its members go along, for `forward`.
    """
    members = decode(_MEMBERS, body)
    model, stream, options = map(members.get, ("model", "stream", "stream_options"))
    asked = None if options is None else decode(_OPTIONS, options, "stream_options")
    return RequestHead(
        model=(decode(_MODEL, model, "model") or "") if model is not None else "",
        stream=bool(stream is not None and decode(_STREAM, stream, "stream")),
        include_usage=bool(asked and asked.include_usage),
        members=members,
    )


def forward(
    body: bytes, model: str, *, usage: bool, amend: Amend, members: Members | None = None
) -> bytes:
    """The request under the upstream's model name, asking for usage if told to and streaming.

    Raises BadPayload if the body is not a JSON object.
    """
    members = decode(_MEMBERS, body) if members is None else dict(members)
    members["model"] = msgspec.Raw(msgspec.json.encode(model))
    if usage and bytes(members.get("stream", b"")) == b"true":
        _ask_for_usage(members)
    amend(members)
    return msgspec.json.encode(members)


def _ask_for_usage(members: Members) -> None:
    options = members.get("stream_options")
    asked: Members = {}
    if options is not None and bytes(options) != _RAW_NULL:
        asked = decode(_MEMBERS, options, "stream_options")
    asked["include_usage"] = _RAW_TRUE
    members["stream_options"] = msgspec.Raw(msgspec.json.encode(asked))


class _UsageFrame(msgspec.Struct, frozen=True):
    usage: object = None
    choices: tuple[()] | None = None  # anything in it, and this does not decode


_USAGE_FRAME = msgspec.json.Decoder(_UsageFrame)


def without_usage(frames: bytes) -> bytes:
    """Whole frames as read, without those that only report usage."""
    # per token; TGI and OpenAI write "usage":null into every other frame
    reports = frames.count(b'"usage"') - frames.count(b'"usage":null')
    if not reports:
        return frames
    at = frames.rfind(b'"usage"')
    if reports == 1 and _CR not in frames and not frames.startswith(b'"usage":null', at):
        return _without_frame(frames, at)
    return b"".join(
        [f for f in split_frames(frames) if f.find(b'"usage"') < 0 or not _reports_usage_only(f)]
    )


def _without_frame(frames: bytes, at: int) -> bytes:
    """The frames, whose lines end in LF, without the one at this place if it reports only usage."""
    before, end = frames.rfind(b"\n\n", 0, at), frames.find(b"\n\n", at) + 2
    begin = 0 if before < 0 else before + 2
    return frames[:begin] + frames[end:] if _reports_usage_only(frames[begin:end]) else frames


def _reports_usage_only(frame: bytes) -> bool:
    if not frame.startswith(b"data:") or b'"usage":null' in frame:
        return False
    payload = frame[len(b"data:") :]
    try:
        report = _USAGE_FRAME.decode(payload)
    except repair.NOT_JSON:
        return False
    return bool(report.usage) and faults.recognise(payload) is None
