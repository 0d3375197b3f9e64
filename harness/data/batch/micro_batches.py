"""Splits the texts of one rank into micro-batches.

Takes texts and their lengths in tokens; returns micro-batches whose padded tokens stay within a budget. The split
minimises padding plus a fixed cost per micro-batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.data.table.tokenisation import PAD_TO_MULTIPLE_OF

# The cost of a micro-batch that does not depend on its size (mostly kernel launches), as a fraction of the budget. The
# cost is relative to the budget because the budget is chosen so that a full micro-batch keeps the device busy. On a
# CPU, with a budget of 1,024 tokens, the measured cost was 25 to 45 tokens (one thread, all-MiniLM-L6-v2, both forward
# passes and the backward pass).
_FIXED_SHARE_OF_BUDGET = 1 / 32
KnownSplits = dict[bytes, list[int]]  # the start of each micro-batch, by the padded lengths of the sorted texts
_TEXTS_AT_ONCE = 1 << 13  # for which the candidates of all lengths are compared at a time, so that memory stays small


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


def split_into_micro_batches(
    text_R: np.ndarray, length_T: np.ndarray, micro_batch_tokens: int, known: KnownSplits | None = None
) -> list[np.ndarray]:
    """Split the texts `text_R`, longest first, so that Σ (padded tokens + `fixed_cost`) over micro-batches is minimal.

    No micro-batch has more than `micro_batch_tokens` padded tokens; a longer text is alone in its micro-batch. known:
    splits of other ranks with this budget, to which this one is added. Of 1,024 ranks most have equal padded lengths.
    """
    if not len(text_R):
        return []
    sorted_R = longest_first(text_R, length_T)
    padded_R = padded_length(length_T[sorted_R])
    known = {} if known is None else known
    starts = known.get(padded_R.tobytes())
    if starts is None:
        starts = known[padded_R.tobytes()] = _cheapest_starts(padded_R, micro_batch_tokens)
    return np.split(sorted_R, starts[1:])


def _cheapest_starts(padded_R: np.ndarray, micro_batch_tokens: int) -> list[int]:
    """The start of each micro-batch in the cheapest split: exact, by dynamic programming.

    padded_R: padded lengths of the texts, in descending order.

    cost[i] is the minimal cost of the first i texts. Their last micro-batch begins at some text j of length l and costs
    (i - j) · l. Among the texts j of equal length, the earliest one that the budget allows is best, because a further
    text costs at least l in any micro-batch. So each of the V distinct lengths has at most one candidate j; time
    O(R · V) at most, and O(R) where a micro-batch holds texts of few lengths.
    """
    start_V, stop_V = equal_value_ranges(padded_R)
    lengths = _Lengths(start_V, stop_V, padded_R[start_V], np.maximum(1, micro_batch_tokens // padded_R[start_V]))
    fixed = fixed_cost(micro_batch_tokens)
    cost, begin = np.full(len(padded_R) + 1, np.inf), np.zeros(len(padded_R) + 1, dtype=np.int64)
    cost[0] = 0.0
    for v in range(len(start_V)):
        _begin_at_longer_text(cost, begin, lengths, v, fixed)
        _begin_at_text_of_this_length(cost, begin, lengths, v, fixed)
    starts = [int(begin[-1])]
    while starts[-1]:
        starts.append(int(begin[starts[-1]]))
    return starts[::-1]


class _Lengths(NamedTuple):
    """The distinct padded lengths, longest first: the range of their texts, and how many the budget allows together."""

    start_V: np.ndarray
    stop_V: np.ndarray
    length_V: np.ndarray
    most_V: np.ndarray


def _begin_at_longer_text(cost: np.ndarray, begin: np.ndarray, lengths: _Lengths, v: int, fixed: float) -> None:
    """Set cost and begin after each text of length v, for a last micro-batch that begins at a longer text.

    A length is left out where the budget does not reach back to its texts: its candidate j would be a shorter text,
    whose own length gives a lower cost.
    """
    start, stop = int(lengths.start_V[v]), int(lengths.stop_V[v])
    reach_V = lengths.stop_V[:v] + lengths.most_V[:v]  # i must be below it
    reaching_V = np.flatnonzero(reach_V > start + 1)
    if not len(reaching_V):
        return
    first_V1, length_V1, most_V1 = (
        of_length[reaching_V, None] for of_length in (lengths.start_V, lengths.length_V, lengths.most_V)
    )
    for low in range(start + 1, min(stop + 1, int(reach_V.max())), _TEXTS_AT_ONCE):
        i = np.arange(low, min(low + _TEXTS_AT_ONCE, stop + 1))
        j_VI = np.maximum(first_V1, i - most_V1)
        cost_VI = cost[j_VI] + (i - j_VI) * length_V1 + fixed
        best_I = cost_VI.argmin(axis=0)
        cost[i], begin[i] = cost_VI[best_I, i - low], j_VI[best_I, i - low]


def _begin_at_text_of_this_length(cost: np.ndarray, begin: np.ndarray, lengths: _Lengths, v: int, fixed: float) -> None:
    """Lower cost and begin after each text of length v, where a last micro-batch of texts of this length is cheaper.

    It begins `most` texts before, or at the first text of this length. With c_k the cost `most` · k texts further on
    and s the cost of a full micro-batch, c_k = min(c_k, c_(k-1) + s) over all k is a running minimum of c_k - k · s.
    All costs are multiples of 1/32 far below 2^53, so this is exact in any order.
    """
    start, stop, length = int(lengths.start_V[v]), int(lengths.stop_V[v]), int(lengths.length_V[v])
    most = min(int(lengths.most_V[v]), stop - start)
    cost_I, begin_I = cost[start + 1 : stop + 1], begin[start + 1 : stop + 1]
    from_start_I = cost[start] + np.arange(1, most + 1) * length + fixed
    is_better_I = from_start_I < cost_I[:most]
    cost_I[:most][is_better_I], begin_I[:most][is_better_I] = from_start_I[is_better_I], start
    num_rounds = -(-(stop - start) // most)
    round_cost_K1 = np.arange(num_rounds)[:, None] * (most * length + fixed)
    cost_KI = np.full((num_rounds, most), np.inf)
    cost_KI.ravel()[: stop - start] = cost_I
    cost_KI -= round_cost_K1
    least_KI = np.minimum.accumulate(cost_KI, axis=0)
    is_better_I = (least_KI[:-1] < cost_KI[1:]).ravel()[: max(0, stop - start - most)]
    begin_I[most:][is_better_I] = (np.arange(start + 1, stop - most + 1))[is_better_I]
    least_KI += round_cost_K1
    cost_I[:] = least_KI.ravel()[: stop - start]
