"""Stage 5a: a rank's texts to micro-batches: as little padding as the cost of a micro-batch allows.

In: texts and their lengths. Out: micro-batches of at most a budget of padded tokens. Floor 2.
"""

from __future__ import annotations

import numpy as np

from harness.data.table.tokenisation import PAD_TO_MULTIPLE_OF

# What a micro-batch costs by itself, launching kernels above all, as a share of the budget, which is chosen so that a
# full micro-batch keeps the device busy. On a CPU the budget is 1,024, and 25 to 45 tokens were measured (one thread,
# all-MiniLM-L6-v2, both forwards and the backward).
_FIXED_SHARE_OF_BUDGET = 1 / 32


def fixed_cost(micro_batch_tokens: int) -> float:
    """What a micro-batch costs by itself, in padded tokens."""
    return micro_batch_tokens * _FIXED_SHARE_OF_BUDGET


def padded_length(length: np.ndarray | int) -> np.ndarray:
    """Tokens a text of this length takes when it is the longest of its micro-batch."""
    return -(-np.asarray(length) // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF


def padded_tokens(text_R: np.ndarray, length_T: np.ndarray) -> int:
    """Tokens of one micro-batch of the texts `text_R`, padding included."""
    return len(text_R) * int(padded_length(length_T[text_R]).max(initial=0))


def longest_first(text_R: np.ndarray, length_T: np.ndarray) -> np.ndarray:
    """The texts by falling length, equal ones in the order in which they came."""
    return text_R[np.argsort(-length_T[text_R], kind="stable")]


def runs(value_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of equal values begin and end."""
    start_V = np.flatnonzero(np.diff(value_R, prepend=value_R[:1] - 1))
    return start_V, np.append(start_V[1:], len(value_R))


def cut(text_R: np.ndarray, length_T: np.ndarray, micro_batch_tokens: int) -> list[np.ndarray]:
    """The micro-batches of the texts `text_R`, longest first, with the least Σ (padded tokens + `fixed_cost`).

    None has more than `micro_batch_tokens` padded tokens, but for a text longer than that, which is one by itself.
    """
    if not len(text_R):
        return []
    ordered = longest_first(text_R, length_T)
    return np.split(ordered, _cheapest_starts(padded_length(length_T[ordered]), micro_batch_tokens)[1:])


def _cheapest_starts(padded_R: np.ndarray, micro_batch_tokens: int) -> list[int]:
    """Where the micro-batches of texts with falling padded lengths begin: exact, by dynamic programming.

    cost[i] is the least cost of the first i texts. Their last micro-batch begins at some text j of length l and costs
    (i - j) · l. Among the j of one length the earliest that the budget allows is best, because a text more costs at
    least l in any micro-batch. So each of the V distinct lengths has one candidate: O(R · V).
    """
    start_V, stop_V = runs(padded_R)
    length_V = padded_R[start_V]
    most_V = np.maximum(1, micro_batch_tokens // length_V)  # texts of a micro-batch
    fixed = fixed_cost(micro_batch_tokens)
    cost, begin = np.full(len(padded_R) + 1, np.inf), np.zeros(len(padded_R) + 1, dtype=np.int64)
    cost[0] = 0.0
    for v, (start, stop, length, most) in enumerate(zip(start_V, stop_V, length_V, most_V, strict=True)):
        if v:  # the last micro-batch begins at a longer text
            i = np.arange(start + 1, stop + 1)
            j_VI = np.maximum(start_V[:v, None], i - most_V[:v, None])
            cost_VI = cost[j_VI] + (i - j_VI) * length_V[:v, None] + fixed  # past a run's end too high: never the least
            best_I = cost_VI.argmin(axis=0)
            cost[i], begin[i] = cost_VI[best_I, i - start - 1], j_VI[best_I, i - start - 1]
        for known in range(start, stop, most):  # or at one of this length: from costs known so far follow `most` more
            i = np.arange(known + 1, min(known + most, stop) + 1)
            j = np.maximum(start, i - most)
            cost_I = cost[j] + (i - j) * length + fixed
            better = cost_I < cost[i]
            cost[i[better]], begin[i[better]] = cost_I[better], j[better]
    starts = [int(begin[-1])]
    while starts[-1]:
        starts.append(int(begin[starts[-1]]))
    return starts[::-1]
