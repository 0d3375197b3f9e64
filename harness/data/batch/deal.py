"""Decides which rank encodes which text, so that all ranks have equal work. The decision never changes the loss.

Takes the texts' lengths in tokens; returns a `Schedule`. The paper assigns tasks to GPUs (arXiv 2408.15710, figure 3:
gpu0 to gpu3 retrieval, gpu4 STS). Here single texts are assigned, whatever their task, so that the ranks have nearly
equal numbers of tokens.

Algorithm: sort the texts by length, divide them into blocks with nearly equal padded tokens, the same number of blocks
for each rank, and give the blocks to the ranks. Several numbers of blocks are tried and the best one is kept. Suffixes
in this file: Z blocks, V distinct padded lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heapify, heappush, heapreplace
from itertools import accumulate
from operator import itemgetter

import numpy as np

from harness.data.batch.micro_batches import KnownSplits, equal_value_ranges, longest_first, padded_length
from harness.data.batch.schedule import padded_per_rank, passes, schedule
from harness.data.table.tokenisation import PAD_TO_MULTIPLE_OF
from harness.types import Schedule

_EVEN_ENOUGH = 1.05  # the project's goal for (padded tokens of the largest rank) / (mean over the ranks)
# How many numbers of blocks per rank are tried. With still more blocks, the texts of a block have nearly equal lengths
# already, so that a further division gains nothing.
_MOST_TRIES = 12
# The cost of one row of the gathered table, as a fraction of the cost of passing one token through the model: to send
# 1,792 float32 and their gradients at 50 GB/s takes 0.3 µs; to pass a token through BERT-large (0.6 GFLOP) at
# 300 TFLOP/s takes 2 µs.
_COST_OF_A_GATHERED_ROW = 1 / 8


def deal(length_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Schedule:
    """Assign the texts to the ranks so that all ranks have nearly equal and few padded tokens.

    A number of blocks is acceptable if the largest rank is at most 5 % above the mean. The cheapest acceptable number
    is used, or the most even one if none is acceptable. Every rank gets a text if there are enough texts.
    """
    if world_size == 1 or not len(length_T):
        return schedule(length_T, np.zeros(len(length_T), dtype=np.int64), world_size, micro_batch_tokens)
    order = longest_first(np.arange(len(length_T)), length_T)
    candidates = _block_deals(padded_length(length_T[order]), world_size, micro_batch_tokens)
    rank_T = np.empty(len(length_T), dtype=np.int64)
    most_even, least_unevenness = None, np.inf
    known: KnownSplits = {}
    for blocks in sorted(candidates, key=lambda blocks: blocks.cost):
        rank_T[order] = np.repeat(blocks.rank_Z, blocks.num_texts_Z)
        scheduled = schedule(length_T, rank_T, world_size, micro_batch_tokens, known)
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
    cost: float  # of the step for the most loaded rank; unit: one pass of one token through the model


def _block_deals(padded_T: np.ndarray, world_size: int, micro_batch_tokens: int) -> Iterator[_BlockDeal]:
    """One deal for each number of blocks per rank, starting from the smallest number that the budget allows.

    padded_T: padded lengths of the texts, in descending order.
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
    """Number of texts of each block, longest texts first, if every block is filled up to `block_tokens` padded tokens.

    A block has at least one text. This needs the fewest blocks: a block that is filled less leaves longer texts to the
    next block.
    """
    sizes: list[int] = []
    room = 0  # how many more texts fit into the last block
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
    """The smallest block size in padded tokens, between `low` and `high`, with which `num_blocks` hold all texts."""
    low, high = -(-low // PAD_TO_MULTIPLE_OF), -(-high // PAD_TO_MULTIPLE_OF)
    while low < high:
        middle = (low + high) // 2
        if len(_texts_per_block(length_V, count_V, middle * PAD_TO_MULTIPLE_OF)) <= num_blocks:
            high = middle
        else:
            low = middle + 1
    return high * PAD_TO_MULTIPLE_OF


def _halve_largest(sizes: list[int], num_blocks: int) -> list[int]:
    """Repeatedly halve the block with the most texts, the first of equal ones, until there are `num_blocks` blocks."""
    if len(sizes) >= num_blocks:
        return sizes
    largest_first = [(-size, end - size) for size, end in zip(sizes, accumulate(sizes), strict=True)]  # (size, start)
    heapify(largest_first)
    while len(largest_first) < num_blocks:
        size, start = -largest_first[0][0], largest_first[0][1]
        heapreplace(largest_first, (size // 2 - size, start))
        heappush(largest_first, (-(size // 2), start + size - size // 2))
    return [-size for size, _ in sorted(largest_first, key=itemgetter(1))]


def _longest_of_block(padded_T: np.ndarray, num_texts_Z: np.ndarray) -> np.ndarray:
    """Padded length of each block's longest text, which is its first; 0 for an empty block at the end."""
    return np.append(padded_T, 0)[np.cumsum(num_texts_Z) - num_texts_Z]


def _give_to_ranks(padded_T: np.ndarray, num_texts_Z: np.ndarray, world_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Give the blocks to the ranks in rounds; every rank gets one block per round.

    The round whose blocks differ most in size comes first. Within a round, the largest block goes to the rank with the
    fewest tokens so far. The last round holds the shortest texts. The blocks of the last round get new sizes, so that
    all ranks end with nearly equal tokens, and the ranks with the fewest texts get its shortest texts.

    Returns: number of texts of each block, rank of each block.
    """
    num_texts_MW = num_texts_Z.reshape(-1, world_size).copy()
    padded_MW = num_texts_MW * _longest_of_block(padded_T, num_texts_Z).reshape(num_texts_MW.shape)
    largest_first_MW = np.argsort(-padded_MW, axis=1, kind="stable")
    sorted_MW, receiver_MW = np.take_along_axis(padded_MW, largest_first_MW, 1), np.empty_like(num_texts_MW)
    tokens_W = np.zeros(world_size, dtype=np.int64)
    for m in np.argsort(-np.ptp(padded_MW[:-1], axis=1), kind="stable").tolist():
        receiver_MW[m] = rank_W = tokens_W.argsort(kind="stable")
        tokens_W[rank_W] += sorted_MW[m]
    rank_MW = np.empty_like(num_texts_MW)
    np.put_along_axis(rank_MW[:-1], largest_first_MW[:-1], receiver_MW[:-1], 1)
    texts_W = np.bincount(rank_MW[:-1].ravel(), num_texts_MW[:-1].ravel(), world_size).astype(np.int64)
    rank_MW[-1] = np.argsort(-texts_W, kind="stable")
    shortest = padded_T[num_texts_MW[:-1].sum() :].tolist()
    num_texts_MW[-1] = _even_out(shortest, tokens_W[rank_MW[-1]].tolist())
    return num_texts_MW.ravel(), rank_MW.ravel()


def _even_out(padded: list[int], tokens_before: list[int]) -> list[int]:
    """How many consecutive texts each rank gets so that the largest number of tokens of any rank is minimal.

    padded: padded lengths of the texts, in descending order. tokens_before: the tokens that each rank already has.
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
    """How many consecutive texts each rank gets if a rank may have at most `limit` tokens.

    Each rank gets at least one text and leaves at least one for each later rank, as long as there are enough texts.
    """
    counts: list[int] = []
    next_text = 0
    for ranks_after, tokens in zip(range(len(tokens_before) - 1, -1, -1), tokens_before, strict=True):
        texts_left = len(padded) - next_text
        fits = (limit - tokens) // padded[next_text] if texts_left else 0
        counts.append(max(min(fits, texts_left - ranks_after), min(1, texts_left)))
        next_text += counts[-1]
    return counts
