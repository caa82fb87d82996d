"""What a server has no word for is dropped by name, or refused by name."""

from __future__ import annotations

import pytest

from parsers.chat import (
    ChatRequest,
    CompletionRequest,
    ImagePart,
    Message,
    Reasoning,
    Request,
    Sampling,
    TextPart,
    ThinkingPart,
    Tool,
    ToolChoice,
)
from parsers.dialects import policy
from parsers.dialects.base import Untranslatable

_HELLO = (Message("user", (TextPart("hello"),)),)
_NOTHING: frozenset[str] = frozenset()


def _chat(**members: object) -> ChatRequest:
    return ChatRequest(**{"model": "m", "messages": _HELLO, **members})  # type: ignore[arg-type]  # any member


def test_a_request_that_says_nothing_special_stays_the_same_object() -> None:
    request = _chat()
    assert policy.settle(request, _NOTHING, "x") == (request, ())


def test_hints_are_dropped_and_named() -> None:
    request = _chat(
        user="u",
        reasoning=Reasoning(effort="low"),
        sampling=Sampling(top_k=5, seed=0, temperature=0.0),
        passed_over=("logit_bias",),
    )
    settled, lost = policy.settle(request, frozenset({"temperature"}), "x")
    assert settled == _chat(sampling=Sampling(temperature=0.0), passed_over=("logit_bias",))
    assert lost == ("logit_bias", "top_k", "seed", "reasoning_effort", "user")


def test_neutral_values_lose_nothing() -> None:
    sampling = Sampling(top_p=1.0, presence_penalty=0.0, repetition_penalty=1.0, choices=1)
    request = _chat(sampling=sampling, tool_choice=ToolChoice("auto"), parallel_tool_calls=True)
    assert policy.settle(request, _NOTHING, "x") == (request, ())


def test_reasoning_of_earlier_turns_is_taken_out_where_nobody_reads_it() -> None:
    thought = Message("assistant", (ThinkingPart("hm", "sig"), TextPart("yes")))
    settled, lost = policy.settle(_chat(messages=(thought,)), _NOTHING, "x")
    assert settled == _chat(messages=(Message("assistant", (TextPart("yes"),)),))
    assert lost == ("thinking",)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (_chat(sampling=Sampling(max_tokens=0)), "max_tokens"),
        (_chat(sampling=Sampling(stop=("x",))), "stop"),
        (_chat(sampling=Sampling(choices=2)), "n"),
        (_chat(sampling=Sampling(logprobs=0)), "logprobs"),
        (_chat(tools=(Tool("f"),)), "tools"),
        (_chat(tool_choice=ToolChoice("none")), "tool_choice"),
        (_chat(messages=(Message("user", (ImagePart("data:,"),)),)), "images"),
        (CompletionRequest("m", "p", suffix="s"), "suffix"),
        (CompletionRequest("m", "p", echo=True), "echo"),
    ],
)
def test_terms_are_refused_by_name(request_: Request, field: str) -> None:
    with pytest.raises(Untranslatable, match=f'"{field}" cannot be expressed to a x server'):
        policy.settle(request_, _NOTHING, "x")
    spoken = frozenset({field})
    assert policy.settle(request_, spoken, "x") == (request_, ())


def test_a_refusal_can_be_told_in_the_clients_words() -> None:
    error = Untranslatable("stop", "x").named({"stop": "stop_sequences"})
    assert str(error) == '"stop_sequences" cannot be expressed to a x server'
