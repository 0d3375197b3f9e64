"""Rule v1 judges a query's window by the means of S and S0 and replaces all of it. Expected values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.dynamic_run import Run, easy, replaced

NAN = np.nan


def test_v1_judges_the_means_and_moves_the_window_as_a_whole() -> None:
    """The mean of S0 is 0.5, so the mean of S must be below 0.4348. A single negative may be hard."""
    start = [[0.7, 0.3], [0.7, 0.3]]
    assert easy(start, [[0.76, 0.10], [0.78, 0.10]], rule="v1") == [[True, True], [False, False]]


@pytest.mark.parametrize(
    ("start", "similarity", "expected"),
    [
        (0.96, 0.81, False),  # 1.15 * 0.81 = 0.93 < 0.96, but still above the ceiling
        (0.96, 0.79, True),
        (0.50, -0.79, True),
        (0.50, -0.81, False),  # |S|, not S
        (0.50, 0.44, False),  # 1.15 * 0.44 = 0.506
        (0.50, 0.43, True),  # 1.15 * 0.43 = 0.4945
    ],
)
def test_v1_asks_for_a_drop_by_the_ratio_and_a_size_below_the_ceiling(start, similarity, expected) -> None:
    assert easy([[start]], [[similarity]], rule="v1") == [[expected]]


def test_v1_means_leave_empty_slots_out_and_never_replace_them() -> None:
    """If the empty slot counted as 0, S would be 0.30 against S0 0.50: easy. Without it S is 0.45: not easy."""
    assert easy([[0.5, 0.5, NAN]], [[0.45, 0.45, NAN]], rule="v1") == [[False, False, False]]
    assert easy([[0.5, 0.5, NAN]], [[0.40, 0.40, 0.9]], rule="v1") == [[True, True, False]]
    assert easy([[0.5, 0.5]], [[0.40, NAN]], rule="v1") == [[True, False]]


def test_v1_moves_through_the_windows_from_the_offset_on_and_keeps_the_last() -> None:
    """Window i is [offset + i n, offset + (i + 1) n): 8 candidates, offset 1, n = 2 make 3 windows; rank 7 is left."""
    run = Run([8], 2, offset=1, rule="v1", interval=1)
    step, windows = 1, [run.ranks(1)]
    for _ in range(3):
        assert replaced(run.step(step, {0: [0.5, 0.5]})) == (0, 0)  # first use sets S0
        assert replaced(run.step(step + 1, {0: [0.4, 0.4]})) in [(2, 0), (0, 2)]  # 1.15 * 0.4 = 0.46 < 0.5
        step += 3
        windows.append(run.ranks(step))
    assert windows == [[1, 2], [3, 4], [5, 6], [5, 6]]
    assert run.bank.num_replaced(np.array([0])) == 2


def test_the_start_of_a_new_window_is_its_own_first_use() -> None:
    """0.375 would be easy against S0 = 0.5 of the old window. It is S0 of the new window, which is easy below 0.326."""
    run = Run([6], 2, rule="v1", interval=1)
    run.step(1, {0: [0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.4, 0.4]})) == (2, 0)
    assert np.isnan(run.start()).all()
    assert replaced(run.step(4, {0: [0.375, 0.375]})) == (0, 0)
    assert run.start() == [0.375, 0.375]
    assert replaced(run.step(5, {0: [0.34, 0.34]})) == (0, 0)  # 1.15 * 0.34 = 0.391
    assert replaced(run.step(6, {0: [0.32, 0.32]})) == (2, 0)  # 1.15 * 0.32 = 0.368


def test_v1_keeps_a_window_whose_successor_would_not_be_full() -> None:
    run = Run([5], 3, rule="v1", interval=1)
    run.step(1, {0: [0.5, 0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.3, 0.3, 0.3]})) == (0, 3)
    assert run.ranks(9) == [0, 1, 2]


def test_v1_wraps_to_the_offset_and_passes_over_the_ranks_in_use() -> None:
    """Offset 1 and six ranks to go round. Windows of 2, then windows of 4, for which not enough ranks are free."""
    run, windows = Run([7], 2, offset=1, rule="v1", interval=1, exhausted="wrap"), []
    for step in range(1, 16, 3):
        windows.append(run.ranks(step))
        run.step(step, {0: [0.5, 0.5]})
        assert replaced(run.step(step + 1, {0: [0.3, 0.3]})) == (2, 0)
    assert windows == [[1, 2], [3, 4], [5, 6], [1, 2], [3, 4]]
    run = Run([7], 4, offset=1, rule="v1", interval=1, exhausted="wrap")
    run.step(1, {0: [0.5] * 4})
    assert replaced(run.step(2, {0: [0.3] * 4})) == (0, 4)
