"""Computes tiles of the similarity matrix with Triton kernels, all Matryoshka levels in one pass over D.

There are two ways to compute slopes. With `keep`, `score_kernel` stores 2^(logit - maximum of the part) for every cell,
and when the denominators are known, `combine_kernel` turns these weights into slopes. Otherwise nothing is stored, and
`slope_kernel` computes the tile again.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fused_contrastive.masks import MaskRules
from fused_contrastive.one_pass.tiles import QueryRows, Shard, SlopeWeights, TileScores, TileSlopes
from fused_contrastive.problem import Problem
from fused_contrastive.triton.auxiliary_kernels import combine_kernel
from fused_contrastive.triton.float16_range import HALF_HEADROOM, gradient_scale
from fused_contrastive.triton.inputs import TileInputs
from fused_contrastive.triton.launch import Block, Buffers, Launcher, pad_to_blocks, round_up
from fused_contrastive.triton.partial_sums import LOG2_E, tile_scores, weight_offset
from fused_contrastive.triton.tile_kernels import score_kernel, slope_kernel

# A panel is some rows against all documents. With fewer rows than this, computing smaller tiles twice is faster.
_MIN_ROWS = 1024


class TritonTiles:
    """Implements `tiles.Tiles` with Triton kernels."""

    def __init__(
        self,
        problem: Problem,
        rules: MaskRules,
        *,
        by_column: bool,
        needs_gradient: bool,
        launcher: Launcher | None = None,
    ) -> None:
        self.problem, self.by_column, self.num_levels = problem, by_column, len(problem.dims)
        self.launcher = launcher or Launcher.of(problem.query_BD)
        self.inputs = TileInputs(problem, rules, self.launcher)
        blocks = self.launcher.blocks
        self.score_block = blocks.score if self.num_levels == 1 else blocks.score_levels
        self.slope_block = blocks.slope if self.num_levels == 1 else blocks.slope_levels
        half = problem.query_BD.dtype == torch.float16
        self.gradient_scale = gradient_scale(problem) if half and needs_gradient else None
        self._headroom = HALF_HEADROOM if half else 1.0
        self.buffers = Buffers(problem.query_BD.device)

    @staticmethod
    def row_dtype(problem: Problem) -> torch.dtype:
        """The type that query rows and documents must have."""
        return problem.query_BD.dtype

    def shape(self, num_rows: int, num_columns: int, *, slopes: bool, keep: bool) -> tuple[int, int]:
        """See `Tiles.shape`. The size is in whole blocks, at least one, even if the workspace is too small for it."""
        num_rows, num_columns = max(1, num_rows), max(1, num_columns)
        blocks = (self.score_block, self.slope_block) if slopes else (self.score_block,)
        height, width = max(block.rows for block in blocks), max(block.columns for block in blocks)
        cells = int(self.problem.workspace_bytes / self._cell_bytes(slopes))
        rows = cells // round_up(num_columns, width)
        if rows >= min(_MIN_ROWS, round_up(num_rows, height)):
            return _even_size(num_rows, rows, height), round_up(num_columns, width)
        rows = min(round_up(num_rows, height), max(height, math.isqrt(cells) // height * height))
        return _even_size(num_rows, rows, height), _even_size(num_columns, cells // rows, width)

    def _cell_bytes(self, slopes: bool) -> float:
        """Memory per cell of a tile: drop mask, panel, partial sums, and temporaries for adding up the sums."""
        numbers = (5 * self.num_levels + 2) / self.score_block.width
        if self.by_column:
            numbers += 5 * self.num_levels / self.score_block.rows
        cell_bytes = 4 * numbers + self.inputs.has_drop_mask
        if slopes:
            cell_bytes += self.num_levels * (self.problem.query_BD.itemsize + 8 / self.slope_block.width)
            cell_bytes += self.num_levels * 8 / self.launcher.blocks.combine_rows
        return cell_bytes * 16 / 15  # 1/16 of the workspace is reserved for filling the drop mask

    def score(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, *, keep: bool, by_column: bool
    ) -> TileScores:
        assert not (keep and by_column)
        block = self.score_block
        height, width = _padded(rows, columns, block)
        row_sums = self.num_levels, width // block.width, height
        column_sums = self.num_levels, height // block.rows, width
        panel_KRC = self._panel(height, width).view(-1, width) if keep else None
        panel = self.launcher.table(panel_KRC, block.rows, block.width)
        sums = {
            "row_max": self._floats("row_max", *row_sums),
            "row_sum": self._floats("row_sum", *row_sums),
            "row_product": self._floats("row_product", *row_sums) if keep else None,
            "row_count": self._floats("row_count", *row_sums[1:]),
            "row_total": self._floats("row_total", *row_sums[1:]),
            "column_max": self._floats("column_max", *column_sums) if by_column else None,
            "column_sum": self._floats("column_sum", *column_sums) if by_column else None,
        }
        arguments = self.inputs.arguments(query_rows, shard, rows, columns, block) | sums
        arguments |= {"panel": panel[0], "panel_stride": panel[1], "HEADROOM": self._headroom}
        self.launcher.launch(score_kernel, block.num_programs(height, width), block, arguments)
        return tile_scores(sums, query_rows.inverse_temperature_S[rows], columns.stop - columns.start)

    def slopes(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, weights: SlopeWeights, *, kept: bool
    ) -> TileSlopes:
        block = self.score_block if kept else self.slope_block
        height, width = _padded(rows, columns, block)
        panel_KRC = self._panel(height, width)
        factors = self._row_factors(query_rows, rows, weights, block)
        if kept:
            row_dot, column_dot = self._combine_kept(panel_KRC, shard, columns, factors)
        else:
            row_dot, column_dot = self._recompute(panel_KRC, query_rows, shard, rows, columns, weights, factors)
        num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
        return TileSlopes(
            pair_weight_KRC=[panel_RC[:num_rows, :num_columns] for panel_RC in panel_KRC],
            query_dot_KR=row_dot[:, :num_rows] / LOG2_E,
            document_dot_KC=column_dot.sum(1)[:, :num_columns] / LOG2_E,
        )

    def _row_factors(self, query_rows: QueryRows, rows: slice, weights: SlopeWeights, block: Block) -> dict[str, Any]:
        factor_KR = query_rows.inverse_norm_KS[:, rows] * query_rows.inverse_temperature_S[rows]
        if self.gradient_scale is not None:
            factor_KR *= self.gradient_scale
        return {
            "row_offset": pad_to_blocks(weight_offset(weights.row_lse_KR), block.rows),
            "row_weight": pad_to_blocks(weights.row_weight_KR, block.rows),
            "row_factor": pad_to_blocks(factor_KR, block.rows),
        }

    def _recompute(
        self,
        panel_KRC: Tensor,
        query_rows: QueryRows,
        shard: Shard,
        rows: slice,
        columns: slice,
        weights: SlopeWeights,
        factors: dict[str, Any],
    ) -> tuple[Tensor, Tensor]:
        """Fill the panel with slopes; returns the dots by row, and the dots by column for each row of tiles."""
        block, (_, height, width) = self.slope_block, panel_KRC.shape
        row_dot = self._floats("row_sum", self.num_levels, width // block.width, height)
        column_dot = self._floats("column_sum", self.num_levels, height // block.rows, width)
        panel = self.launcher.table(panel_KRC.view(-1, width), block.rows, block.width)
        arguments = self.inputs.arguments(query_rows, shard, rows, columns, block) | factors
        arguments |= {"row_dot": row_dot, "column_dot": column_dot, "panel": panel[0], "panel_stride": panel[1]}
        arguments |= {"column_offset": None, "column_weight": None}
        if weights.column_lse_KC is not None:
            assert weights.column_weight_KC is not None
            arguments["column_offset"] = pad_to_blocks(weight_offset(weights.column_lse_KC), block.columns)
            arguments["column_weight"] = pad_to_blocks(weights.column_weight_KC, block.columns)
        self.launcher.launch(slope_kernel, block.num_programs(height, width), block, arguments)
        if self.num_levels > 1:
            switched_off = ("row_max", "row_offset", "row_weight", "row_factor", "column_scale", "column_dot")
            self._combine(panel_KRC, block.columns, dict.fromkeys(switched_off))
        return row_dot.sum(1), column_dot

    def _combine_kept(
        self, panel_KRC: Tensor, shard: Shard, columns: slice, factors: dict[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Like `_recompute`, but from the weights that the last call of `score` stored in the panel."""
        block, (_, height, width) = self.score_block, panel_KRC.shape
        row_sums = self.num_levels, width // block.width, height
        row_max, row_product = self._floats("row_max", *row_sums), self._floats("row_product", *row_sums)
        share_KTR = (row_max - factors["row_offset"][:, None]).exp2_()
        row_dot = share_KTR.mul_(row_product).sum(1) * factors["row_weight"]
        column_dot = self._floats("column_sum", self.num_levels, height // self.launcher.blocks.combine_rows, width)
        column_scale = pad_to_blocks(shard.inverse_norm_KC[:, columns], block.columns)
        arguments = {"row_max": row_max, "column_scale": column_scale, "column_dot": column_dot}
        self._combine(panel_KRC, block.width, factors | arguments)
        return row_dot, column_dot

    def _combine(self, panel_KRC: Tensor, block_columns: int, arguments: dict[str, Any]) -> None:
        _, height, width = panel_KRC.shape
        block = Block(self.launcher.blocks.combine_rows, block_columns, 1, 4, 1)
        arguments |= {
            "panel": panel_KRC,
            "row_length": height,
            "column_length": width,
            "num_levels": self.num_levels,
            "panel_stride": width,
            "BLOCK_R": block.rows,
            "BLOCK_C": block.columns,
            "HEADROOM": self._headroom,
        }
        self.launcher.launch(combine_kernel, block.num_programs(height, width), block, arguments)

    def _panel(self, height: int, width: int) -> Tensor:
        return self.buffers.get("panel", self.problem.query_BD.dtype, self.num_levels, height, width)

    def _floats(self, name: str, *shape: int) -> Tensor:
        return self.buffers.get(name, torch.float32, *shape)


def _padded(rows: slice, columns: slice, block: Block) -> tuple[int, int]:
    return round_up(rows.stop - rows.start, block.rows), round_up(columns.stop - columns.start, block.columns)


def _even_size(length: int, limit: int, block: int) -> int:
    """The size of nearly equal pieces of `length`: whole blocks, at least one, otherwise at most `limit`."""
    limit = max(block, limit // block * block)
    num_pieces = max(1, math.ceil(length / limit))
    return round_up(math.ceil(length / num_pieces), block)
