"""Replacement in training: the first step in which a decision is used, and its metrics."""

from __future__ import annotations

import numpy as np
import pytest

from tests.dynamic_run import METRICS, Run


@pytest.mark.parametrize("delay", [1, 3])
def test_a_decision_is_seen_from_step_t_plus_1_plus_delay_on_and_not_earlier(delay: int) -> None:
    """Before the first decision is used, decisions on other slots of the row and on another row follow."""
    run = Run([9, 9], 3, rule="v2", delay=delay)
    run.step(1, {0: [0.6, 0.6, 0.6], 1: [0.6, 0.6, 0.6]})
    run.step(2, {0: [0.55, 0.45, 0.6]})  # slot 1 → 3
    run.step(3, {0: [0.6, 0.45, 0.45], 1: [0.45, 0.6, 0.45]})  # slot 2 → 4; in row 1, slots 0 and 2 → 3 and 4
    run.step(4, {0: [0.45, 0.5, 0.45]})  # slot 0 → 5
    decided = {2: [0, 3, 2], 3: [0, 3, 4], 4: [5, 3, 4]}
    for step in range(5, 13):
        in_force = [ranks for t, ranks in decided.items() if t + 1 + delay <= step]
        assert run.ranks(step) == [[0, 1, 2], *in_force][-1]
        assert run.ranks(step, 1) == ([3, 1, 4] if step >= 4 + delay else [0, 1, 2])


def test_the_mean_start_is_over_the_negatives_that_are_watched() -> None:
    run = Run([9, 9], 2, rule="v1")
    assert run.step(1, {0: [0.5, 0.25]})["negative_similarity_start"] == 0.375
    assert run.step(2, {0: [0.9, 0.9], 1: [0.75, 0.5]})["negative_similarity_start"] == 0.5


def test_similarity_and_start_are_means_over_the_same_negatives() -> None:
    """Slot 0 is replaced at step 1. Step 2 was planned before, so the new negative has no S0 after step 2."""
    run = Run([9], 2, rule="v2", floor=0.3)
    run.step(1, {0: [0.25, 0.5]})
    metrics = run.step(2, {0: [0.2, 0.5]})
    assert (metrics["negative_similarity_watched"], metrics["negative_similarity_start"]) == (0.5, 0.5)


def test_without_a_rule_nothing_is_watched_and_the_start_is_unknown() -> None:
    run = Run([9], 2, rule="none")
    for step in range(1, 4):
        only = {**dict.fromkeys(METRICS, 0.0), "negative_similarity_watched": float(np.float32(0.1))}
        metrics = run.step(step, {0: [0.1, 0.1]})
        assert np.isnan(metrics.pop("negative_similarity_start"))  # null in metrics.jsonl, not 0
        assert metrics == {name: value for name, value in only.items() if name != "negative_similarity_start"}
    assert run.ranks(99) == [0, 1]
    assert np.isnan(run.start()).all()
