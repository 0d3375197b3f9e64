"""Which rank encodes which text, so that no rank waits for another, whatever the tasks are. It never changes the loss.

Takes the texts' lengths in tokens; gives a `Schedule`. The paper places tasks on GPUs (arXiv 2408.15710, figure 3: gpu0
to gpu3 retrieval, gpu4 STS); here a text of any task goes where its tokens make the ranks even.

The way: sort the texts by length, divide them into blocks of nearly equal padded tokens, equally many blocks for each
rank, and give the blocks to the ranks. How many blocks are best is found by trying. Suffixes in this file: Z blocks,
V distinct padded lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from harness.data.batch.micro_batches import equal_value_ranges, longest_first, padded_length
from harness.data.batch.schedule import padded_per_rank, passes, schedule
from harness.data.table.tokenisation import PAD_TO_MULTIPLE_OF
from harness.types import Schedule

_EVEN_ENOUGH = 1.05  # the largest rank's padded tokens over the mean: the project's goal
_MOST_TRIES = 12  # numbers of blocks a rank; with more blocks a block's texts are nearly of one length anyway
# A row of the gathered table, in passes over a token: 1,792 float32 there and back again at 50 GB/s are 0.3 µs, a pass
# of BERT-large (0.6 GFLOP a token) at 300 TFLOP/s takes 2 µs.
_COST_OF_A_GATHERED_ROW = 1 / 8


def deal(length_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Schedule:
    """Deal the texts so that all ranks have nearly equal padded tokens, and few of them.

    Of the numbers of blocks with which the largest rank is at most 5 % above the mean, the cheapest is taken; if there
    is none, the most even one. No rank is without a text if there are enough.
    """
    if world_size == 1 or not len(length_T):
        return schedule(length_T, np.zeros(len(length_T), dtype=np.int64), world_size, micro_batch_tokens)
    order = longest_first(np.arange(len(length_T)), length_T)
    candidates = _block_deals(padded_length(length_T[order]), world_size, micro_batch_tokens)
    rank_T = np.empty(len(length_T), dtype=np.int64)
    most_even, least_unevenness = None, np.inf
    for blocks in sorted(candidates, key=lambda blocks: blocks.cost):
        rank_T[order] = np.repeat(blocks.rank_Z, blocks.num_texts_Z)
        scheduled = schedule(length_T, rank_T, world_size, micro_batch_tokens)
        padded_W = padded_per_rank(scheduled, length_T)
        unevenness = padded_W.max() / padded_W.mean()
        if unevenness < least_unevenness:
            most_even, least_unevenness = scheduled, unevenness
        if unevenness <= _EVEN_ENOUGH:
            break
    assert most_even is not None
    return most_even


@dataclass(frozen=True, slots=True)
class _BlockDeal:
    """Blocks of consecutive texts, longest texts first, and the rank of each block."""

    num_texts_Z: np.ndarray
    rank_Z: np.ndarray
    cost: float  # of the step for the rank with the most, in passes over a token


def _block_deals(padded_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Iterator[_BlockDeal]:
    """A deal for each number of blocks a rank, from the fewest that the budget allows.

    padded_T: padded lengths, falling.
    """
    start_V, stop_V = equal_value_ranges(padded_T)
    lengths = padded_T[start_V].tolist(), (stop_V - start_V).tolist()
    longest, total = lengths[0][0], int(padded_T.sum())
    limit = max(micro_batch_tokens, longest)
    fewest = -(-len(_texts_per_block(*lengths, limit)) // world_size)
    for blocks_per_rank in range(fewest, fewest + _MOST_TRIES):
        num_blocks = blocks_per_rank * world_size
        block_tokens = _smallest_block_tokens(*lengths, num_blocks, max(longest, total // num_blocks), limit)
        sizes = _halve_largest(_texts_per_block(*lengths, block_tokens), min(num_blocks, len(padded_T)))
        num_texts_Z = np.zeros(num_blocks, dtype=np.int64)
        num_texts_Z[: len(sizes)] = sizes
        num_texts_Z, rank_Z = _give_to_ranks(padded_T, num_texts_Z, world_size)
        padded_Z = num_texts_Z * _longest_of_block(padded_T, num_texts_Z)
        tokens_W, texts_W = (np.bincount(rank_Z, weights=of_block_Z) for of_block_Z in (padded_Z, num_texts_Z))
        gathering = _COST_OF_A_GATHERED_ROW * world_size * texts_W.max()
        cost = passes(tokens_W.max(), blocks_per_rank, micro_batch_tokens) + gathering
        yield _BlockDeal(num_texts_Z, rank_Z, cost)
        if block_tokens == longest:
            return  # blocks cannot be smaller


def _texts_per_block(length_V: list[int], count_V: list[int], block_tokens: int) -> list[int]:
    """How many texts each block takes, longest first, if every block is filled up to `block_tokens` padded tokens.

    A block takes at least one text. No other way needs fewer blocks: a block that takes less leaves longer texts to the
    next one.
    """
    sizes: list[int] = []
    room = 0  # of the last block, in texts
    for length, count in zip(length_V, count_V, strict=True):
        into_last = min(count, room)
        if into_last:
            sizes[-1] += into_last
        room, count = room - into_last, count - into_last
        if count:
            most = max(1, block_tokens // length)
            num_full, rest = divmod(count, most)
            sizes += [most] * num_full + [rest] * (rest > 0)
            room = most - rest if rest else 0
    return sizes


def _smallest_block_tokens(length_V: list[int], count_V: list[int], num_blocks: int, low: int, high: int) -> int:
    """The fewest padded tokens of a block, from `low` to `high`, with which `num_blocks` blocks hold all texts."""
    low, high = -(-low // PAD_TO_MULTIPLE_OF), -(-high // PAD_TO_MULTIPLE_OF)
    while low < high:
        middle = (low + high) // 2
        if len(_texts_per_block(length_V, count_V, middle * PAD_TO_MULTIPLE_OF)) <= num_blocks:
            high = middle
        else:
            low = middle + 1
    return high * PAD_TO_MULTIPLE_OF


def _halve_largest(sizes: list[int], num_blocks: int) -> list[int]:
    """Halve the block with the most texts, again and again, until there are `num_blocks` blocks."""
    while len(sizes) < num_blocks:
        largest = sizes.index(max(sizes))
        num_texts = sizes[largest]
        sizes[largest : largest + 1] = [num_texts - num_texts // 2, num_texts // 2]
    return sizes


def _longest_of_block(padded_T: np.ndarray, num_texts_Z: np.ndarray) -> np.ndarray:
    """Padded length of the first and longest text of each block; 0 for an empty block behind the last text."""
    return np.append(padded_T, 0)[np.cumsum(num_texts_Z) - num_texts_Z]


def _give_to_ranks(padded_T: np.ndarray, num_texts_Z: np.ndarray, world_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the blocks to the ranks in rounds, one to each rank a round: (texts of each block, rank of each block).

    The round whose blocks differ most comes first, and in a round the largest block goes to the rank with the fewest
    tokens so far. The last round holds the shortest texts. Its blocks get new sizes, so that all ranks end with nearly
    equal tokens; there, the ranks with the fewest texts take the shortest ones.
    """
    num_texts_MW = num_texts_Z.reshape(-1, world_size).copy()
    padded_MW = num_texts_MW * _longest_of_block(padded_T, num_texts_Z).reshape(num_texts_MW.shape)
    rank_MW = np.empty_like(num_texts_MW)
    tokens_W, texts_W = np.zeros(world_size, dtype=np.int64), np.zeros(world_size, dtype=np.int64)
    for m in np.argsort(-np.ptp(padded_MW[:-1], axis=1), kind="stable"):
        rank_MW[m, np.argsort(-padded_MW[m], kind="stable")] = np.argsort(tokens_W, kind="stable")
        tokens_W[rank_MW[m]] += padded_MW[m]
        texts_W[rank_MW[m]] += num_texts_MW[m]
    rank_MW[-1] = np.argsort(-texts_W, kind="stable")
    shortest = padded_T[num_texts_MW[:-1].sum() :].tolist()
    num_texts_MW[-1] = _even_out(shortest, tokens_W[rank_MW[-1]].tolist())
    return num_texts_MW.ravel(), rank_MW.ravel()


