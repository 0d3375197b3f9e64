"""Sums over pairs of texts, a value of their cosine at each Matryoshka level, in memory of one block of rows.

N in shapes: the compared texts. A: rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from fused_contrastive.cosine import prefix_inverse_norms
from torch import Tensor
from torch.utils.checkpoint import checkpoint

BLOCK_ROWS = 1024

# (cosines of a block's rows with all texts, [A, N]; which rows these are) → [A, N], the value of every pair
PairValue = Callable[[Tensor, slice], Tensor]


def sum_over_pairs(
    row_ND: Tensor,
    first: slice,
    value: PairValue,
    dims: Sequence[int],
    weights: Sequence[float],
    block_rows: int = BLOCK_ROWS,
) -> Tensor:
    """Scalar: sum over levels k, over texts i of `first`, over all texts j of weight_k * value(cosine_k(i, j)).

    The sums of slices that divide the texts add up to that of all texts, and so do their gradients. With more than
    `block_rows` rows the cosines of each block are computed again in the backward pass, and not kept.

    Args:
        row_ND: the embeddings of all texts, not normalised.
        first: the texts i.
        dims: how many of the first dimensions each level compares.
        weights: of the levels.
    """
    dtype = torch.promote_types(row_ND.dtype, torch.float32)
    row_ND = row_ND.to(dtype)
    blocks = list(_blocks(first, block_rows))

    def of_block(row_ND: Tensor, block: slice) -> Tensor:
        inverse_norm_KN = prefix_inverse_norms(row_ND, tuple(dims))
        total = row_ND.new_zeros(())
        for dim, weight, inverse_norm_N in zip(dims, weights, inverse_norm_KN, strict=True):
            unit_ND = row_ND[:, :dim] * inverse_norm_N[:, None]
            total = total + weight * value(unit_ND[block] @ unit_ND.T, block).sum()
        return total

    total = row_ND.new_zeros(())
    for block in blocks:
        if len(blocks) == 1:
            total = total + of_block(row_ND, block)
        else:
            total = total + checkpoint(of_block, row_ND, block, use_reentrant=False, preserve_rng_state=False)
    return total


def held_bytes(texts: int, own: int, levels: int) -> int:
    """What `sum_over_pairs` holds for `own` of the texts, beside embeddings.

    The cosines of a block at every level, and four matrices of their size that come and go.
    """
    return (levels + 4) * min(own, BLOCK_ROWS) * texts * 4


def share_of(count: int, index: int, num_shares: int) -> slice:
    """The texts i of a share: the index-th of `num_shares` slices of `count` texts, as even as they go."""
    return slice(count * index // num_shares, count * (index + 1) // num_shares)


def _blocks(rows: slice, size: int) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))
