"""What the passes of `chunked` share: what is asked for, what comes out, and how big a panel may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from fused_contrastive.problem import InfoNCEStats, Problem


class Needs(NamedTuple):
    """Which gradients are asked for."""

    query: bool
    document: bool
    temperature: bool


@dataclass(slots=True)
class PassResult:
    """Statistics and the gradient of the loss by each input that needs one, in the input's type."""

    stats: InfoNCEStats
    query_BD: Tensor | None
    document_ND: Tensor | None
    temperature_B: Tensor | None


def panels(length: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` that cover `length`."""
    return (slice(start, min(start + size, length)) for start in range(0, length, size))


def gather_rows(row_ND: Tensor, index_PC: Tensor) -> Tensor:
    """[P, C, D]: the rows named by index; padding (-1) names row 0."""
    return row_ND[index_PC.clamp_min(0)]


def rows_per_gather(problem: Problem, num_listed: int) -> int:
    """How many queries' lists of gathered documents fit the workspace."""
    row_bytes = max(1, num_listed) * problem.query_BD.shape[1] * torch.finfo(problem.dtype).bits // 8
    return max(1, problem.workspace_bytes // row_bytes)