def _even_out(padded: list[int], tokens_before: list[int]) -> list[int]:
    """How many of the texts each rank takes, in turn, so that the most tokens of any rank are the fewest possible.

    padded: padded lengths, falling. tokens_before: what each rank has already.
    """
    most = max(tokens_before) + len(padded) * max(padded, default=0)
    low, high = min(tokens_before) // PAD_TO_MULTIPLE_OF, most // PAD_TO_MULTIPLE_OF
    while low < high:
        middle = (low + high) // 2
        if sum(_texts_up_to(middle * PAD_TO_MULTIPLE_OF, padded, tokens_before)) == len(padded):
            high = middle
        else:
            low = middle + 1
    return _texts_up_to(high * PAD_TO_MULTIPLE_OF, padded, tokens_before)


def _texts_up_to(limit: int, padded: list[int], tokens_before: list[int]) -> list[int]:
    """How many texts each rank takes, in turn, with at most `limit` tokens a rank.

    Each takes at least one text and leaves at least one for each rank after it, as far as there are texts.
    """
    counts: list[int] = []
    next_text = 0
    for ranks_after, tokens in zip(range(len(tokens_before) - 1, -1, -1), tokens_before, strict=True):
        texts_left = len(padded) - next_text
        fits = (limit - tokens) // padded[next_text] if texts_left else 0
        counts.append(max(min(fits, texts_left - ranks_after), min(1, texts_left)))
        next_text += counts[-1]
    return counts
