"""What every implementation of InfoNCE takes (`Problem`, checked) and gives (`InfoNCEOutput`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fused_contrastive.options import DocumentShard, MarginDims, Peers, Scope


@dataclass(frozen=True, slots=True)
class Problem:
    """The arguments of `info_nce`, checked and in one form: int64 indices, a temperature per query, defaults filled in.

    Names are those of the options; see `options.Negatives` and `options.Towers` for their meaning.
    """

    query_BD: Tensor
    document_ND: Tensor
    positive_BP: Tensor  # -1 padded, each document once; column 0 is never padding
    temperature_B: Tensor
    normalized_weight_B: Tensor  # weight / denominator: loss = sum of normalized weight * loss of the query
    dims: tuple[int, ...]
    level_weights: tuple[float, ...]
    own_BM: Tensor | None
    excluded_BX: Tensor | None
    query_row_B: Tensor | None
    scope: Scope
    query_group_B: Tensor | None
    document_group_N: Tensor | None
    query_key_B: Tensor | None
    document_key_N: Tensor | None
    margin: float | None
    margin_dims: MarginDims
    hardness: float | None  # None where it changes nothing
    symmetric: bool
    document_tower: bool  # `query_tower` has become rows of document_ND
    workspace_bytes: int
    peers: Peers | None
    shard: DocumentShard | None
    num_documents: int  # of the whole table

    @property
    def dtype(self) -> torch.dtype:
        """What sums are accumulated in: float64 for float64 rows, else float32."""
        return torch.float64 if self.query_BD.dtype == torch.float64 else torch.float32

    @property
    def scores_own_by_pair(self) -> bool:
        """Whether own negatives are scored pair by pair instead of as cells of the similarity matrix."""
        return self.scope == "own" or self.hardness is not None

    @property
    def rounding(self) -> float:
        """Cosines that differ by no more than this are equal: two ways to sum one cosine can differ by as much."""
        return 16 * torch.finfo(self.dtype).eps


@dataclass(frozen=True, slots=True)
class InfoNCEStats:
    """Statistics per query, without a graph. "Full" is the last Matryoshka level (all D columns without levels)."""

    positive_similarity_B: Tensor  # cosine to the positive (mean over several), full
    negative_similarity_BM: Tensor | None  # cosine to each own negative, dropped or not, full; nan where padded
    negative_kept_BM: Tensor | None  # bool: which own negatives are kept, full; a repeat as its first mention
    lse_KB: Tensor  # log of the softmax's denominator per level (mean over several positives), query to document
    loss_B: Tensor  # sum over levels of level weight * the query's loss
    correct_B: Tensor  # bool: the (best) positive beats every document kept as a negative (a tie does not), full
    masked_B: Tensor  # int64: candidates of the scope dropped by exclusion, keys or margin, full
    mean_negative_similarity_B: Tensor  # mean cosine to the documents kept as negatives, full; nan if none


class InfoNCEOutput(NamedTuple):
    """A scalar loss (float32, or float64 for float64 rows), and statistics that cost nothing more to compute."""

    loss: Tensor
    stats: InfoNCEStats
