"""Rules are found by the names of their files; what v1 and v2 have in common; a new rule is one file."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mining.config import MiningConfig
from harness.mining.replacement_rule import build_rule
from tests.dynamic_run import easy

NAN = np.nan


def settings_of(**settings) -> tuple[str, dict[str, float], int]:
    rule = build_rule(MiningConfig(**settings))
    assert rule is not None
    return rule.name, rule.numbers, rule.interval


def test_the_defaults_are_the_papers_numbers() -> None:
    assert build_rule(MiningConfig()) is None
    assert settings_of(rule="v1") == ("v1", {"ratio": 1.15, "ceiling": 0.8}, 100)
    assert settings_of(rule="v2") == ("v2", {"ratio": 1.2, "ceiling": 0.7, "floor": 0.4}, 1)
    assert settings_of(rule="v2", check="upcoming")[2] == 100


def test_every_number_is_a_setting_and_a_floor_of_zero_is_one() -> None:
    numbers = {"ratio": 1.0, "ceiling": 0.5, "interval": 7}
    assert settings_of(rule="v1", **numbers) == ("v1", {"ratio": 1.0, "ceiling": 0.5}, 7)
    assert settings_of(rule="v2", floor=0.0, **numbers) == ("v2", {"ratio": 1.0, "ceiling": 0.5, "floor": 0.0}, 7)


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


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_nothing_seen_is_nothing_replaced(rule) -> None:
    assert easy([[NAN, NAN], [0.1, NAN]], [[0.1, NAN], [NAN, 0.1]], rule=rule) == [[False, False], [False, False]]
