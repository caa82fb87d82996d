"""Prefix affinity is worth its uneven load: the trace of `tests/bench/affinity.py`, shortened."""

from __future__ import annotations

from tests.bench.affinity import Result, Trace, compared

SHORT_PROMPTS = Trace(conversations=400, system_tokens=60)
LONG_PROMPTS = Trace(conversations=400, system_tokens=800)


def hit_rates(results: dict[str, Result]) -> list[float]:
    return [result.hit_rate for result in results.values()]


def test_affinity_finds_what_an_engine_has_cached() -> None:
    in_turn, least, by_default, _, _ = hit_rates(compared(SHORT_PROMPTS))

    assert abs(in_turn - least) < 0.05  # neither knows of caches
    assert by_default > in_turn + 0.25


def test_under_a_long_system_prompt_it_must_look_further() -> None:
    """512 characters are the same in all conversations then."""
    in_turn, _, by_default, further, by_header = hit_rates(compared(LONG_PROMPTS))

    assert by_default > in_turn + 0.02
    assert further > in_turn + 0.12
    assert abs(further - by_header) < 0.03


def test_affinity_keeps_the_load_near_the_mean() -> None:
    results = compared(LONG_PROMPTS)

    assert max(result.unevenness for result in results.values()) < 1.6
