"""The interface for computing tiles of the similarity matrix, and the types of its arguments and results.

A tile is the part of the matrix for some query rows and some documents. `dense.py` first requests the scores of tiles.
When the loss is known, it requests their slopes and computes the gradients from these. The two implementations differ
only in how they compute a tile: `one_pass/torch_tiles.py` in plain torch, `triton/tiles.py` in Triton.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fused_contrastive.masks import MaskRules
from fused_contrastive.problem import Problem

MASKED = -1e30  # the logit of a dropped cell: e^MASKED is 0. It is finite, so that 0 * MASKED is 0


@dataclass(frozen=True, slots=True)
class QueryRows:
    """The rows of the similarity matrix: the queries and, with the document tower, the positives of each query."""

    row_SD: Tensor  # in the type that tiles multiply; all other fields are float32 (float64 for float64 rows)
    inverse_norm_KS: Tensor  # 1 / norm of each prefix, 0 for a zero prefix
    inverse_temperature_S: Tensor
    # Lowest cosine of a positive + margin. A document with a higher cosine is dropped. None: no margin.
    max_cosine_KS: Tensor | None


@dataclass(frozen=True, slots=True)
class Shard:
    """The documents that are in this process at the moment: rows `first` to `first + C` of the whole table.

    Indices, groups and keys refer to rows of the whole table.
    """

    first: int
    row_CD: Tensor
    inverse_norm_KC: Tensor
    gradient_CD: Tensor | None  # where to add this caller's part of the gradient, float32 (float64)


@dataclass(frozen=True, slots=True)
class TileScores:
    """Sums over the negatives of a tile. A logit is cosine / temperature of the query row."""

    lse_KR: Tensor  # log of the sum of e^logit per query row; about MASKED if the row has no negative
    hardest_R: Tensor  # largest cosine at the last level; about MASKED if the row has no negative
    similarity_sum_R: Tensor  # sum of cosines at the last level
    num_kept_R: Tensor  # int64, number of negatives at the last level
    column_lse_KC: Tensor | None  # log of the sum of e^logit per document; None unless requested by `by_column`


@dataclass(frozen=True, slots=True)
class SlopeWeights:
    """dloss/dlogit of a negative = row_weight * e^(logit - row_lse) + column_weight * e^(logit - column_lse).

    The weights are those of one tile, or of all query rows and all documents. If the column tensors are None, the
    second term is 0.
    """

    row_lse_KR: Tensor
    row_weight_KR: Tensor
    column_lse_KC: Tensor | None = None
    column_weight_KC: Tensor | None = None

    def part(self, rows: slice, columns: slice | None) -> SlopeWeights:
        """The weights of one tile. If `columns` is None, the result has only the weights of the rows."""
        row_lse_KR, row_weight_KR = self.row_lse_KR[:, rows], self.row_weight_KR[:, rows]
        if columns is None or self.column_lse_KC is None or self.column_weight_KC is None:
            return SlopeWeights(row_lse_KR, row_weight_KR)
        return SlopeWeights(
            row_lse_KR, row_weight_KR, self.column_lse_KC[:, columns], self.column_weight_KC[:, columns]
        )


@dataclass(frozen=True, slots=True)
class TileSlopes:
    """The terms from which the gradients of a tile are computed.

    The slope of a cell at level k is dloss/dcosine_k, 0 if the cell is dropped. `pair_weight_KRC[c]` = sum over levels
    k >= c of slope_k / (norm of the query row_k * norm of the document_k), times the tiles' `gradient_scale`. For the
    columns that level c adds, the gradients before `remove_radial_part` are
        dquery[:, c] = pair_weight_KRC[c] @ document[:, c],  ddocument[:, c] = pair_weight_KRC[c].T @ query[:, c]
    `remove_radial_part` needs the dots, which are not scaled.
    """

    pair_weight_KRC: list[Tensor]  # one [R, C] per level, in any floating-point type; valid until the next call
    query_dot_KR: Tensor  # sum over the tile's columns of slope_k * cosine_k
    document_dot_KC: Tensor  # sum over the tile's rows of slope_k * cosine_k


class Tiles(Protocol):
    """Computes tiles. Buffers are allocated once and reused; the other memory is linear in rows and columns."""

    @property
    def gradient_scale(self) -> Tensor | None:
        """A scalar factor that keeps half-precision slopes in range; None means 1."""
        ...

    def __init__(self, problem: Problem, rules: MaskRules, *, by_column: bool, needs_gradient: bool) -> None:
        """by_column: whether `score` may be called with `by_column`. needs_gradient: whether `slopes` may be called."""

    @staticmethod
    def row_dtype(problem: Problem) -> torch.dtype:
        """The type that query rows and documents must have."""
        ...

    def shape(self, num_rows: int, num_columns: int, *, slopes: bool, keep: bool) -> tuple[int, int]:
        """The rows and columns of a tile that fits the workspace, for a matrix of this size.

        slopes: whether `slopes` will be called in addition to `score`. keep: whether the caller wants to call `score`
        with `keep`, which requires tiles with all columns. The result has all columns if this is faster.
        """
        ...

    def score(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, *, keep: bool, by_column: bool
    ) -> TileScores:
        """Score query rows `rows` against documents `columns` of the shard.

        keep: store the values that `slopes` of this tile needs. by_column: also compute sums over each column. At most
        one of the two may be true.
        """
        ...

    def slopes(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, weights: SlopeWeights, *, kept: bool
    ) -> TileSlopes:
        """Slopes of the tile. kept: the last call of `score` was for this tile, with `keep`; no column weights."""
        ...
