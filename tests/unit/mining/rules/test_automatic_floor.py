"""`mining.floor: auto`: rule v2 takes its floor from the first negatives of the run. By hand, and by numpy."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mining.config import MiningConfig, build_rule
from harness.mining.rules.v2 import AUTO_JUDGEMENTS, AUTO_QUANTILE
from tests.dynamic_run import METRICS, Run

START = np.random.default_rng(1).permutation(30).reshape(10, 3) / 100 + 0.5  # S0 of row r, all far above 0.4


def trained(steps: int, *, reload_after: int | None = None, **settings) -> tuple[Run, list[dict[str, float]]]:
    """Row r is used for the first time in step r + 1, then again from step 11 on."""
    run = Run([9] * 10, 3, rule="v2", floor="auto", **settings)
    rows = []
    for step in range(1, steps + 1):
        rows.append(run.step(step, {(step - 1) % 10: START[(step - 1) % 10].tolist()}))
        if step == reload_after:
            run.reload()
    return run, rows


def test_the_floor_is_the_lowest_tenth_of_the_first_ten_judgements_and_replaces_from_then_on() -> None:
    run, rows = trained(13)
    floor = np.quantile(START.astype(np.float32).astype(np.float64), AUTO_QUANTILE)
    column = [row["negative_floor/faq"] for row in rows]
    assert np.isnan(column[: AUTO_JUDGEMENTS - 1]).all()
    assert column[AUTO_JUDGEMENTS - 1 :] == [floor] * 4
    assert run.negatives.measured() == {"faq": {"floor": floor}}
    below = (floor > START).sum(1)
    assert [row["negatives_replaced"] for row in rows] == [0] * 9 + [below[9], *below[:3]]
    assert below[[9, 0, 1, 2]].sum() > 0


def test_the_floor_is_said_once_and_not_again_after_a_checkpoint() -> None:
    run, rows = trained(13, reload_after=11)
    value = f"{rows[-1]['negative_floor/faq']:.4g}"
    assert run.said == [f"task faq: mining.floor: auto is {value}, from its negatives' first similarities"]


@pytest.mark.parametrize("step", [1, 5, 9, 10, 12])
def test_a_run_that_is_continued_finds_the_same_floor(step: int) -> None:
    """Also if it stopped before all ten judgements."""
    expected, found = (trained(20, reload_after=after) for after in (None, step))
    np.testing.assert_equal(found[1], expected[1])
    assert [found[0].ranks(99, row) for row in range(10)] == [expected[0].ranks(99, row) for row in range(10)]


def test_a_query_that_comes_several_times_counts_once_and_judgements_without_one_do_not() -> None:
    run = Run([9, 9], 1, rule="v2", floor="auto")
    for step in range(1, 2 * AUTO_JUDGEMENTS):
        row = run.step(step, {} if step % 2 == 0 else {0: [0.9]} if step < 2 * AUTO_JUDGEMENTS - 1 else {1: [0.5]})
    assert row["negative_floor/faq"] == pytest.approx(np.quantile(np.float32([0.9, 0.5]), AUTO_QUANTILE))


def test_a_negative_that_the_loss_left_out_at_first_counts_with_its_later_start() -> None:
    """A margin leaves out the hardest ones; a query's first use decided alone, and the floor was that of the others."""
    run = Run([9, 9], 2, rule="v2", floor="auto")
    for step in range(1, AUTO_JUDGEMENTS + 1):
        row = run.step(step, {0: [np.nan if step == 1 else 0.6, 0.9], 1: [0.8, 0.7]})
    starts = np.float32([0.6, 0.9, 0.8, 0.7]).astype(np.float64)
    assert row["negative_floor/faq"] == np.quantile(starts, AUTO_QUANTILE)


def test_a_new_ranking_gets_a_floor_of_its_own() -> None:
    """Its candidates are harder: what was low among the first ones may be common now."""
    run, rows = trained(13, remine={"every": 12})
    assert np.isfinite(rows[10]["negative_floor/faq"])
    assert np.isnan(rows[12]["negative_floor/faq"])
    assert run.negatives.measured() == {}


def test_a_floor_that_is_given_is_not_measured() -> None:
    run = Run([9], 1, rule="v2", floor=0.3)
    assert set(run.step(1, {0: [0.5]})) == set(METRICS)
    assert (run.negatives.measured(), run.said) == ({}, [])
    assert not any(name.startswith("faq/rule/") for name in run.negatives.state())


def test_the_report_draws_a_floor_only_once_it_is_known() -> None:
    rule = build_rule(MiningConfig(rule="v2", floor="auto"))
    assert rule is not None
    assert rule.fixed_thresholds() == {"S below 0.7 only": 0.7}
