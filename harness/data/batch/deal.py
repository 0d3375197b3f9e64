"""Stage 5c: who encodes what, so that no rank waits for another, whatever the tasks are. It never changes the loss.

In: the texts' lengths. Out: a `Schedule`. Floor 2. The paper places tasks on GPUs (arXiv 2408.15710, figure 3: gpu0 to
gpu3 retrieval, gpu4 STS); here a text of any task goes where its tokens even the ranks out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.data.batch.micro_batches import longest_first, padded_length, runs
from harness.data.batch.schedule import padded_per_rank, passes, schedule
from harness.data.table.tokenisation import PAD_TO_MULTIPLE_OF
from harness.types import Schedule

_EVEN = 1.05  # the largest rank's padded tokens over the mean: the project's goal
_TRIES = 12  # numbers of blocks a rank; with more than so many, a block's texts are nearly of one length anyway
# A row of the gathered table, in passes over a token: 1,792 float32 there and back again at 50 GB/s are 0.3 µs, a pass
# of BERT-large (0.6 GFLOP a token) at 300 TFLOP/s takes 2 µs.
_GATHERED_ROW = 1 / 8


def deal(length_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Schedule:
    """Deal the texts so that all ranks have nearly equal padded tokens, and few of them.

    Texts sorted by length are laid into blocks of nearly equal padded tokens, equally many for each rank, and cut. Of
    the numbers of blocks that leave the largest rank at most 5 % above the mean, the one that costs least is taken; if
    none does, the most even. No rank is without a text if there are enough.
    """
    if world_size == 1 or not len(length_T):
        return schedule(length_T, np.zeros(len(length_T), dtype=np.int64), world_size, micro_batch_tokens)
    order = longest_first(np.arange(len(length_T)), length_T)
    ways = _ways(padded_length(length_T[order]), world_size, micro_batch_tokens)
    rank_T = np.empty(len(length_T), dtype=np.int64)
    best, least = None, np.inf
    for way in sorted(ways, key=lambda way: way.cost):
        rank_T[order] = np.repeat(way.rank_X, way.size_X)
        made = schedule(length_T, rank_T, world_size, micro_batch_tokens)
        padded_W = padded_per_rank(made, length_T)
        unevenness = padded_W.max() / padded_W.mean()
        if unevenness < least:
            best, least = made, unevenness
        if unevenness <= _EVEN:
            break
    assert best is not None
    return best


@dataclass(frozen=True, slots=True)
class _Way:
    """Blocks of consecutive texts, longest first, and the rank of each."""

    size_X: np.ndarray  # texts
    rank_X: np.ndarray
    cost: float  # passes over tokens, of the rank with the most


def _ways(padded_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Iterator[_Way]:
    """A deal for each number of blocks a rank, from the fewest that the budget allows. Padded lengths fall."""
    start_V, stop_V = runs(padded_T)
    lengths = padded_T[start_V].tolist(), (stop_V - start_V).tolist()
    longest, total = lengths[0][0], int(padded_T.sum())
    limit = max(micro_batch_tokens, longest)
    fewest = -(-len(_sizes(*lengths, limit)) // world_size)
    for rounds in range(fewest, fewest + _TRIES):
        blocks = rounds * world_size
        block_tokens = _smallest(*lengths, blocks, max(longest, total // blocks), limit)
        sizes = _fill(_sizes(*lengths, block_tokens), min(blocks, len(padded_T)))
        size_X = np.zeros(blocks, dtype=np.int64)
        size_X[: len(sizes)] = sizes
        size_X, rank_X = _even_out(padded_T, size_X, world_size)
        padded_X = size_X * _first(padded_T, size_X)
        tokens_W, texts_W = (np.bincount(rank_X, weights=of_X) for of_X in (padded_X, size_X))
        gathered = _GATHERED_ROW * world_size * texts_W.max()
        yield _Way(size_X, rank_X, passes(tokens_W.max(), rounds, micro_batch_tokens) + gathered)
        if block_tokens == longest:
            return  # blocks cannot be smaller


def _sizes(length_V: list[int], count_V: list[int], block_tokens: int) -> list[int]:
    """How many texts each block takes, longest first, filled up to `block_tokens` padded tokens (at least a text).

    No other way needs fewer blocks: a block that takes less leaves longer texts to the next.
    """
    sizes: list[int] = []
    room = 0
    for length, count in zip(length_V, count_V, strict=True):
        taken = min(count, room)
        if taken:
            sizes[-1] += taken
        room, count = room - taken, count - taken
        if count:
            most = max(1, block_tokens // length)
            full, rest = divmod(count, most)
            sizes += [most] * full + [rest] * (rest > 0)
            room = most - rest if rest else 0
    return sizes


def _smallest(length_V: list[int], count_V: list[int], blocks: int, low: int, high: int) -> int:
    """The smallest padded tokens of a block, from `low` to `high`, with which so many blocks are enough."""
    low, high = -(-low // PAD_TO_MULTIPLE_OF), -(-high // PAD_TO_MULTIPLE_OF)
    while low < high:
        middle = (low + high) // 2
        if len(_sizes(length_V, count_V, middle * PAD_TO_MULTIPLE_OF)) <= blocks:
            high = middle
        else:
            low = middle + 1
    return high * PAD_TO_MULTIPLE_OF


def _fill(sizes: list[int], blocks: int) -> list[int]:
    """Halve the largest blocks until there are so many."""
    while len(sizes) < blocks:
        largest = sizes.index(max(sizes))
        texts = sizes[largest]
        sizes[largest : largest + 1] = [texts - texts // 2, texts // 2]
    return sizes


def _first(padded_T: np.ndarray, size_X: np.ndarray) -> np.ndarray:
    """Padded length of the first, longest text of each block; 0 of one beyond the last text."""
    return np.append(padded_T, 0)[np.cumsum(size_X) - size_X]


def _even_out(padded_T: np.ndarray, size_X: np.ndarray, world_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Deal the blocks in rounds, one to each rank, and give the last round sizes that even out what is left.

    The round whose blocks differ most comes first; the largest block goes to the rank with the least so far. The last
    round has the shortest texts: each rank takes as many as bring all to one level, who has few texts the shortest.
    """
    size_MW = size_X.reshape(-1, world_size).copy()
    padded_MW = size_MW * _first(padded_T, size_X).reshape(size_MW.shape)
    rank_MW = np.empty_like(size_MW)
    tokens_W, texts_W = np.zeros(world_size, dtype=np.int64), np.zeros(world_size, dtype=np.int64)
    for m in np.argsort(-np.ptp(padded_MW[:-1], axis=1), kind="stable"):
        rank_MW[m, np.argsort(-padded_MW[m], kind="stable")] = np.argsort(tokens_W, kind="stable")
        tokens_W[rank_MW[m]] += padded_MW[m]
        texts_W[rank_MW[m]] += size_MW[m]
    rank_MW[-1] = np.argsort(-texts_W, kind="stable")
    size_MW[-1] = _level(padded_T[size_MW[:-1].sum() :].tolist(), tokens_W[rank_MW[-1]].tolist())
    return size_MW.ravel(), rank_MW.ravel()


def _level(padded: list[int], held: list[int]) -> list[int]:
    """How many of the texts each rank takes, in turn, so that the most tokens of any rank are the fewest possible."""
    most = max(held) + len(padded) * max(padded, default=0)
    low, high = min(held) // PAD_TO_MULTIPLE_OF, most // PAD_TO_MULTIPLE_OF
    while low < high:
        middle = (low + high) // 2
        if sum(_taken(padded, held, middle * PAD_TO_MULTIPLE_OF)) == len(padded):
            high = middle
        else:
            low = middle + 1
    return _taken(padded, held, high * PAD_TO_MULTIPLE_OF)


def _taken(padded: list[int], held: list[int], level: int) -> list[int]:
    """How many texts each rank takes until its tokens reach the level; at least one, and leaving one for each later."""
    taken: list[int] = []
    at = 0
    for later, tokens in zip(range(len(held) - 1, -1, -1), held, strict=True):
        left = len(padded) - at
        fits = (level - tokens) // padded[at] if left else 0
        taken.append(max(min(fits, left - later), min(1, left)))
        at += taken[-1]
    return taken
