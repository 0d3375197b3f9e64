"""Ranking anew and looking ahead: the bank from which a step draws, and what is judged. Expected values by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.dynamic_run import METRICS, Run

HARD, EASY = [0.5, 0.5], [0.1, 0.1]


@pytest.mark.parametrize("delay", [1, 2])
def test_a_new_ranking_is_drawn_from_step_t_plus_1_plus_delay_on_and_begins_with_its_first_window(delay: int) -> None:
    run = Run([9], 2, offset=1, rule="v2", delay=delay, remine={"every": 4})
    run.step(1, {0: HARD})
    run.step(2, {0: EASY})  # slots move on to ranks 3 and 4
    run.step(3, {})
    assert run.step(4, {})["queries_reranked"] == 1
    assert run.reranked == [4]
    for step in range(5, 5 + delay):
        assert run.texts(step) == ([3, 4] if step >= 3 + delay else [1, 2])
    assert run.texts(5 + delay) == [401, 402]


def test_a_negative_of_the_old_ranking_is_neither_start_nor_similarity_of_the_new_one() -> None:
    """Step 3 was planned before the ranking after step 2: its ranks exist in both rankings, its texts are old."""
    run = Run([9], 2, rule="v2", remine={"every": 2})
    run.step(1, {0: HARD})
    run.step(2, {0: HARD})
    metrics = run.step(3, {0: [0.2, 0.2]})
    assert np.isnan(metrics["negative_similarity_start"])
    assert metrics["negatives_replaced"] == 0
    assert np.isnan(run.start()).all()
    run.step(4, {})
    run.negatives.config = run.config.model_copy(update={"remine": run.config.remine.model_copy(update={"every": 0})})
    run.step(6, {0: [0.6, 0.45]})
    assert run.start() == [np.float32(0.6), np.float32(0.45)]


def test_what_was_seen_of_the_old_ranking_is_not_judged_after_the_new_one() -> None:
    """v1 judges at step 3 the similarities of steps 1 to 3, but after step 2 there is a new ranking."""
    run = Run([9], 2, rule="v1", interval=3, remine={"every": 2})
    run.step(1, {0: HARD})
    run.step(2, {0: EASY})
    assert run.step(3, {})["negatives_replaced"] == 0


def test_a_reloaded_run_goes_on_alike_at_every_step_of_a_new_ranking() -> None:
    """The run is reloaded after each step, also while the next step still draws from the old bank."""
    random = np.random.default_rng(3)
    seen = [{int(row): random.uniform(0.3, 0.8, 2).tolist() for row in random.permutation(4)[:3]} for _ in range(24)]
    settings = {"rule": "v2", "delay": 2, "remine": {"every": 5}}
    uninterrupted, reloaded = Run([6] * 4, 2, **settings), Run([6] * 4, 2, **settings)
    drawn: list[int] = []
    for step, similarity in enumerate(seen, start=1):
        np.testing.assert_equal(uninterrupted.step(step, similarity), reloaded.step(step, similarity))
        reloaded.reload()
        for row in range(4):
            assert uninterrupted.texts(step + 1, row) == reloaded.texts(step + 1, row)
            drawn += reloaded.texts(step + 1, row)
    assert {text % 1000 // 100 for text in drawn} == {
        0,
        5,
    }  # the hundreds digit of a text names its ranking: several were used
    assert reloaded.negatives.rankings() <= {0, 15, 20}


def test_exhausted_lists_ask_for_a_new_ranking_when_more_than_the_share_has_ended() -> None:
    run = Run([2] * 10, 2, rule="v2", exhausted="remine", remine={"ended": 0.2})
    run.step(1, dict.fromkeys(range(10), HARD))
    for step, row in enumerate((0, 1, 0, 1), start=2):  # the lists of two rows of ten end; each row is seen twice
        assert run.step(step, {row: EASY})["negatives_exhausted"] == 2
    assert not run.reranked
    assert run.step(6, {2: EASY})["queries_reranked"] == 10
    assert run.reranked == [6]
    assert run.bank.num_ended == 0


def test_the_number_of_ended_lists_survives_a_reload() -> None:
    run = Run([2] * 10, 2, rule="v2", exhausted="remine", remine={"ended": 0.2})
    run.step(1, dict.fromkeys(range(10), HARD))
    run.step(2, {0: EASY, 1: EASY})
    run.reload()
    assert run.bank.num_ended == 2
    run.step(3, {2: EASY})
    assert run.reranked == [3]


def test_nothing_is_ranked_after_the_last_step_that_a_ranking_could_reach() -> None:
    """A ranking after step 8 would be used from step 10 on, but there are 9 steps."""
    run = Run([9], 2, num_steps=9, rule="none", remine={"every": 4})
    for step in range(1, 10):
        run.step(step, {0: HARD})
    assert run.reranked == [4]


def test_without_a_rule_rankings_are_renewed_and_nothing_else_is_reported() -> None:
    run = Run([9, 9], 2, rule="none", remine={"every": 2})
    similarities = {"negative_similarity_watched": float(np.float32(0.1)), "negative_similarity_start": np.nan}
    only = {**dict.fromkeys(METRICS, 0.0), **similarities}
    np.testing.assert_equal(run.step(1, {0: EASY}), only)
    np.testing.assert_equal(run.step(2, {0: EASY}), {**only, "queries_reranked": 2.0})


def test_queries_with_too_few_candidates_for_a_first_window_are_counted() -> None:
    run = Run([9, 3, 2], 2, offset=1, rule="none", remine={"every": 1})
    assert run.step(1, {})["windows_unfilled"] == 1


def test_a_step_that_ranks_anew_judges_nothing_that_the_ranking_makes_void() -> None:
    run = Run([9], 2, rule="v2", remine={"every": 2})
    run.step(1, {0: HARD})
    metrics = run.step(2, {0: EASY})
    assert (metrics["negatives_replaced"], metrics["queries_reranked"]) == (0, 1)
    ahead = Run([9], 2, rule="v2", interval=1, check="upcoming", remine={"every": 2})
    ahead.step(2, {})
    assert not ahead.looked_ahead


def test_the_start_of_a_new_ranking_is_its_first_use_whatever_the_first_banks_was() -> None:
    """The scores of the new ranking were not computed with the weights at the start of the run."""
    run = Run([9], 2, score_RC=np.full((1, 9), 0.9), rule="v2", start="ranking", remine={"every": 2})
    run.step(1, {0: [0.89, 0.89]})
    assert run.start() == [np.float32(0.9)] * 2
    run.step(2, {})
    run.step(4, {})
    run.negatives.config = run.config.model_copy(update={"remine": run.config.remine.model_copy(update={"every": 0})})
    run.step(6, {0: HARD})
    assert run.start() == HARD


def test_negatives_that_the_loss_left_out_are_neither_judged_nor_a_start() -> None:
    """v1 takes the mean over the other negatives; v2 does not replace the negative."""
    run = Run([9], 2, rule="v2")
    run.step(1, {0: [np.nan, 0.5]})
    assert np.isnan(run.start()[0])
    assert run.step(2, {0: [np.nan, 0.1]})["negatives_replaced"] == 1
    assert run.ranks(4) == [0, 2]


def test_the_bank_forgets_rankings_that_no_later_step_draws_from() -> None:
    run = Run([9], 2, rule="none", remine={"every": 3})
    held = []
    for step in range(1, 9):
        run.step(step, {})
        held.append(sorted(run.negatives.rankings()))
    assert held == [[0], [0], [0, 3], [0, 3], [3], [3, 6], [3, 6], [6]]


def test_after_every_ranking_those_that_no_later_step_draws_from_may_leave_the_disk() -> None:
    """After step 4, step 5 draws from the bank ranked after step 2, and no step draws from the first bank."""
    run = Run([9], 2, rule="none", remine={"every": 2})
    for step in range(1, 7):
        run.step(step, {})
    assert run.kept == [{0, 2}, {2, 4}, {4, 6}]


def test_upcoming_queries_are_judged_by_what_a_look_ahead_finds_and_not_by_the_loss() -> None:
    run = Run([9, 9], 2, rule="v2", interval=2, check="upcoming")
    run.coming = {1: [0.6, 0.6]}
    run.step(1, {0: HARD})
    assert run.step(2, {0: EASY})["negatives_replaced"] == 0  # the first look ahead sets S0
    assert run.looked_ahead == [(4, 1_000)]
    assert np.isnan(run.start(0)).all()
    assert run.start(1) == [np.float32(0.6)] * 2
    run.coming = {1: [0.6, 0.45]}
    run.step(3, {1: EASY})
    assert run.step(4, {})["negatives_replaced"] == 1
    assert (run.ranks(5, 1), run.ranks(6, 1)) == ([0, 1], [0, 2])


def test_with_ranking_scores_a_first_look_replaces_before_a_query_is_used_at_all() -> None:
    scores = np.full((2, 9), 0.9)
    run = Run([9, 9], 2, score_RC=scores, rule="v2", interval=1, check="upcoming", start="ranking")
    run.coming = {1: [0.6, 0.89]}
    assert run.step(1, {})["negatives_replaced"] == 1
    assert run.ranks(3, 1) == [2, 1]
