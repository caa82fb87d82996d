"""One struct over another."""

from __future__ import annotations

from proxy.config.overlay import overlay
from proxy.config.schema import (
    ClientSideModelConfig,
    ContextWindow,
    Knobs,
    ModelOverride,
    ModelSettings,
)


def test_what_the_upper_says_holds_and_the_lower_fills_the_rest() -> None:
    upper = ModelSettings(status="beta")
    lower = ModelSettings(status="stable", category="speed")

    assert overlay(upper, lower) == ModelSettings(status="beta", category="speed")


def test_zero_is_something_said() -> None:
    upper, lower = Knobs(chat_temperature=0), Knobs(chat_temperature=1, chat_top_p=0.5)

    assert overlay(upper, lower) == Knobs(chat_temperature=0, chat_top_p=0.5)


def test_a_struct_that_is_always_there_is_merged_member_by_member() -> None:
    upper = ModelSettings(context_window=ContextWindow(max_input_tokens=1))
    lower = ModelSettings(context_window=ContextWindow(max_input_tokens=2, max_output_tokens=3))

    window = overlay(upper, lower).context_window

    assert window == ContextWindow(max_input_tokens=1, max_output_tokens=3)


def test_a_struct_that_may_be_absent_is_replaced_whole() -> None:
    upper = ModelSettings(client_side_config=ClientSideModelConfig())
    lower = ModelSettings(
        client_side_config=ClientSideModelConfig(openaicompatible=Knobs(end_of_text="x"))
    )

    assert overlay(upper, lower).client_side_config == ClientSideModelConfig()


def test_members_that_the_lower_does_not_have_stay() -> None:
    upper = ModelOverride(model_ref="a::b::c", display_name="C")

    merged = overlay(upper, ModelSettings(status="beta"))

    assert merged == ModelOverride(model_ref="a::b::c", display_name="C", status="beta")


def test_neither_is_changed() -> None:
    upper, lower = ModelSettings(status="beta"), ModelSettings(category="speed")

    overlay(upper, lower)

    assert (upper, lower) == (ModelSettings(status="beta"), ModelSettings(category="speed"))
