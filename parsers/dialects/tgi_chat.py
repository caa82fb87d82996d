"""TGI's reading of OpenAI chat (tgi.md 5): the same dialect, with requests rewritten for it."""

from __future__ import annotations

import msgspec

from parsers.dialects.base import Members, Untranslatable
from parsers.dialects.client_input import decode
from parsers.dialects.openai import OpenAIChat, SelfHostedChat
from parsers.errors import BadPayload

_TARGET = "TGI"
_ABSENT = msgspec.Raw(b"")


class TgiUntranslatable(Untranslatable, BadPayload):
    """TGI would ignore or refuse a member that changes the contract.

    Also a BadPayload, for on the exact path it is the client's own request that cannot be sent.
    """


class _JsonSchema(msgspec.Struct, frozen=True):
    schema: msgspec.Raw
    name: str | None = None


class _Format(msgspec.Struct, frozen=True):
    type: str
    json_schema: _JsonSchema | None = None
    value: msgspec.Raw = _ABSENT


class _Value(msgspec.Struct, frozen=True):
    name: str
    schema: msgspec.Raw


class _TgiFormat(msgspec.Struct, frozen=True):
    value: _Value
    type: str = "json_schema"


_LIST = msgspec.json.Decoder(list[Members])
_FORMAT = msgspec.json.Decoder(_Format)
_NUMBER = msgspec.json.Decoder(float)


class TgiChat(OpenAIChat):
    """Chat completions as TGI 2 and 3 understand them. The model name stays as given."""

    spoken = OpenAIChat.spoken - {"n", "parallel_tool_calls", "reasoning_effort", "user"}
    habits = SelfHostedChat.habits

    def amend(self, members: Members) -> None:
        """Rewrite what TGI reads differently. Raises TgiUntranslatable for `n` above 1."""
        _drop_nulls(members)
        _refuse_choices(members)
        _amend_sampling(members)
        _amend_format(members)
        _amend_tools(members)


def _drop_nulls(members: Members) -> None:
    # `stream_options: null` is a type error; elsewhere null is what an absent member means.
    for name in [name for name, value in members.items() if bytes(value) == b"null"]:
        del members[name]


def _refuse_choices(members: Members) -> None:
    # TGI ignores it, and the client would wait for the other choices.
    if _number(members, "n") > 1:
        raise TgiUntranslatable("n", _TARGET)


def _amend_sampling(members: Members) -> None:
    if "top_p" in members and _number(members, "top_p") >= 1:  # must be strictly less
        del members["top_p"]
    if "presence_penalty" in members and _number(members, "presence_penalty") == 0:
        del members["presence_penalty"]  # it would become a repetition_penalty of 2.0
    if "max_completion_tokens" in members:  # an alias: both together are a duplicate field
        members["max_tokens"] = members.pop("max_completion_tokens")
    if bytes(members.get("stop", b"")).startswith(b'"'):
        members["stop"] = msgspec.Raw(b"[%b]" % bytes(members["stop"]))
    # Unused there, and typed as a list, so that OpenAI's object is a type error.
    members.pop("logit_bias", None)


def _amend_format(members: Members) -> None:
    if "response_format" not in members:
        return
    wanted = decode(_FORMAT, members["response_format"], "response_format")
    if wanted.value is not _ABSENT:  # TGI's own form
        return
    if wanted.type == "text":
        del members["response_format"]
    elif wanted.json_schema is not None:
        value = _Value(wanted.json_schema.name or "answer", wanted.json_schema.schema)
        members["response_format"] = msgspec.Raw(msgspec.json.encode(_TgiFormat(value)))
    else:  # json_object: its grammar needs a schema with properties
        raise TgiUntranslatable("response_format", _TARGET)


def _amend_tools(members: Members) -> None:
    if "tools" in members and not decode(_LIST, members["tools"], "tools"):
        del members["tools"]
        members.pop("tool_choice", None)
    if b'"tool_calls"' in bytes(members.get("messages", b"")):
        _amend_messages(members)


def _amend_messages(members: Members) -> None:
    """Empty contents beside tool calls go: TGI reads content first, and then loses the calls."""
    messages = decode(_LIST, members["messages"], "messages")
    for message in messages:
        if "tool_calls" in message and bytes(message.get("content", b"")) in (b'""', b"null"):
            del message["content"]
    members["messages"] = msgspec.Raw(msgspec.json.encode(messages))


def _number(members: Members, name: str) -> float:
    return decode(_NUMBER, members[name], name) if name in members else 0


TGI_CHAT = TgiChat()
