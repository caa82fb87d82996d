"""The dialect of text completions as one object, and TGI's form of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from parsers.chat import CompletionRequest, Operation, Request
from parsers.dialects import client_input
from parsers.dialects.base import Identity, Members
from parsers.dialects.completions import encoder
from parsers.dialects.completions.decoder import TextChunkReader
from parsers.dialects.completions.request import decode_request, request_members
from parsers.dialects.openai import SELF_HOSTED
from parsers.dialects.openai.surface import OpenAISurface
from parsers.dialects.tgi_chat import TgiUntranslatable
from parsers.events import StreamEvent


class OpenAICompletions(OpenAISurface):
    """OpenAI text completions. A server with habits of its own is a subclass with an `amend`."""

    name = "openai-completions"
    operation = Operation.COMPLETION
    chunk_reader = TextChunkReader
    spoken = frozenset(
        {
            *("max_tokens", "stop", "n", "logprobs", "temperature", "top_p", "seed", "user"),
            *("presence_penalty", "frequency_penalty", "suffix", "echo"),
        }
    )

    def encode_request(self, request: Request, model: str) -> bytes:
        """The request body, amended. Raises Untranslatable for a conversation."""
        members = request_members(request, model, self.name)
        self.amend(members)
        return msgspec.json.encode(members)

    def decode_request(self, body: bytes) -> CompletionRequest:
        """The whole request. Raises BadPayload, with a text for the client, on bad input."""
        return decode_request(body)

    def stream_encoder(
        self, identity: Identity, *, include_usage: bool
    ) -> encoder.CompletionsEncoder:
        """An encoder for one streamed answer."""
        return encoder.CompletionsEncoder(identity, include_usage=include_usage)

    def encode_body(self, events: Iterable[StreamEvent], identity: Identity) -> bytes:
        """The whole answer folded from its events; there is no `Failed` among them."""
        return encoder.encode_body(events, identity)


class SelfHostedCompletions(OpenAICompletions):
    """Text completions as the engines that one hosts oneself understand them."""

    spoken = OpenAICompletions.spoken | SELF_HOSTED


_NUMBER = msgspec.json.Decoder(float)

# TGI ignores them, or refuses them with a status that names no field, and each changes the
# answer; the values are those that change nothing.
_UNKNOWN_TO_TGI: dict[str, frozenset[bytes]] = {
    "n": frozenset({b"1"}),
    "best_of": frozenset({b"1"}),
    "echo": frozenset({b"false"}),
    "logprobs": frozenset(),
    "suffix": frozenset({b'""'}),
}


class TgiCompletions(OpenAICompletions):
    """Text completions as TGI understands them (tgi.md 5 and 6.3).

    It reports usage unasked, on the last chunk of each prompt, and ignores `stream_options`.
    """

    spoken = frozenset(
        {
            *("max_tokens", "stop", "temperature", "top_p", "seed"),
            *("frequency_penalty", "repetition_penalty"),
        }
    )

    def amend(self, members: Members) -> None:
        """Rewrite what TGI reads differently. Raises TgiUntranslatable for what it cannot do."""
        for name in [name for name, value in members.items() if bytes(value) == b"null"]:
            del members[name]
        for name, harmless in _UNKNOWN_TO_TGI.items():
            if bytes(members.pop(name, b"")) not in harmless | {b""}:
                raise TgiUntranslatable(name, "TGI")
        if "top_p" in members and client_input.decode(_NUMBER, members["top_p"], "top_p") >= 1:
            del members["top_p"]  # must be strictly less
        if bytes(members.get("stop", b"")).startswith(b'"'):
            members["stop"] = msgspec.Raw(b"[%b]" % bytes(members["stop"]))


OPENAI_COMPLETIONS = OpenAICompletions()
SELF_HOSTED_COMPLETIONS = SelfHostedCompletions()
TGI_COMPLETIONS = TgiCompletions()
