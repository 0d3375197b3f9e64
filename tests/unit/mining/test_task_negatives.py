"""A task's negatives: which similarities are used as S and as S0. Expected values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.dynamic_run import Run, replaced

NAN = np.nan


def test_the_clock_judges_what_was_seen_since_the_last_check_by_its_last_similarity() -> None:
    run = Run([4, 4, 4], 2, rule="v1", interval=3)
    run.step(1, {0: [0.5, 0.5], 1: [0.5, 0.5], 2: [0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.3, 0.3], 1: [0.3, 0.3]})) == (0, 0)  # no check
    assert replaced(run.step(3, {1: [0.5, 0.5]})) == (2, 0)  # row 0 is replaced; row 1 has become hard again
    assert [run.ranks(5, row) for row in range(3)] == [[2, 3], [0, 1], [0, 1]]
    run.step(4, {0: [0.5, 0.5]})  # still the old window
    run.step(5, {2: [0.3, 0.3]})
    assert replaced(run.step(6, {})) == (2, 0)  # row 2 is replaced, in a step without the task
    assert replaced(run.step(9, {})) == (0, 0)


def test_a_query_not_seen_since_the_last_check_is_not_judged_again() -> None:
    """Its list is exhausted, so it stays easy. Only the check that judged it counts it."""
    run = Run([2], 2, rule="v1", interval=2)
    run.step(1, {0: [0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.1, 0.1]})) == (0, 2)
    run.step(3, {})
    assert replaced(run.step(4, {})) == (0, 0)
    run.step(5, {0: [0.1, 0.1]})
    assert replaced(run.step(6, {})) == (0, 2)


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_an_observation_with_the_old_ranks_is_neither_start_nor_similarity_of_the_new_ones(rule: str) -> None:
    """Three steps still use the old negatives. Their similarity must not become S0 of the new negatives."""
    run = Run([4], 2, rule=rule, interval=1, delay=3)
    run.step(1, {0: [0.6, 0.6]})
    assert replaced(run.step(2, {0: [0.5, 0.5] if rule == "v1" else [0.45, 0.45]})) == (2, 0)
    for step, old in ((3, 0.9), (4, 0.1), (5, 0.6)):
        metrics = run.step(step, {0: [old, old]})
        assert replaced(metrics) == (0, 0)
        assert np.isnan(metrics["negative_similarity_start"])
        assert np.isnan(run.start()).all()
    assert run.step(6, {0: [0.5, 0.5]})["negative_similarity_start"] == 0.5
    assert run.start() == [0.5, 0.5]
    assert run.ranks(7) == [2, 3]


def test_an_old_observation_of_one_slot_leaves_the_others_watched() -> None:
    run = Run([9], 2, rule="v2", delay=3)
    run.step(1, {0: [0.6, 0.6]})
    assert replaced(run.step(2, {0: [0.45, 0.6]})) == (1, 0)
    assert replaced(run.step(3, {0: [0.45, 0.45]})) == (1, 0)
    assert run.ranks(7) == [2, 3]


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_empty_slots_are_never_judged_and_never_replaced(rule: str) -> None:
    """The loss gives 0 for a slot without a candidate. 0 is below v2's floor for S0, and it would lower v1's mean."""
    run = Run([2, 0], 3, rule=rule, interval=1)
    for step in (1, 2, 3):
        metrics = run.step(step, {0: [0.5, 0.5, 0.0], 1: [0.0, 0.0, 0.0]})
        assert replaced(metrics) == (0, 0)
        assert metrics["negative_similarity_start"] == 0.5
    assert run.start()[:2] == [0.5, 0.5]
    assert np.isnan([run.start()[2], *run.start(1)]).all()
    assert replaced(run.step(4, {0: [0.1, 0.1, 0.0], 1: [0.0, 0.0, 0.0]})) == (0, 2)
    assert (run.ranks(9), run.ranks(9, 1)) == ([0, 1, 2], [0, 1, 2])


def test_a_row_that_comes_twice_in_a_step_is_judged_once() -> None:
    run = Run([4], 2, rule="v1", interval=1)
    for step, similarity in ((1, 0.5), (2, 0.3)):
        plan = run.plan(step, [0, 0])
        similarities = {"faq": np.full((2, 2), similarity)}
        metrics = run.negatives.observe(plan, similarities)
    assert replaced(metrics) == (2, 0)


def test_the_start_may_be_the_ranking_score() -> None:
    """Then the first use is already judged. A candidate without a score has no S0 and is kept."""
    run = Run([4, 4], 2, score_RC=np.array([[0.6, 0.6, 0.6, NAN], [NAN] * 4]), rule="v2", start="ranking")
    metrics = run.step(1, {0: [0.45, 0.55], 1: [0.1, 0.1]})
    assert replaced(metrics) == (1, 0)
    assert metrics["negative_similarity_start"] == np.float32(0.6)
    assert replaced(run.step(3, {0: [0.45, 0.55], 1: [0.1, 0.1]})) == (1, 0)
    assert replaced(run.step(5, {0: [0.1, 0.55], 1: [0.1, 0.1]})) == (0, 0)
    assert (run.ranks(7), run.ranks(7, 1)) == ([3, 1], [0, 1])


def test_with_ranking_scores_the_start_is_known_before_the_first_judgement() -> None:
    """Judged ahead every five steps, the first five had no start to be drawn beside: the figure began at step six."""
    scores = np.full((1, 9), 0.9)
    run = Run([9], 2, score_RC=scores, rule="v2", check="upcoming", start="ranking", interval=5)
    metrics = run.step(1, {0: [0.5, 0.7]})
    assert metrics["negative_similarity_start"] == np.float32(0.9)
    assert metrics["negative_similarity_watched"] == pytest.approx(0.6)


def test_a_checkpoint_holds_what_the_next_check_needs() -> None:
    """Saved between two checks, with a decision not yet used: it holds S0, S, the new window and the old window."""
    run = Run([6, 6], 2, rule="v1", interval=2)
    run.step(1, {0: [0.5, 0.5], 1: [0.5, 0.5]})
    run.step(2, {0: [0.3, 0.3]})
    run.step(3, {1: [0.3, 0.3]})
    run.reload()
    assert [run.ranks(step) for step in (3, 4)] == [[0, 1], [2, 3]]
    assert replaced(run.step(4, {})) == (2, 0)
    assert run.ranks(6, 1) == [2, 3]
