"""What every implementation of InfoNCE takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Scope = Literal["own", "task", "step"]


@dataclass(frozen=True, slots=True)
class Problem:
    """Checked arguments in one form: indices int64, temperatures and weights per query, defaults filled in."""

    query_BD: Tensor
    document_ND: Tensor
    positive_B: Tensor
    temperature_B: Tensor
    share_B: Tensor  # weight / denominator: loss = sum of share * loss of the query
    dims: tuple[int, ...]
    level_weights: tuple[float, ...]
    negative_BM: Tensor | None
    excluded_BX: Tensor | None
    scope: Scope
    query_group_B: Tensor | None
    document_group_N: Tensor | None
    query_key_B: Tensor | None
    document_key_N: Tensor | None
    margin: float | None
    workspace_bytes: int

    @property
    def dtype(self) -> torch.dtype:
        """What sums are accumulated in: float64 for float64 rows, else float32."""
        return torch.float64 if self.query_BD.dtype == torch.float64 else torch.float32

    @property
    def tie(self) -> float:
        """Cosines nearer than this are equal: one document's cosine differs by as much between two ways to sum it."""
        return 16 * torch.finfo(self.dtype).eps


@dataclass(frozen=True, slots=True)
class InfoNCEStats:
    """Per query, without a graph. "Full" is the last Matryoshka level (all D dimensions without levels)."""

    positive_similarity_B: Tensor  # cosine to the positive, full
    negative_similarity_BM: Tensor | None  # cosine to each own negative, dropped or not, full; nan where padded
    lse_KB: Tensor  # log of the softmax's denominator per level
    loss_B: Tensor  # sum over levels of level weight * -log softmax
    correct_B: Tensor  # bool: the positive beats every negative of the denominator (a tie does not), full
    masked_B: Tensor  # int64: candidates of the scope dropped by exclusion, keys or margin, full
    mean_negative_similarity_B: Tensor  # mean cosine to the negatives of the denominator, full; nan if none


class InfoNCEOutput(NamedTuple):
    """A scalar loss (float32, or float64 for float64 rows) and what was learned on the way."""

    loss: Tensor
    stats: InfoNCEStats
