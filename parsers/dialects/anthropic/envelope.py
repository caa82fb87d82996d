"""The top level of a Messages request: the exact path's part.

Everything below the top level keeps the sender's own bytes.
"""

from __future__ import annotations

import msgspec

from parsers.dialects.base import Amend, Members, RequestHead
from parsers.dialects.client_input import decode

_MEMBERS: msgspec.json.Decoder[Members] = msgspec.json.Decoder(Members)
_MODEL: msgspec.json.Decoder[str | None] = msgspec.json.Decoder(str | None)
_STREAM: msgspec.json.Decoder[bool | None] = msgspec.json.Decoder(bool | None)


def peek(body: bytes) -> RequestHead:
    """Model and stream flag. Raises BadPayload, with a text for the client, on bad input.

    The body is read through once: its members go along, for `forward`.
    """
    members = decode(_MEMBERS, body)
    model, stream = map(members.get, ("model", "stream"))
    return RequestHead(
        model=(decode(_MODEL, model, "model") or "") if model is not None else "",
        stream=bool(stream is not None and decode(_STREAM, stream, "stream")),
        include_usage=True,
        members=members,
    )


def forward(body: bytes, model: str, *, amend: Amend, members: Members | None = None) -> bytes:
    """The request under the upstream's model name. Raises BadPayload for what is no object."""
    members = decode(_MEMBERS, body) if members is None else dict(members)
    members["model"] = msgspec.Raw(msgspec.json.encode(model))
    amend(members)
    return msgspec.json.encode(members)
