"""Stage 5a: who encodes what. A scheduling decision: it never changes the loss."""

from __future__ import annotations

import numpy as np

from harness.data.tokenisation import PAD_TO_MULTIPLE_OF
from harness.types import Schedule


def deal(length_T: np.ndarray, world_size: int) -> np.ndarray:
    """The rank [T] of each text such that all ranks have nearly equal tokens.

    Texts sorted by length go to the ranks there and back again (0..W-1, W-1..0, ...): every rank gets the same number
    of texts and the same mix of lengths, and token counts differ by less than the longest text.
    """
    there_and_back = np.concatenate([np.arange(world_size), np.arange(world_size)[::-1]])
    rank_T = np.empty(len(length_T), dtype=np.int64)
    rank_T[np.argsort(-length_T, kind="stable")] = np.resize(there_and_back, len(length_T))
    return rank_T


def schedule(length_T: np.ndarray, rank_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Schedule:
    """Cut each rank's texts, longest first, into micro-batches of at most `micro_batch_tokens` padded tokens.

    A text longer than the budget is a micro-batch of its own. Ranks with fewer micro-batches get empty ones.
    """
    by_rank = [cut(np.flatnonzero(rank_T == rank), length_T, micro_batch_tokens) for rank in range(world_size)]
    most = max(1, max(len(batches) for batches in by_rank))
    empty = np.empty(0, dtype=np.int64)
    rows_per_rank = max(1, int(np.bincount(rank_T, minlength=world_size).max(initial=0)))
    slot_T = np.empty(len(length_T), dtype=np.int64)
    for rank, batches in enumerate(by_rank):
        mine = np.concatenate([*batches, empty])
        slot_T[mine] = rank * rows_per_rank + np.arange(len(mine))
        batches += [empty] * (most - len(batches))
    return Schedule(tuple(tuple(batches) for batches in by_rank), slot_T, rows_per_rank)


def padded_length(length: int) -> int:
    """Tokens a text of this length takes when it is the longest of its micro-batch."""
    return -(-length // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF


def cut(text_R: np.ndarray, length_T: np.ndarray, micro_batch_tokens: int) -> list[np.ndarray]:
    """Micro-batches of the texts `text_R`, longest first, each at most `micro_batch_tokens` padded tokens."""
    ordered = text_R[np.argsort(-length_T[text_R], kind="stable")]
    batches, start = [], 0
    while start < len(ordered):
        count = max(1, micro_batch_tokens // padded_length(int(length_T[ordered[start]])))
        batches.append(ordered[start : start + count])
        start += count
    return batches
