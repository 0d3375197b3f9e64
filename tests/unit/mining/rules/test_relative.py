"""Rule relative judges a negative by its quantile among the step's documents, smoothed over its uses. By hand."""

from __future__ import annotations

import numpy as np
import pytest

from harness.mining.config import MiningConfig, build_rule
from harness.mining.judging.slots import Slots
from tests.dynamic_run import METRICS, Run

NAN = np.nan


def used(run: Run, step: int, *of_slots: tuple[float, bool], row: int = 0) -> tuple[float, float]:
    """A step in which each negative of a row has this (quantile, above the positive): (replaced, of these too hard)."""
    metrics = run.step(step, {row: [0.5] * len(of_slots)}, {row: list(of_slots)})
    return metrics["negatives_replaced"], metrics["negatives_too_hard"]


def memory(run: Run, name: str) -> list[float]:
    return run.bank.memory(np.array([0]))[name][0].tolist()


def test_a_negative_is_easy_when_its_smoothed_quantile_is_no_higher_than_the_setting() -> None:
    run = Run([9], 2, rule="relative", quantile=0.75)
    assert used(run, 1, (1.0, False), (0.76, False)) == (0, 0)
    assert used(run, 2, (0.625, False), (0.75, False)) == (0, 0)  # (1 + 0.625) / 2 = 0.8125; 0.755
    assert used(run, 3, (0.625, False), (0.8, False)) == (1, 0)  # 0.71875; 0.7775
    assert run.ranks(5) == [2, 1]
    tie = Run([9], 1, rule="relative", quantile=0.75)
    assert used(tie, 1, (0.75, False)) == (1, 0)  # no harder than the setting


def test_a_negative_above_the_positive_in_several_uses_in_a_row_is_too_hard_and_counted_apart() -> None:
    run = Run([9], 3, rule="relative", uses_above=2)
    assert used(run, 1, (1.0, True), (1.0, True), (0.5, False)) == (1, 0)  # the easy one
    assert used(run, 3, (1.0, True), (1.0, False), (1.0, True)) == (1, 1)  # the first: two in a row
    assert used(run, 5, (1.0, False), (1.0, True), (1.0, True)) == (1, 1)  # the third; the second began anew
    assert run.ranks(7) == [4, 1, 5]


def test_zero_uses_above_switches_that_reason_off() -> None:
    run = Run([9], 1, rule="relative", uses_above=0)
    assert [used(run, step, (1.0, True)) for step in range(1, 9)] == [(0, 0)] * 8


def test_a_negative_that_is_both_counts_as_too_hard() -> None:
    """Of few other documents, most may be unlabelled positives, too."""
    run = Run([9], 1, rule="relative", uses_above=1)
    assert used(run, 1, (0.1, True)) == (1, 1)
    rule, unknown = build_rule(MiningConfig(rule="relative")), np.array([[NAN]])
    assert rule is not None
    both = {"quantile": np.array([[0.1]]), "above": np.array([[3.0]])}
    judgement = rule.judge(Slots(np.array([0]), unknown, unknown, both))
    assert (judgement.easy_BM.tolist(), judgement.too_hard_BM.tolist()) == ([[False]], [[True]])


def test_the_loss_that_leaves_a_negative_out_says_nothing_of_its_quantile() -> None:
    run = Run([9], 1, rule="relative", quantile=0.75)
    used(run, 1, (1.0, False))
    assert used(run, 2, (NAN, True)) == (0, 0)
    assert memory(run, "quantile") == [1.0]
    assert memory(run, "above") == [1.0]


def test_a_new_negative_begins_without_a_memory_and_uses_of_the_old_one_do_not_count() -> None:
    run = Run([9], 1, rule="relative", quantile=0.75, delay=2)
    assert used(run, 1, (0.5, False)) == (1, 0)
    for step in (2, 3):  # planned before
        assert used(run, step, (0.25, True)) == (0, 0)
        assert np.isnan(memory(run, "quantile")).all()
        assert memory(run, "above") == [0.0]
    assert used(run, 4, (1.0, True)) == (0, 0)
    assert (memory(run, "quantile"), memory(run, "above")) == ([1.0], [1.0])


def test_an_empty_slot_is_never_judged() -> None:
    run = Run([1], 2, rule="relative", uses_above=1)
    assert used(run, 1, (1.0, False), (0.0, True)) == (0, 0)
    assert np.isnan(memory(run, "quantile")[1])
    assert memory(run, "above")[1] == 0


def test_without_a_candidate_left_it_stays_and_is_counted_as_exhausted() -> None:
    run = Run([1], 1, rule="relative", uses_above=1)
    metrics = run.step(1, {0: [0.5]}, {0: [(1.0, True)]})
    assert [metrics[f"negatives_{name}"] for name in ("replaced", "too_hard", "exhausted")] == [0, 0, 1]


def test_a_checkpoint_keeps_the_memory_of_every_negative() -> None:
    """After each step everything is stored and loaded; the decisions are those of a run that never stopped."""
    runs = [Run([60, 60], 2, rule="relative", quantile=0.3, uses_above=3) for _ in range(2)]
    random = np.random.default_rng(0)
    total = np.zeros(2)
    for step in range(1, 60):
        row = int(random.integers(2))
        of_slots = [(float(random.random()), bool(random.random() < 0.6)) for _ in range(2)]
        counts = [used(run, step, *of_slots, row=row) for run in runs]
        assert counts[0] == counts[1]
        total += counts[0]
        runs[1].reload()
        for name in ("quantile", "above"):
            np.testing.assert_array_equal(*(run.bank.memory(np.arange(2))[name] for run in runs))
        assert all(run.ranks(99, row) == runs[0].ranks(99, row) for run in runs)
    assert total[0] > total[1] > 2


def test_a_new_ranking_begins_without_a_memory() -> None:
    run = Run([9], 1, rule="relative", uses_above=2, remine={"every": 2})
    used(run, 1, (1.0, True))
    assert used(run, 2, (1.0, True)) == (0, 0)  # all candidates are ranked anew instead
    used(run, 4, (1.0, True))  # ranked again after this step
    assert memory(run, "above") == [0.0]


def test_its_metrics_say_the_mean_quantile_and_how_many_were_too_hard() -> None:
    run = Run([9], 2, rule="relative")
    metrics = run.step(1, {0: [0.5, 0.5]}, {0: [(1.0, False), (0.95, False)]})
    assert metrics["negative_quantile"] == pytest.approx(0.975)
    assert set(metrics) == {*METRICS, "negative_quantile", "negatives_too_hard"}
    assert set(Run([9], 2, rule="relative").step(1, {})) == set(metrics)  # a step without the task has the same keys
    assert set(Run([9], 2, rule="v2").step(1, {})) == set(METRICS)


def test_the_defaults() -> None:
    rule = build_rule(MiningConfig(rule="relative"))
    assert rule is not None
    assert (rule.numbers, rule.interval) == ({"quantile": 0.9, "uses_above": 3}, 1)
    assert rule.fixed_thresholds() == {}
