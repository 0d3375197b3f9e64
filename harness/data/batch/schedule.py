"""Stage 5b: from a deal of the texts to every rank's micro-batches, and what they cost. It never changes the loss.

In: the texts' lengths, their ranks, the budget. Out: a `Schedule`. Floor 2.
"""

from __future__ import annotations

import numpy as np

from harness.data.batch.micro_batches import cut, fixed_cost, padded_tokens
from harness.types import Schedule

# Passes over a micro-batch: the embed phase's forward, the replay's, and a backward, which counts as two (Korthikanti
# et al. 2022, arXiv 2205.05198). With a single micro-batch the first forward's graph is kept.
_PASSES, _PASSES_OF_ONE = 4, 3


def schedule(length_T: np.ndarray, rank_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Schedule:
    """Cut each rank's texts, longest first, into micro-batches of at most `micro_batch_tokens` padded tokens.

    A text longer than the budget is a micro-batch of its own. Ranks with fewer micro-batches get empty ones. Where
    every rank's texts fit into one they stay in one, unless its padding costs more than the kept graph saves.
    """
    by_rank = [cut(np.flatnonzero(rank_T == rank), length_T, micro_batch_tokens) for rank in range(world_size)]
    made = _schedule(by_rank, rank_T)
    if made.num_micro_batches == 1:
        return made
    whole = [np.concatenate(batches) if batches else np.empty(0, dtype=np.int64) for batches in by_rank]
    if any(padded_tokens(rows, length_T) > max(micro_batch_tokens, length_T[rows].max(initial=0)) for rows in whole):
        return made
    one = _schedule([[rows] for rows in whole], rank_T)
    return min(one, made, key=lambda it: _cost(it, length_T, micro_batch_tokens))


def _cost(made: Schedule, length_T: np.ndarray, micro_batch_tokens: int) -> float:
    return passes(padded_per_rank(made, length_T).max(), made.num_micro_batches, micro_batch_tokens)


def passes(padded: float, micro_batches: int, micro_batch_tokens: int) -> float:
    """Forward passes over tokens in a step of a rank: padded tokens and its micro-batches' fixed costs."""
    each = _PASSES if micro_batches > 1 else _PASSES_OF_ONE
    return each * (padded + micro_batches * fixed_cost(micro_batch_tokens))


def padded_per_rank(made: Schedule, length_T: np.ndarray) -> np.ndarray:
    """Padded tokens of each rank, int64 [W]."""
    return np.array([sum(padded_tokens(rows, length_T) for rows in batches) for batches in made.micro_batches])


def _schedule(by_rank: list[list[np.ndarray]], rank_T: np.ndarray) -> Schedule:
    most = max(1, max(len(batches) for batches in by_rank))
    empty = np.empty(0, dtype=np.int64)
    rows_per_rank = max(1, int(np.bincount(rank_T, minlength=len(by_rank)).max(initial=0)))
    slot_T = np.empty(len(rank_T), dtype=np.int64)
    for rank, batches in enumerate(by_rank):
        mine = np.concatenate([*batches, empty])
        slot_T[mine] = rank * rows_per_rank + np.arange(len(mine))
    filled = tuple(tuple(batches) + (empty,) * (most - len(batches)) for batches in by_rank)
    return Schedule(filled, slot_T, rows_per_rank)
