"""Rule v2 judges and replaces each negative separately. Expected values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.dynamic_run import Run, easy, replaced


@pytest.mark.parametrize(
    ("start", "similarity", "expected"),
    [
        (0.39, 0.90, True),  # too easy from the start
        (0.41, 0.40, False),
        (0.41, 0.35, False),  # 1.2 * 0.35 = 0.42
        (0.41, 0.34, True),  # 1.2 * 0.34 = 0.408
        (0.90, 0.72, False),  # 1.2 * 0.72 = 0.864 < 0.9, but above the ceiling
        (0.90, 0.69, True),
        (0.90, -0.95, True),  # the ceiling limits S, not |S|
    ],
)
def test_v2_asks_for_a_low_start_or_a_drop_by_the_ratio_below_the_ceiling(start, similarity, expected) -> None:
    assert easy([[start]], [[similarity]], rule="v2") == [[expected]]


def test_v2_judges_each_negative_by_itself() -> None:
    assert easy([[0.5, 0.5, 0.3]], [[0.41, 0.45, 0.9]], rule="v2") == [[True, False, True]]


def test_a_start_equal_to_the_floor_is_no_replacement() -> None:
    start = np.nextafter(np.float32(0.5), np.float32(0))
    assert easy([[0.5, start]], [[0.5, 0.5]], rule="v2", floor=0.5) == [[False, True]]


def test_several_slots_of_v2_take_the_next_ranks_in_their_order() -> None:
    run = Run([9], 3, offset=1, rule="v2")
    run.step(1, {0: [0.3, 0.6, 0.3]})
    assert run.ranks(3) == [4, 2, 5]
    run.step(3, {0: [0.6, 0.45, 0.6]})
    assert run.ranks(5) == [4, 6, 5]


def test_v2_replaces_as_many_as_are_left_and_counts_the_others_as_exhausted() -> None:
    run = Run([5], 3, rule="v2")
    assert replaced(run.step(1, {0: [0.3, 0.3, 0.3]})) == (2, 1)
    assert run.ranks(3) == [3, 4, 2]
    assert replaced(run.step(3, {0: [0.6, 0.6, 0.3]})) == (0, 1)


def test_v2_wraps_and_never_holds_a_candidate_twice() -> None:
    """Only slot 0 is replaced. It goes round five candidates repeatedly and skips those in slots 1 and 2."""
    run, ranks_of_slot_0 = Run([5], 3, rule="v2", exhausted="wrap"), []
    for step in range(1, 16, 2):
        ranks_of_slot_0.append(run.ranks(step)[0])
        assert len(set(run.ranks(step))) == 3
        assert replaced(run.step(step, {0: [0.3, 0.6, 0.6]})) == (1, 0)
    assert ranks_of_slot_0 == [0, 3, 4, 0, 3, 4, 0, 3]
