"""`mining.successor: score`: a candidate replaces an easy negative only if its score says that it is harder."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.data.bank.negatives import NegativeBank
from harness.mining.judging.slots import Judgement
from harness.mining.judging.successors import harder_ranks
from tests.dynamic_run import RankedLists, Run, replaced

SCORES = np.array([[0.9, 0.8, 0.6, 0.5, 0.3, 0.2]])
SETTINGS = {"rule": "v2", "floor": 0.45, "successor": "score"}


def test_an_easy_negative_stays_if_no_candidate_is_harder() -> None:
    """The default takes the next rank, which is easier than what it replaces."""
    by_rank = Run([6], 1, offset=3, score_RC=SCORES, rule="v2", floor=0.45)
    assert replaced(by_rank.step(1, {0: [0.4]})) == (1, 0)
    by_score = Run([6], 1, offset=3, score_RC=SCORES, **SETTINGS)
    assert replaced(by_score.step(1, {0: [0.4]})) == (0, 1)
    assert (by_rank.ranks(9), by_score.ranks(9)) == ([4], [3])
    assert by_score.bank.num_ended == 1  # `exhausted: remine` may rank anew


def test_a_harder_candidate_replaces_it_and_is_counted() -> None:
    run = Run([6], 1, offset=2, score_RC=SCORES, **SETTINGS)
    metrics = run.step(1, {0: [0.4]})
    assert (metrics["negatives_replaced"], metrics["negatives_by_score"]) == (1, 1)
    assert run.ranks(9) == [3]


def test_the_easiest_negative_gets_the_hardest_candidate() -> None:
    """Candidates 0.6 and 0.5: slot 2 (0.1) gets the first, slot 0 (0.44) the second; slot 1 is not easy."""
    run = Run([6], 3, score_RC=np.array([[0.9, 0.9, 0.9, 0.6, 0.5, 0.4]]), **SETTINGS)
    assert replaced(run.step(1, {0: [0.44, 0.9, 0.1]})) == (2, 0)
    assert run.ranks(3) == [4, 1, 3]
    assert replaced(run.step(3, {0: [0.2, 0.9, 0.9]})) == (1, 0)
    assert run.ranks(5) == [5, 1, 3]  # goes on after both


def test_only_as_many_are_replaced_as_have_a_harder_candidate() -> None:
    run = Run([6], 2, score_RC=np.array([[0.9, 0.9, 0.42, 0.3, 0.2, 0.1]]), **SETTINGS)
    assert replaced(run.step(1, {0: [0.4, 0.41]})) == (1, 1)
    assert run.ranks(3) == [2, 1]
    assert replaced(run.step(3, {0: [0.9, 0.35]})) == (0, 1)  # the next one, 0.3, is no harder
    assert run.ranks(5) == [2, 1]


def test_a_negative_that_is_too_hard_is_replaced_by_what_comes_next() -> None:
    """What replaces a likely positive need not be harder than it."""
    run = Run([6], 2, score_RC=SCORES, rule="relative", uses_above=1, successor="score")
    metrics = run.step(1, {0: [0.95, 0.4]}, {0: [(1.0, True), (0.5, False)]})
    assert (metrics["negatives_replaced"], metrics["negatives_too_hard"]) == (2, 1)
    assert run.ranks(3) == [2, 3]


@pytest.mark.parametrize(("fresh_steps", "expected"), [(1, 1), (2, 0)])
def test_scores_that_are_too_old_are_not_used(fresh_steps: int, expected: int) -> None:
    run = Run([6, 6], 1, offset=3, score_RC=np.repeat(SCORES, 2, 0), fresh_steps=fresh_steps, **SETTINGS)
    run.step(1, {1: [0.9]})
    metrics = run.step(2, {0: [0.4]})
    assert (metrics["negatives_replaced"], metrics["negatives_by_score"]) == (expected, 0)


def test_a_new_ranking_has_fresh_scores() -> None:
    """It is used from step 6 on, when the first bank's scores are too old."""
    run = Run([6], 1, offset=3, score_RC=SCORES, fresh_steps=3, remine={"every": 4}, **SETTINGS)
    for step in range(1, 6):
        run.step(step, {})
    assert replaced(run.step(6, {0: [0.4]})) == (0, 1)
    by_rank = Run([6], 1, offset=3, score_RC=SCORES, fresh_steps=3, **SETTINGS)
    assert replaced(by_rank.step(6, {0: [0.4]})) == (1, 0)


def test_the_choice_equals_a_search_over_all_assignments() -> None:
    """Of all ways to deal a prefix of the candidates to the easy slots, none leaves a higher sum of similarities."""
    random = np.random.default_rng(0)
    for _ in range(200):
        size = 4
        score = np.sort(random.random(2 * size))[::-1].copy()
        bank = NegativeBank(1, RankedLists([2 * size], 0, score[None]), size)
        easy_BM = random.random((1, size)) < 0.6
        similarity_BM = random.random((1, size))
        rank_BM = bank.next_ranks(np.array([0]), easy_BM, wrap=False)
        none_BM = np.zeros_like(easy_BM)
        found_BM = harder_ranks(bank, np.array([0]), rank_BM, similarity_BM, Judgement(easy_BM, none_BM))
        after = np.where(found_BM >= 0, score[np.maximum(found_BM, 0)], similarity_BM).sum()
        slots = np.flatnonzero(easy_BM[0]).tolist()
        best = max(
            sum(score[size + k] - similarity_BM[0, slot] for k, slot in enumerate(chosen))
            for count in range(len(slots) + 1)
            for chosen in itertools.permutations(slots, count)
        )
        assert after == pytest.approx(similarity_BM.sum() + best)


def test_a_negative_that_is_not_easy_stays_where_another_was_left_out_of_the_loss() -> None:
    """The easy one has no similarity in its last use, and sorted behind the one that stays, which was replaced.

    Slot 0 is easy at step 1, and stays without a harder candidate; at step 3 a margin leaves it out of the loss.
    """
    run = Run([6], 2, score_RC=np.array([[0.9, 0.9, 0.3, 0.2, 0.1, 0.0]]), rule="relative", successor="score")
    assert replaced(run.step(1, {0: [0.4, 0.6]}, {0: [(0.5, False), (1.0, False)]})) == (0, 1)
    run.step(3, {0: [np.nan, 0.1]}, {0: [(np.nan, True), (1.0, False)]})
    assert run.ranks(5) == [2, 1]
