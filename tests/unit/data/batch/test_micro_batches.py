"""Micro-batches of one rank have the lowest possible cost within the budget."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch.micro_batches import fixed_cost, padded_length, padded_tokens, split_into_micro_batches

few_lengths = st.lists(st.integers(1, 100), min_size=1, max_size=25).map(np.array)


@given(few_lengths, st.integers(1, 2000))
def test_no_other_cut_costs_less(length_T, budget):
    """Compared with every way to cut the sorted texts. Another order cannot be cheaper: it only adds padding."""
    padded = [int(padded_length(length)) for length in sorted(length_T, reverse=True)]
    least = [0.0]
    for stop in range(1, len(padded) + 1):
        last = [(start, (stop - start) * padded[start]) for start in range(stop)]
        allowed = [(start, tokens) for start, tokens in last if tokens <= budget or stop - start == 1]
        least.append(min(least[start] + tokens + fixed_cost(budget) for start, tokens in allowed))
    batches = split_into_micro_batches(np.arange(len(length_T)), length_T, budget)
    assert sum(padded_tokens(rows, length_T) + fixed_cost(budget) for rows in batches) == pytest.approx(least[-1])
