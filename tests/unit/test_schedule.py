"""Dealing texts to ranks and cutting micro-batches: a scheduling decision that loses no text and no balance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.schedule import deal, padded_length, schedule

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=200).map(np.array)


@given(lengths, st.integers(1, 9), st.integers(1, 4096))
def test_every_text_is_encoded_exactly_once(length_T, world, budget):
    made = schedule(length_T, deal(length_T, world), world, budget)
    encoded = np.concatenate([rows for batches in made.micro_batches for rows in batches])
    assert sorted(encoded) == list(range(len(length_T)))


@given(lengths, st.integers(1, 9), st.integers(1, 4096))
def test_all_ranks_have_the_same_number_of_micro_batches(length_T, world, budget):
    made = schedule(length_T, deal(length_T, world), world, budget)
    assert {len(batches) for batches in made.micro_batches} == {made.num_micro_batches}


@given(lengths, st.integers(1, 9), st.integers(512, 4096))
def test_no_micro_batch_exceeds_its_budget_of_padded_tokens(length_T, world, budget):
    made = schedule(length_T, deal(length_T, world), world, budget)
    for batches in made.micro_batches:
        for rows in batches:
            if len(rows):
                assert len(rows) * padded_length(int(length_T[rows].max())) <= budget


def test_a_text_longer_than_the_budget_is_a_micro_batch_of_its_own():
    made = schedule(np.array([100, 3, 3]), np.zeros(3, int), 1, 16)
    assert [rows.tolist() for rows in made.micro_batches[0]] == [[0], [1, 2]]


@given(lengths, st.integers(1, 9))
def test_ranks_differ_in_tokens_by_no_more_than_the_longest_text(length_T, world):
    tokens = np.bincount(deal(length_T, world), weights=length_T, minlength=world)
    assert tokens.max() - tokens.min() <= length_T.max()


@given(lengths, st.integers(1, 9), st.integers(1, 4096))
def test_slots_follow_the_order_in_which_a_rank_encodes_its_texts(length_T, world, budget):
    """The gathered table is the ranks' rows one after another; a wrong slot would swap embeddings."""
    made = schedule(length_T, deal(length_T, world), world, budget)
    for rank, batches in enumerate(made.micro_batches):
        mine = np.concatenate(batches)
        assert made.slot_T[mine].tolist() == [rank * made.rows_per_rank + i for i in range(len(mine))]


@pytest.mark.parametrize("world", [2, 8, 64])
def test_ordinary_text_lengths_are_dealt_evenly(world):
    """Token counts of a real mixture (log-normal) stay within 2 % of the mean at 64 texts a rank."""
    length_T = np.clip(np.random.default_rng(0).lognormal(3.5, 0.8, 64 * world), 4, 128).astype(int)
    tokens = np.bincount(deal(length_T, world), weights=length_T, minlength=world)
    assert tokens.max() <= 1.02 * tokens.mean()
