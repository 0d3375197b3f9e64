"""The interface of what computes tiles of the similarity matrix, and the types that go in and out of it.

A tile is some query rows by some documents. `dense.py` asks for the scores of tiles; once the loss is known, for their
slopes, from which the gradients follow. The implementations differ only in how they compute a tile:
`one_pass/torch_tiles.py` in plain torch, `triton/tiles.py` in Triton.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fused_contrastive.masks import MaskRules
from fused_contrastive.problem import Problem

MASKED = -1e30  # the logit of a dropped cell: e^MASKED is 0. Finite, so that 0 * MASKED is 0, too


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The rows of the similarity matrix: the queries; with the document tower, the positives of each query follow."""

    row_SD: Tensor  # in the type that tiles multiply; all else is float32 (float64 for float64 rows)
    inverse_norm_KS: Tensor  # 1 / norm of each prefix, 0 for a zero prefix
    inverse_temperature_S: Tensor
    max_cosine_KS: (
        Tensor | None
    )  # a document with a cosine above this (lowest positive's + margin) is dropped; None: no margin


@dataclass(frozen=True, slots=True)
class Shard:
    """The documents that are in this process now: rows `first` to `first + C` of the whole table.

    Indices, groups and keys count rows of the whole table.
    """

    first: int
    row_CD: Tensor
    inverse_norm_KC: Tensor
    gradient_CD: Tensor | None  # where to add this caller's part of the gradient, float32 (float64)


@dataclass(frozen=True, slots=True)
class TileScores:
    """Sums over the negatives of a tile. Logit = cosine / temperature of the query row."""

    lse_KR: Tensor  # log of the sum of e^logit per query row; about MASKED if the row has no negative
    hardest_R: Tensor  # largest cosine at the last level; about MASKED if the row has no negative
    similarity_sum_R: Tensor  # sum of cosines at the last level
    num_kept_R: Tensor  # int64, number of negatives at the last level
    column_lse_KC: Tensor | None  # as lse_KR, over the query rows of a column; only if asked for


@dataclass(frozen=True, slots=True)
class SlopeWeights:
    """dloss/dlogit of a negative = row_weight * e^(logit - row_lse) + column_weight * e^(logit - column_lse).

    For the rows and columns of one tile, or for all query rows and all documents. Columns None: the second term is 0.
    """

    row_lse_KR: Tensor
    row_weight_KR: Tensor
    column_lse_KC: Tensor | None = None
    column_weight_KC: Tensor | None = None

    def part(self, rows: slice, columns: slice | None) -> SlopeWeights:
        """The weights of one tile. `columns` None: only those of its rows."""
        row_lse_KR, row_weight_KR = self.row_lse_KR[:, rows], self.row_weight_KR[:, rows]
        if columns is None or self.column_lse_KC is None or self.column_weight_KC is None:
            return SlopeWeights(row_lse_KR, row_weight_KR)
        return SlopeWeights(
            row_lse_KR, row_weight_KR, self.column_lse_KC[:, columns], self.column_weight_KC[:, columns]
        )


@dataclass(frozen=True, slots=True)
class TileSlopes:
    """What the gradients of a tile are made of. The slope of a cell at level k is dloss/dcosine_k, 0 if dropped.

    `pair_weight_KRC[c]` = sum over levels k >= c of slope_k / (norm of the query row_k * norm of the document_k), times
    the tiles' `gradient_scale`. For the columns that level c adds, the gradients before `remove_radial_part` are
        dquery[:, c] = pair_weight_KRC[c] @ document[:, c],  ddocument[:, c] = pair_weight_KRC[c].T @ query[:, c]
    The dots, which `remove_radial_part` needs, are not scaled.
    """

    pair_weight_KRC: list[Tensor]  # one [R, C] per level, in any floating-point type; valid until the next call
    query_dot_KR: Tensor  # sum over the tile's columns of slope_k * cosine_k
    document_dot_KC: Tensor  # sum over the tile's rows


class Tiles(Protocol):
    """Computes tiles. Buffers are allocated once and reused; beside them memory is linear in rows and columns."""

    @property
    def gradient_scale(self) -> Tensor | None:
        """A scalar that keeps half-precision slopes in range; None is 1."""
        ...

    def __init__(self, problem: Problem, rules: MaskRules, *, by_column: bool, needs_gradient: bool) -> None:
        """by_column: `score` will be called with `by_column`. needs_gradient: `slopes` may be called."""

    @staticmethod
    def row_dtype(problem: Problem) -> torch.dtype:
        """The type that query rows and documents must have."""
        ...

    def shape(self, num_rows: int, num_columns: int, *, slopes: bool, keep: bool) -> tuple[int, int]:
        """The rows and columns of a tile that fits the workspace, for a matrix of this size.

        slopes: `slopes` will be called, not `score` alone. keep: the caller would call `score` with `keep`, for which a
        tile must have all columns; the answer has all columns if that is faster.
        """
        ...

    def score(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, *, keep: bool, by_column: bool
    ) -> TileScores:
        """Score query rows `rows` against documents `columns` of the shard.

        keep: store what `slopes` of this tile needs. by_column: sum down the columns, too. Never both.
        """
        ...

    def slopes(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, weights: SlopeWeights, *, kept: bool
    ) -> TileSlopes:
        """Slopes of the tile. `kept`: this tile was scored last, with `keep`, and `weights` has no columns."""
        ...
