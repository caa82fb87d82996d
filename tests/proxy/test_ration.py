"""A ration lasts a second, by a clock that the test holds."""

from __future__ import annotations

from proxy.ration import Ration


def test_so_many_a_second_are_let_through_and_the_rest_is_counted() -> None:
    now = [0.0]
    ration = Ration(2, clock=lambda: now[0])

    first = [ration.take() for _ in range(5)]
    now[0] += 0.999
    late = ration.take()
    now[0] += 0.001
    second = [ration.take() for _ in range(3)]

    assert first == [True, True, False, False, False]
    assert not late
    assert second == [True, True, False]
    assert (ration.kept_back(), ration.kept_back()) == (5, 0)


def test_what_was_not_used_is_not_saved() -> None:
    now = [0.0]
    ration = Ration(1, clock=lambda: now[0])
    now[0] += 10

    assert [ration.take(), ration.take()] == [True, False]
