"""What computes tiles of the similarity matrix, and what goes in and out of it.

A tile is some left rows by some documents. The left rows are the queries; with the document tower their positives'
rows follow. The dense pass (`dense.py`) asks for scores, turns them into the loss, and asks for slopes; how a tile is
computed (`torch_tiles.py`, `triton_tiles.py`) is all that differs between implementations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fused_contrastive.masks import Rules
from fused_contrastive.problem import Problem

MASKED = -1e30  # a logit of no weight; finite, so that 0 * MASKED is 0


@dataclass(frozen=True, slots=True)
class Left:
    """Left rows of the similarity matrix, in the type the tiles multiply in; the rest is float32 (or float64)."""

    row_SD: Tensor
    inverse_KS: Tensor  # 1 / norm of each prefix, 0 for a zero prefix
    inverse_temperature_S: Tensor
    highest_KS: Tensor | None  # drop documents with a cosine above this (positive's + margin); None: no margin


@dataclass(frozen=True, slots=True)
class Shard:
    """Documents at hand: rows `first` to `first + C` of the whole table. Masks and labels use whole-table numbers."""

    first: int
    row_CD: Tensor
    inverse_KC: Tensor
    gradient_CD: Tensor | None  # where to add this caller's part of the gradient, float32 (float64)


@dataclass(frozen=True, slots=True)
class TileScores:
    """Over the kept negatives of a tile. Logit = cosine / temperature of the left row."""

    lse_KR: Tensor  # log of the sum of e^logit per left row; about MASKED if none is kept
    hardest_R: Tensor  # largest cosine at the last level; about MASKED if none
    similarity_sum_R: Tensor  # sum of cosines at the last level
    num_kept_R: Tensor  # int64
    column_lse_KC: Tensor | None  # the same as lse_KR down the columns; only if asked for


@dataclass(frozen=True, slots=True)
class SlopeWeights:
    """dloss/dlogit of a kept cell = row_weight * e^(logit - row_lse) + column_weight * e^(logit - column_lse).

    The rows' come for the rows of the tile (or for all left rows), the columns' for its columns (or for all documents;
    None: nothing).
    """

    row_lse_KR: Tensor
    row_weight_KR: Tensor
    column_lse_KC: Tensor | None = None
    column_weight_KC: Tensor | None = None

    def part(self, rows: slice, columns: slice | None) -> SlopeWeights:
        """Those of a tile; without columns those of its rows only."""
        row_lse_KR, row_weight_KR = self.row_lse_KR[:, rows], self.row_weight_KR[:, rows]
        if columns is None or self.column_lse_KC is None or self.column_weight_KC is None:
            return SlopeWeights(row_lse_KR, row_weight_KR)
        return SlopeWeights(
            row_lse_KR, row_weight_KR, self.column_lse_KC[:, columns], self.column_weight_KC[:, columns]
        )


@dataclass(frozen=True, slots=True)
class TileSlopes:
    """With slope_k = dloss/dcosine_k of a cell, 0 where dropped.

    `pair_weight_KRC[c]` = sum over levels k >= c of slope_k * inverse_left_k * inverse_document_k (times the tiles'
    `gradient_scale`), so that for the columns that level c adds:
        dleft[:, c] = pair_weight_KRC[c] @ document[:, c],  ddocument[:, c] = pair_weight_KRC[c].T @ left[:, c]
    less what lies along the row itself, for which the dots serve (not scaled).
    """

    pair_weight_KRC: list[Tensor]  # one [R, C] per level, in any floating-point type; valid until the next call
    left_dot_KR: Tensor  # sum over the tile's columns of slope_k * cosine_k
    document_dot_KC: Tensor  # sum over the tile's rows


class Tiles(Protocol):
    """Computes tiles. Buffers are allocated once and reused; beside them memory is linear in rows and columns."""

    @property
    def gradient_scale(self) -> Tensor | None:
        """A scalar that keeps half-precision slopes in range; None is 1."""
        ...

    def __init__(self, problem: Problem, rules: Rules, *, by_column: bool, needs_gradient: bool) -> None:
        """by_column: some score will be asked for by column, too. needs_gradient: slopes may be asked for."""

    @staticmethod
    def row_dtype(problem: Problem) -> torch.dtype:
        """The type that left rows and documents must have."""
        ...

    def shape(self, num_rows: int, num_columns: int, *, slopes: bool, keep: bool) -> tuple[int, int]:
        """Rows and columns of a tile that suits the workspace when the whole has so many.

        slopes: slopes will be asked for, not scores alone. keep: the caller can use `keep`/`kept`, for which a tile
        must hold all columns; all columns come back if that pays.
        """
        ...

    def score(
        self, left: Left, shard: Shard, rows: slice, columns: slice, *, keep: bool, by_column: bool
    ) -> TileScores:
        """Score left rows `rows` against documents `columns` of the shard; `keep` what `slopes` of this tile needs."""
        ...

    def slopes(
        self, left: Left, shard: Shard, rows: slice, columns: slice, weights: SlopeWeights, *, kept: bool
    ) -> TileSlopes:
        """Slopes of the tile; `kept`: it is the last one scored, with `keep`, and `weights` has no columns."""
        ...
