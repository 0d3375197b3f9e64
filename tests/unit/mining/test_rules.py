"""When a negative counts as easy: the two papers' inequalities by hand-computed cases."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mining.config import MiningConfig
from harness.mining.rules import Rule

NAN = np.nan


def easy(start: list, similarity: list, **settings) -> list:
    rule = Rule.of(MiningConfig(**settings))
    assert rule is not None
    return rule.easy(np.array(start, dtype=np.float32), np.array(similarity, dtype=np.float64)).tolist()


def test_the_defaults_are_the_papers_numbers() -> None:
    assert Rule.of(MiningConfig()) is None
    assert Rule.of(MiningConfig(rule="v1")) == Rule(True, ratio=1.15, ceiling=0.8, floor=None, interval=100)
    assert Rule.of(MiningConfig(rule="v2")) == Rule(False, ratio=1.2, ceiling=0.7, floor=0.4, interval=1)


def test_every_number_is_a_setting_and_a_floor_of_zero_is_one() -> None:
    numbers = {"ratio": 1.0, "ceiling": 0.5, "interval": 7}
    assert Rule.of(MiningConfig(rule="v1", **numbers)) == Rule(True, 1.0, 0.5, None, 7)
    assert Rule.of(MiningConfig(rule="v2", floor=0.0, **numbers)) == Rule(False, 1.0, 0.5, 0.0, 7)


def test_v1_judges_the_means_and_moves_the_window_as_a_whole() -> None:
    """Means: S0 0.5, so S must be below 0.4348. One negative alone may be as hard as it likes."""
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


@pytest.mark.parametrize(
    ("start", "similarity", "expected"),
    [
        (0.39, 0.90, True),  # too easy from the start
        (0.41, 0.40, False),
        (0.41, 0.35, False),  # 1.2 * 0.35 = 0.42
        (0.41, 0.34, True),  # 1.2 * 0.34 = 0.408
        (0.90, 0.72, False),  # 1.2 * 0.72 = 0.864 < 0.9, but above the ceiling
        (0.90, 0.69, True),
        (0.90, -0.95, True),  # the ceiling is on S, not on |S|
    ],
)
def test_v2_asks_for_a_low_start_or_a_drop_by_the_ratio_below_the_ceiling(start, similarity, expected) -> None:
    assert easy([[start]], [[similarity]], rule="v2") == [[expected]]


def test_v2_judges_each_negative_by_itself() -> None:
    assert easy([[0.5, 0.5, 0.3]], [[0.41, 0.45, 0.9]], rule="v2") == [[True, False, True]]


@pytest.mark.parametrize("rule", ["v1", "v2"])
@pytest.mark.parametrize(("start", "similarity"), [(-0.5, -0.6), (-0.1, -0.7), (0.0, -0.1), (-0.0, -0.1)])
def test_a_start_of_zero_or_below_never_passes_the_ratio_test(rule, start, similarity) -> None:
    """Each S here is below S0 / ratio: without the guard all would be replaced."""
    floor = {"floor": -1.0} if rule == "v2" else {}
    assert easy([[start]], [[similarity]], rule=rule, **floor) == [[False]]


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_an_exact_tie_is_no_replacement(rule) -> None:
    """Numbers that floats hold exactly: 1.25 * 0.5 = 0.625, and S equal to the ceiling."""
    settings = {"rule": rule, "ratio": 1.25, "ceiling": 0.75}
    below = np.nextafter(0.5, 0)
    assert easy([[0.625], [0.625]], [[0.5], [below]], **settings) == [[False], [True]]
    assert easy([[1.0], [1.0]], [[0.75], [np.nextafter(0.75, 0)]], **settings) == [[False], [True]]


def test_a_start_equal_to_the_floor_is_no_replacement() -> None:
    start = np.nextafter(np.float32(0.5), np.float32(0))
    assert easy([[0.5, start]], [[0.5, 0.5]], rule="v2", floor=0.5) == [[False, True]]


def test_v1_means_leave_empty_slots_out_and_never_replace_them() -> None:
    """With the hole as a zero, S would be 0.30 against S0 0.50: easy. Without it, 0.45 against 0.50 is not."""
    assert easy([[0.5, 0.5, NAN]], [[0.45, 0.45, NAN]], rule="v1") == [[False, False, False]]
    assert easy([[0.5, 0.5, NAN]], [[0.40, 0.40, 0.9]], rule="v1") == [[True, True, False]]
    assert easy([[0.5, 0.5]], [[0.40, NAN]], rule="v1") == [[True, False]]


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_nothing_seen_is_nothing_replaced(rule) -> None:
    assert easy([[NAN, NAN], [0.1, NAN]], [[0.1, NAN], [NAN, 0.1]], rule=rule) == [[False, False], [False, False]]
