"""The client-side knobs of a model (spec 1.6.1): told to Cody clients, applied by penstock."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from msgspec import Meta

from proxy.config.schema.block import Block

_Count: TypeAlias = Annotated[int, Meta(ge=0)]
_Milliseconds: TypeAlias = Annotated[int, Meta(ge=0)]


class Knobs(Block, frozen=True):
    """How a model behind an OpenAI-compatible server wants to be asked.

    All are sent to clients as given. Sampling and stops are also what penstock asks of the server
    where a request does not say. Zero is a value like any other; what is not given is not sent.
    """

    stop_sequences: Annotated[
        tuple[str, ...] | None, Meta(description="Texts that end an answer.")
    ] = None
    end_of_text: Annotated[
        str | None, Meta(description='The marker of the end of a text, such as "<|endoftext|>".')
    ] = None
    context_size_hint_total_characters: Annotated[
        _Count | None, Meta(description="Most characters of all context together.")
    ] = None
    context_size_hint_prefix_characters: Annotated[
        _Count | None, Meta(description="Most characters before the cursor.")
    ] = None
    context_size_hint_suffix_characters: Annotated[
        _Count | None, Meta(description="Most characters after the cursor.")
    ] = None
    chat_pre_instruction: Annotated[
        str | None,
        Meta(description="Put before every chat message; a user's own setting wins."),
    ] = None
    edit_post_instruction: Annotated[
        str | None, Meta(description="Put after edit commands; a user's own setting wins.")
    ] = None
    autocomplete_singleline_timeout: Annotated[
        _Milliseconds | None,
        Meta(description="Milliseconds after which clients give up on one line."),
    ] = None
    autocomplete_multiline_timeout: Annotated[
        _Milliseconds | None,
        Meta(description="Milliseconds after which clients give up on several lines."),
    ] = None
    chat_top_k: Annotated[float | None, Meta(description="Chat: top-k.")] = None
    chat_top_p: Annotated[float | None, Meta(description="Chat: top-p.")] = None
    chat_temperature: Annotated[float | None, Meta(description="Chat: temperature.")] = None
    chat_max_tokens: Annotated[
        _Count | None, Meta(description="Chat: most tokens of an answer.")
    ] = None
    auto_complete_top_k: Annotated[float | None, Meta(description="Completion: top-k.")] = None
    auto_complete_top_p: Annotated[float | None, Meta(description="Completion: top-p.")] = None
    auto_complete_temperature: Annotated[
        float | None, Meta(description="Completion: temperature.")
    ] = None
    auto_complete_singleline_max_tokens: Annotated[
        _Count | None, Meta(description="Completion of one line: most tokens.")
    ] = None
    auto_complete_multiline_max_tokens: Annotated[
        _Count | None, Meta(description="Completion of several lines: most tokens.")
    ] = None
    edit_top_k: Annotated[float | None, Meta(description="Edit: top-k.")] = None
    edit_top_p: Annotated[float | None, Meta(description="Edit: top-p.")] = None
    edit_temperature: Annotated[float | None, Meta(description="Edit: temperature.")] = None
    edit_max_tokens: Annotated[
        _Count | None, Meta(description="Edit: most tokens of an answer.")
    ] = None


class ClientSideModelConfig(Block, frozen=True):
    """What clients are told about a model beyond its name."""

    openaicompatible: Annotated[
        Knobs | None,
        Meta(
            description="Knobs for Cody clients. That they are there at all, even {}, makes the"
            " clients use their generic completion prompt."
        ),
    ] = None
