"""Dealing texts to ranks and cutting micro-batches: a scheduling decision that loses no text and wastes little."""

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch.deal import deal
from harness.data.batch.micro_batches import fixed_cost, padded_length, padded_tokens, split_into_micro_batches
from harness.data.batch.schedule import padded_per_rank, schedule

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=200).map(np.array)
few_lengths = st.lists(st.integers(1, 100), min_size=1, max_size=25).map(np.array)
budgets = st.integers(1, 4096)


@given(lengths, st.integers(1, 9), budgets)
def test_every_text_is_encoded_exactly_once(length_T, world, budget):
    made = deal(length_T, world, budget)
    encoded = np.concatenate([rows for batches in made.micro_batches for rows in batches])
    assert sorted(encoded) == list(range(len(length_T)))


@given(lengths, st.integers(1, 9), budgets)
def test_all_ranks_have_the_same_number_of_micro_batches(length_T, world, budget):
    made = deal(length_T, world, budget)
    assert {len(batches) for batches in made.micro_batches} == {made.num_micro_batches}


@given(lengths, st.integers(1, 9), budgets)
def test_no_micro_batch_exceeds_its_budget_unless_it_is_a_single_text(length_T, world, budget):
    made = deal(length_T, world, budget)
    for rows in (rows for batches in made.micro_batches for rows in batches):
        assert len(rows) <= 1 or len(rows) * padded_length(length_T[rows].max()) <= budget


def test_a_text_longer_than_the_budget_is_a_micro_batch_of_its_own():
    made = schedule(np.array([100, 3, 3]), np.zeros(3, int), 1, 16)
    assert [rows.tolist() for rows in made.micro_batches[0]] == [[0], [1, 2]]


@given(lengths, st.integers(1, 9), budgets)
def test_slots_follow_the_order_in_which_a_rank_encodes_its_texts(length_T, world, budget):
    """The gathered table is the ranks' rows one after another; a wrong slot would swap embeddings."""
    made = deal(length_T, world, budget)
    for rank, batches in enumerate(made.micro_batches):
        mine = np.concatenate(batches)
        assert made.slot_T[mine].tolist() == [rank * made.rows_per_rank + i for i in range(len(mine))]


@given(few_lengths, st.integers(1, 2000))
def test_no_other_cut_costs_less(length_T, budget):
    """Against every way to cut the sorted texts; another order only puts a shorter text beside longer ones."""
    padded = [int(padded_length(length)) for length in sorted(length_T, reverse=True)]
    least = [0.0]
    for stop in range(1, len(padded) + 1):
        last = [(start, (stop - start) * padded[start]) for start in range(stop)]
        allowed = [(start, tokens) for start, tokens in last if tokens <= budget or stop - start == 1]
        least.append(min(least[start] + tokens + fixed_cost(budget) for start, tokens in allowed))
    batches = split_into_micro_batches(np.arange(len(length_T)), length_T, budget)
    assert sum(padded_tokens(rows, length_T) + fixed_cost(budget) for rows in batches) == pytest.approx(least[-1])


@given(st.lists(st.tuples(st.integers(1, 512), st.integers(0, 8)), min_size=1, max_size=99), budgets)
def test_any_deal_can_be_scheduled(dealt, budget):
    length_T, rank_T = np.array(dealt).T
    made = schedule(length_T, rank_T, 9, budget)
    for rank, batches in enumerate(made.micro_batches):
        assert sorted(np.concatenate(batches)) == np.flatnonzero(rank_T == rank).tolist()


def test_texts_that_fit_stay_in_one_micro_batch_whose_graph_is_kept():
    """One of 4 x 40 tokens: 3 passes over 160 and the fixed 32. Cut in two, 4 passes over 40 + 3 x 32 and twice 32."""
    length_T = np.array([40, 32, 32, 32])
    assert len(split_into_micro_batches(np.arange(4), length_T, 64)) > 1
    assert schedule(length_T, np.zeros(4, int), 1, 1024).num_micro_batches == 1


def test_texts_that_fit_are_cut_where_the_padding_costs_more_than_the_graph_saves():
    length_T = np.array([512] + [8] * 100)
    made = schedule(length_T, np.zeros(101, int), 1, 65_536)
    assert [len(rows) for rows in made.micro_batches[0]] == [1, 100]


@given(lengths, st.integers(1, 40), budgets)
def test_no_rank_is_without_a_text_if_there_are_enough(length_T, world, budget):
    made = deal(length_T, world, budget)
    texts = [sum(map(len, batches)) for batches in made.micro_batches]
    assert sum(count > 0 for count in texts) == min(world, len(length_T))


@given(st.integers(1, 100), st.integers(1, 3000), st.integers(1, 9), budgets)
def test_texts_of_one_length_are_dealt_by_number(length, count, world, budget):
    assert deal(np.full(count, length), world, budget).rows_per_rank == ceil(count / world)


def mixture(name: str, world: int, seed: int) -> np.ndarray:
    """Token lengths of the texts of a step: 40 to 60 a rank."""
    random = np.random.default_rng(seed)
    ordinary = random.lognormal(3.5, 0.8, 50 * world)
    if name == "ordinary":
        return np.clip(ordinary, 4, 512).astype(int)
    if name == "documents and sentences":  # the paper's 4 queries with 7 negatives and 32 pairs, halved
        documents, sentences = random.normal(300, 60, 18 * world), random.normal(16, 5, 34 * world)
        return np.clip(np.concatenate([documents, sentences]), 4, 512).astype(int)
    one = random.normal(14, 4, 40 * world)  # one document among labels
    return np.clip(np.append(one, 512), 4, 512).astype(int)


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
    """512 tokens, where a rank has about 850: it takes that many fewer of the others, and does not pad them to 512."""
    length_T = mixture("one document", world, 0)
    padded_W = padded_per_rank(deal(length_T, world, 1024), length_T)
    assert padded_W.max() <= 1.05 * padded_W.mean()


def test_a_large_budget_does_not_pad_texts_to_the_longest_of_the_step():
    """Blocks are of nearly one length: over 64 ranks, little is padded beyond the next multiple of 8."""
    length_T = mixture("documents and sentences", 64, 0)
    padded_W = padded_per_rank(deal(length_T, 64, 65_536), length_T)
    assert padded_W.sum() <= 1.1 * padded_length(length_T).sum()
