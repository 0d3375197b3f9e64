"""The checked input (`Problem`) and the output (`InfoNCEOutput`) of every implementation of InfoNCE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fused_contrastive.options import DocumentShard, MarginDims, Peers, Scope
from fused_contrastive.ragged import RaggedLists


@dataclass(frozen=True, slots=True)
class Problem:
    """The checked arguments of `info_nce` in a uniform form: int64 indices, one temperature per query, no defaults.

    The fields have the names of the options; `options.Negatives` and `options.Towers` explain them.
    """

    query_BD: Tensor
    document_ND: Tensor
    positive_BP: Tensor  # distinct documents, -1 padded; column 0 is never padding
    temperature_B: Tensor
    normalized_weight_B: Tensor  # weight / denominator: loss = sum of normalized weight * loss of the query
    dims: tuple[int, ...]
    level_weights: tuple[float, ...]
    own_BM: Tensor | None
    excluded_BX: RaggedLists | None
    query_row_B: Tensor | None
    scope: Scope
    query_group_B: Tensor | None
    document_group_N: Tensor | None
    query_key_B: Tensor | None
    document_key_N: Tensor | None
    margin: float | None
    margin_dims: MarginDims
    hardness: float | None  # None if it would have no effect
    symmetric: bool
    document_tower: bool  # there is no `query_tower`: its queries have been appended to document_ND
    workspace_bytes: int
    peers: Peers | None
    shard: DocumentShard | None
    num_documents: int  # of the whole table

    @property
    def dtype(self) -> torch.dtype:
        """The type of sums: float64 for float64 rows, otherwise float32."""
        return torch.float64 if self.query_BD.dtype == torch.float64 else torch.float32

    @property
    def scores_own_by_pair(self) -> bool:
        """Whether own negatives are scored pair by pair instead of as cells of the similarity matrix."""
        return self.scope == "own" or self.hardness is not None

    @property
    def rounding(self) -> float:
        """Cosines that differ by at most this count as equal: the order of summation can cause such a difference."""
        return 16 * torch.finfo(self.dtype).eps


@dataclass(frozen=True, slots=True)
class InfoNCEStats:
    """Statistics per query, without a graph. "Full" means the last Matryoshka level (without levels: all D columns)."""

    positive_similarity_B: Tensor  # cosine to the positive (mean over several positives), full
    negative_similarity_BM: Tensor | None  # cosine to each own negative, dropped or not, full; nan where padded
    negative_kept_BM: Tensor | None  # bool: whether each own negative is kept, full; repeats as their first mention
    lse_KB: Tensor  # log of the softmax denominator per level (mean over several positives), query to document
    loss_B: Tensor  # sum over levels of level weight * the query's loss
    correct_B: Tensor  # bool: the best positive has a higher cosine than every kept negative (no tie), full
    masked_B: Tensor  # int64: number of candidates that exclusion, keys or margin dropped, full
    mean_negative_similarity_B: Tensor  # mean cosine to the kept negatives, full; nan if there are none


class InfoNCEOutput(NamedTuple):
    """A scalar loss (float32, or float64 for float64 rows), and statistics, which are a by-product of the loss."""

    loss: Tensor
    stats: InfoNCEStats
