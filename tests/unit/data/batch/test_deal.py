"""Dealing texts to ranks loses no text and adds little padding."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch.deal import deal
from harness.data.batch.micro_batches import padded_length
from harness.data.batch.schedule import padded_per_rank

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=200).map(np.array)
budgets = st.integers(1, 4096)


@given(lengths, st.integers(1, 9), budgets)
def test_every_text_is_encoded_exactly_once(length_T, world, budget):
    dealt = deal(length_T, world, budget)
    encoded = np.concatenate([rows for batches in dealt.micro_batches for rows in batches])
    assert sorted(encoded) == list(range(len(length_T)))


@given(lengths, st.integers(1, 9), budgets)
def test_all_ranks_have_the_same_number_of_micro_batches(length_T, world, budget):
    dealt = deal(length_T, world, budget)
    assert {len(batches) for batches in dealt.micro_batches} == {dealt.num_micro_batches}


@given(lengths, st.integers(1, 9), budgets)
def test_no_micro_batch_exceeds_its_budget_unless_it_is_a_single_text(length_T, world, budget):
    dealt = deal(length_T, world, budget)
    for rows in (rows for batches in dealt.micro_batches for rows in batches):
        assert len(rows) <= 1 or len(rows) * padded_length(length_T[rows].max()) <= budget


@given(lengths, st.integers(1, 9), budgets)
def test_slots_follow_the_order_in_which_a_rank_encodes_its_texts(length_T, world, budget):
    """The gathered table is the concatenation of the ranks' rows; a wrong slot would swap embeddings."""
    dealt = deal(length_T, world, budget)
    for rank, batches in enumerate(dealt.micro_batches):
        mine = np.concatenate(batches)
        assert dealt.slot_T[mine].tolist() == [rank * dealt.rows_per_rank + i for i in range(len(mine))]


@given(lengths, st.integers(1, 40), budgets)
def test_no_rank_is_without_a_text_if_there_are_enough(length_T, world, budget):
    dealt = deal(length_T, world, budget)
    texts = [sum(map(len, batches)) for batches in dealt.micro_batches]
    assert sum(count > 0 for count in texts) == min(world, len(length_T))


@given(st.integers(1, 100), st.integers(1, 3000), st.integers(1, 9), budgets)
def test_texts_of_one_length_are_dealt_by_number(length, count, world, budget):
    assert deal(np.full(count, length), world, budget).rows_per_rank == ceil(count / world)


def mixture(name: str, world: int, seed: int) -> np.ndarray:
    """Token lengths of the texts of a step, 40 to 60 texts per rank."""
    random = np.random.default_rng(seed)
    ordinary = random.lognormal(3.5, 0.8, 50 * world)
    if name == "ordinary":
        return np.clip(ordinary, 4, 512).astype(int)
    if name == "documents and sentences":  # half of the paper's step: 4 queries with 7 negatives and 32 pairs
        documents, sentences = random.normal(300, 60, 18 * world), random.normal(16, 5, 34 * world)
        return np.clip(np.concatenate([documents, sentences]), 4, 512).astype(int)
    labels = random.normal(14, 4, 40 * world)  # one document, all other texts are short labels
    return np.clip(np.append(labels, 512), 4, 512).astype(int)


@pytest.mark.parametrize("budget", [512, 1024, 16_384])
@pytest.mark.parametrize("world", [2, 8, 64])
@pytest.mark.parametrize("name", ["ordinary", "documents and sentences"])
def test_the_largest_rank_is_at_most_5_percent_above_the_mean(name, world, budget):
    """The project's goal, in padded tokens, for lengths like those of real tasks."""
    for seed in range(3):
        length_T = mixture(name, world, seed)
        padded_W = padded_per_rank(deal(length_T, world, budget), length_T)
        assert padded_W.max() <= 1.05 * padded_W.mean()


@pytest.mark.parametrize("world", [2, 8, 64])
def test_the_rank_of_a_text_much_longer_than_all_others_is_no_exception(world):
    """A text of 512 tokens; a rank has about 850. Its rank gets fewer other texts, and does not pad them to 512."""
    length_T = mixture("one document", world, 0)
    padded_W = padded_per_rank(deal(length_T, world, 1024), length_T)
    assert padded_W.max() <= 1.05 * padded_W.mean()


def test_a_large_budget_does_not_pad_texts_to_the_longest_of_the_step():
    """Micro-batches hold texts of similar length: with 64 ranks little is padded beyond the next multiple of 8."""
    length_T = mixture("documents and sentences", 64, 0)
    padded_W = padded_per_rank(deal(length_T, 64, 65_536), length_T)
    assert padded_W.sum() <= 1.1 * padded_length(length_T).sum()
