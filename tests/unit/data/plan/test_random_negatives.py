"""Negatives that are drawn from a query's candidates anew in every epoch (`negatives.draw: random`)."""

import numpy as np
import pytest

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from harness.data.config import NegativesConfig
from harness.data.plan.draw import draw_examples
from harness.data.plan.task import Task
from tests.tiny import text

DRAWN = NegativesConfig(per_query=3, draw="random")
NONE = -9  # no place; the row's last positive would be -1
SIZES = (9, 9, 2, 0)  # negatives of each row


def rows():
    return [
        {"query": text(i), "pos": [text(100 + i), text(200 + i)], "neg": [text(1000 + 20 * i + k) for k in range(size)]}
        for i, size in enumerate(SIZES)
    ]


def drawn(task: Task, num_epochs: int, seed: int = 0) -> list[list[list[int]]]:
    """Epoch → row → the places in the row's `neg` that are in use; NONE where there is none."""
    found = []
    for epoch in range(num_epochs):
        (examples,) = draw_examples([task], seed=seed, step=epoch + 1, balance="cbb")
        order = np.argsort(examples.row_B)
        row_B, negative_BM = examples.row_B[order], examples.negative_BM[order]
        first_B = task.data.row_start_R1[row_B] + 1 + task.data.num_positives_R[row_B]
        found.append(np.where(negative_BM >= 0, negative_BM - first_B[:, None], NONE).tolist())
    return found


def test_every_epoch_draws_other_distinct_negatives_of_the_row(open_) -> None:
    task = open_("retrieval", rows(), negatives=DRAWN)
    epochs = drawn(task, 20)
    for row in (0, 1):
        for places in (epoch[row] for epoch in epochs):
            assert len(set(places)) == 3
            assert all(0 <= place < SIZES[row] for place in places)
        assert len({frozenset(epoch[row]) for epoch in epochs}) > 10
    assert [epoch[0] for epoch in epochs] != [epoch[1] for epoch in epochs]


def test_every_candidate_is_drawn_equally_often(open_) -> None:
    """3 of 9 in 900 epochs: 300 times each, with a standard deviation of 14."""
    epochs = drawn(open_("retrieval", rows(), negatives=DRAWN), 900)
    count_K = np.bincount(np.array([epoch[0] for epoch in epochs]).reshape(-1), minlength=9)
    assert abs(count_K - 300).max() < 5 * 14


def test_a_short_list_is_used_whole_and_no_positive_fills_it_up(open_) -> None:
    """A rank of -1 would be the text before the first negative, the row's last positive."""
    for epoch in drawn(open_("retrieval", rows(), negatives=DRAWN), 20):
        assert sorted(epoch[2]) == [NONE, 0, 1]
        assert epoch[3] == [NONE, NONE, NONE]


def test_the_draw_depends_on_the_seed_and_the_step_only(open_) -> None:
    """A continued run, and every rank, plans the same step from nothing but its number."""
    task = open_("retrieval", rows(), negatives=DRAWN)
    assert drawn(task, 4) == drawn(task, 4)
    assert drawn(task, 4) != drawn(task, 4, seed=1)


def test_candidates_before_the_offset_are_passed_over(open_) -> None:
    task = open_("retrieval", rows(), negatives=DRAWN)
    bank = NegativeBank(task.data.num_rows, ListedCandidates(task.data, offset=5), 3)
    task = Task(task.config, task.data, BankHistory(bank), task.query_max_length, task.document_max_length)
    places = {place for epoch in drawn(task, 50) for place in epoch[0]}
    assert places == {5, 6, 7, 8}


def test_a_new_ranking_is_drawn_from_the_step_on_that_first_uses_it(open_) -> None:
    task = open_("retrieval", rows(), negatives=DRAWN)
    before = drawn(task, 6)
    assert task.bank is not None
    task.bank.add(
        NegativeBank(task.data.num_rows, ListedCandidates(task.data, offset=6), 3), first_step=4, ranked_after=2
    )
    after = drawn(task, 6)
    assert after[:3] == before[:3]
    assert all(sorted(epoch[0]) == [6, 7, 8] for epoch in after[3:])


def test_the_default_keeps_the_first_ones(open_) -> None:
    epochs = drawn(open_("retrieval", rows(), negatives=NegativesConfig(per_query=3)), 3)
    assert all(epoch[0] == [0, 1, 2] for epoch in epochs)


def test_only_retrieval_has_lists_to_draw_from(open_) -> None:
    with pytest.raises(ValueError, match="draw: random for a classification task, expected them for retrieval only"):
        open_("classification", [{"text": text(i), "label": i % 2} for i in range(8)], negatives=DRAWN)
