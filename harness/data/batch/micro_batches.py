"""Splits the texts of one rank into micro-batches.

Takes texts and their lengths in tokens; returns micro-batches whose padded tokens stay within a budget. The split
minimises padding plus a fixed cost per micro-batch.
"""

from __future__ import annotations

import numpy as np

from harness.data.table.tokenisation import PAD_TO_MULTIPLE_OF

# The cost of a micro-batch that does not depend on its size (mostly kernel launches), as a fraction of the budget. The
# cost is relative to the budget because the budget is chosen so that a full micro-batch keeps the device busy. On a
# CPU, where the budget is 1,024 tokens, the measured cost was 25 to 45 tokens (one thread, all-MiniLM-L6-v2, both
# forward passes and the backward pass).
_FIXED_SHARE_OF_BUDGET = 1 / 32


def fixed_cost(micro_batch_tokens: int) -> float:
    """The cost of a micro-batch that does not depend on its size, in padded tokens."""
    return micro_batch_tokens * _FIXED_SHARE_OF_BUDGET


def padded_length(length: np.ndarray | int) -> np.ndarray:
    """The width, in tokens, of a micro-batch whose longest text has this length."""
    return -(-np.asarray(length) // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF


def padded_tokens(text_R: np.ndarray, length_T: np.ndarray) -> int:
    """Number of tokens, padding included, of one micro-batch with the texts `text_R`."""
    return len(text_R) * int(padded_length(length_T[text_R]).max(initial=0))


def longest_first(text_R: np.ndarray, length_T: np.ndarray) -> np.ndarray:
    """The texts sorted by length in descending order; texts of equal length keep their order."""
    return text_R[np.argsort(-length_T[text_R], kind="stable")]


def equal_value_ranges(value_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(start, stop) of each range of consecutive equal values."""
    start_V = np.flatnonzero(np.diff(value_R, prepend=value_R[:1] - 1))
    return start_V, np.append(start_V[1:], len(value_R))


def split_into_micro_batches(text_R: np.ndarray, length_T: np.ndarray, micro_batch_tokens: int) -> list[np.ndarray]:
    """Split the texts `text_R`, longest first, so that Σ (padded tokens + `fixed_cost`) over micro-batches is minimal.

    No micro-batch has more than `micro_batch_tokens` padded tokens; a longer text is alone in its micro-batch.
    """
    if not len(text_R):
        return []
    sorted_R = longest_first(text_R, length_T)
    return np.split(sorted_R, _cheapest_starts(padded_length(length_T[sorted_R]), micro_batch_tokens)[1:])


def _cheapest_starts(padded_R: np.ndarray, micro_batch_tokens: int) -> list[int]:
    """The start of each micro-batch in the cheapest split: exact, by dynamic programming.

    padded_R: padded lengths of the texts, in descending order.

    cost[i] is the minimal cost of the first i texts. Their last micro-batch begins at some text j of length l and costs
    (i - j) · l. Among the texts j of equal length, the earliest one that the budget allows is best, because a further
    text costs at least l in any micro-batch. So each of the V distinct lengths has one candidate j; time O(R · V).
    """
    start_V, stop_V = equal_value_ranges(padded_R)
    length_V = padded_R[start_V]
    most_V = np.maximum(1, micro_batch_tokens // length_V)  # texts of a micro-batch
    fixed = fixed_cost(micro_batch_tokens)
    cost, begin = np.full(len(padded_R) + 1, np.inf), np.zeros(len(padded_R) + 1, dtype=np.int64)
    cost[0] = 0.0
    for v, (start, stop, length, most) in enumerate(zip(start_V, stop_V, length_V, most_V, strict=True)):
        if v:  # the last micro-batch begins at a longer text
            i = np.arange(start + 1, stop + 1)
            j_VI = np.maximum(start_V[:v, None], i - most_V[:v, None])
            # Where j lies beyond the texts of its length, this overestimates the cost, so that j is never chosen.
            cost_VI = cost[j_VI] + (i - j_VI) * length_V[:v, None] + fixed
            best_I = cost_VI.argmin(axis=0)
            cost[i], begin[i] = cost_VI[best_I, i - start - 1], j_VI[best_I, i - start - 1]
        # The last micro-batch begins at a text of this length; the costs of all i up to `first` are final.
        for first in range(start, stop, most):
            i = np.arange(first + 1, min(first + most, stop) + 1)
            j = np.maximum(start, i - most)
            cost_I = cost[j] + (i - j) * length + fixed
            is_better_I = cost_I < cost[i]
            cost[i[is_better_I]], begin[i[is_better_I]] = cost_I[is_better_I], j[is_better_I]
    starts = [int(begin[-1])]
    while starts[-1]:
        starts.append(int(begin[starts[-1]]))
    return starts[::-1]
