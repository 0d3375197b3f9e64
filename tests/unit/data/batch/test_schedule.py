"""From the rank of each text to the micro-batches of all ranks."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch.micro_batches import split_into_micro_batches
from harness.data.batch.schedule import schedule

budgets = st.integers(1, 4096)


def test_a_text_longer_than_the_budget_is_a_micro_batch_of_its_own():
    scheduled = schedule(np.array([100, 3, 3]), np.zeros(3, int), 1, 16)
    assert [rows.tolist() for rows in scheduled.micro_batches[0]] == [[0], [1, 2]]


@given(st.lists(st.tuples(st.integers(1, 512), st.integers(0, 8)), min_size=1, max_size=99), budgets)
def test_any_deal_can_be_scheduled(dealt, budget):
    length_T, rank_T = np.array(dealt).T
    scheduled = schedule(length_T, rank_T, 9, budget)
    for rank, batches in enumerate(scheduled.micro_batches):
        assert sorted(np.concatenate(batches)) == np.flatnonzero(rank_T == rank).tolist()


def test_texts_that_fit_stay_in_one_micro_batch_whose_graph_is_kept():
    """One micro-batch of 4 x 40 tokens: 3 passes over 160 + 32 fixed. Two: 4 passes over 40 + 3 x 32 and 2 x 32."""
    length_T = np.array([40, 32, 32, 32])
    assert len(split_into_micro_batches(np.arange(4), length_T, 64)) > 1
    assert schedule(length_T, np.zeros(4, int), 1, 1024).num_micro_batches == 1


def test_texts_that_fit_are_cut_where_the_padding_costs_more_than_the_graph_saves():
    length_T = np.array([512] + [8] * 100)
    scheduled = schedule(length_T, np.zeros(101, int), 1, 65_536)
    assert [len(rows) for rows in scheduled.micro_batches[0]] == [1, 100]
