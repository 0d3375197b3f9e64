"""Builds the micro-batches of every rank and computes their cost. The schedule never changes the loss.

Takes the texts' lengths, the rank of each text, and the token budget of a micro-batch; returns a `Schedule`.
"""

from __future__ import annotations

import numpy as np

from harness.data.batch.micro_batches import (
    KnownSplits,
    fixed_cost,
    padded_length,
    padded_tokens,
    split_into_micro_batches,
)
from harness.types import Schedule

# How often the tokens of a micro-batch pass through the model: the embed phase's forward, the replay's forward, and a
# backward, which counts as two (Korthikanti et al. 2022, arXiv 2205.05198). A single micro-batch needs no second
# forward, because its graph fits into memory. How many of several are kept depends on free memory. The schedule must
# not: dropout masks follow it.
_PASSES, _PASSES_OF_A_SINGLE_ONE = 4, 3


def schedule(
    length_T: np.ndarray,
    rank_T: np.ndarray,
    world_size: int,
    micro_batch_tokens: int,
    known: KnownSplits | None = None,
) -> Schedule:
    """Split each rank's texts, longest first, into micro-batches of at most `micro_batch_tokens` padded tokens.

    A text longer than the budget is alone in its micro-batch. Ranks with fewer micro-batches than others get empty
    ones. If the texts of every rank fit into one micro-batch, they are not split, unless the padding of the single
    micro-batch costs more than its kept graph saves. known: see `split_into_micro_batches`.
    """
    end_W = np.cumsum(np.bincount(rank_T, minlength=world_size))
    texts_of_ranks = np.split(np.argsort(rank_T, kind="stable"), end_W[:-1])
    known = {} if known is None else known
    by_rank = [split_into_micro_batches(text_R, length_T, micro_batch_tokens, known) for text_R in texts_of_ranks]
    in_several = _schedule_of(by_rank, rank_T)
    if in_several.num_micro_batches == 1:
        return in_several
    rows_by_rank = [np.concatenate([*batches, np.empty(0, dtype=np.int64)]) for batches in by_rank]
    for rows in rows_by_rank:
        if padded_tokens(rows, length_T) > max(micro_batch_tokens, length_T[rows].max(initial=0)):
            return in_several
    in_one = _schedule_of([[rows] for rows in rows_by_rank], rank_T)
    return min(in_one, in_several, key=lambda candidate: _cost(candidate, length_T, micro_batch_tokens))


def _cost(candidate: Schedule, length_T: np.ndarray, micro_batch_tokens: int) -> float:
    most_padded = padded_per_rank(candidate, length_T).max()
    return passes(most_padded, candidate.num_micro_batches, micro_batch_tokens)


def passes(padded: float, micro_batches: int, micro_batch_tokens: int) -> float:
    """The cost of a step for one rank; unit: one pass of one token through the model.

    padded: padded tokens of the rank. Every micro-batch adds a fixed cost.
    """
    times = _PASSES if micro_batches > 1 else _PASSES_OF_A_SINGLE_ONE
    return times * (padded + micro_batches * fixed_cost(micro_batch_tokens))


def padded_per_rank(scheduled: Schedule, length_T: np.ndarray) -> np.ndarray:
    """Padded tokens of each rank, int64 [W]. The first text of a micro-batch is its longest."""
    batches = [rows for of_rank in scheduled.micro_batches for rows in of_rank]
    length_Z = np.append(length_T, 0)[[int(rows[0]) if len(rows) else -1 for rows in batches]]
    padded_Z = padded_length(length_Z) * [len(rows) for rows in batches]
    return padded_Z.reshape(len(scheduled.micro_batches), -1).sum(1)


def _schedule_of(by_rank: list[list[np.ndarray]], rank_T: np.ndarray) -> Schedule:
    """The schedule with the given micro-batches of each rank; ranks with fewer micro-batches get empty ones."""
    most = max(1, max(len(batches) for batches in by_rank))
    empty = np.empty(0, dtype=np.int64)
    rows_per_rank = max(1, int(np.bincount(rank_T, minlength=len(by_rank)).max(initial=0)))
    slot_T = np.empty(len(rank_T), dtype=np.int64)
    for rank, batches in enumerate(by_rank):
        rows = np.concatenate([*batches, empty])
        slot_T[rows] = rank * rows_per_rank + np.arange(len(rows))
    filled = tuple(tuple(batches) + (empty,) * (most - len(batches)) for batches in by_rank)
    return Schedule(filled, slot_T, rows_per_rank)
