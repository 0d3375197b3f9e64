"""Tiles of the similarity matrix in plain torch, on any device; all Matryoshka levels come from one pass over D."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fused_contrastive.cosine import chunks
from fused_contrastive.masks import MaskRules, count_false
from fused_contrastive.one_pass.tiles import MASKED, QueryRows, Shard, SlopeWeights, TileScores, TileSlopes
from fused_contrastive.problem import Problem

# A panel is some rows against all documents. With fewer than the minimum of rows its matrix products are slower than
# computing smaller tiles twice. With more than the maximum it does not fit into the processor's cache.
_MIN_ROWS = 128
_MAX_ROWS = 512


class TorchTiles:
    """Implements `tiles.Tiles`. Each level has a buffer, which first holds logits and later slopes."""

    gradient_scale: Tensor | None = None

    def __init__(self, problem: Problem, rules: MaskRules, *, by_column: bool, needs_gradient: bool) -> None:
        self.problem, self.rules, self.by_column, self.needs_gradient = problem, rules, by_column, needs_gradient
        self.chunks = chunks(problem.dims)
        num_levels = len(self.chunks)
        num_level_buffers = num_levels if needs_gradient else 1
        # More buffers: scratch; with several levels, the running dot product; with columns, their term of the slopes.
        self._num_buffers = num_level_buffers + 1 + (num_levels > 1) + (by_column and needs_gradient)
        self._cells = self._num_rows = 0

    @staticmethod
    def row_dtype(problem: Problem) -> torch.dtype:
        """The type that query rows and documents must have."""
        return problem.dtype

    def shape(self, num_rows: int, num_columns: int, *, slopes: bool, keep: bool) -> tuple[int, int]:
        num_rows, num_columns = max(1, num_rows), max(1, num_columns)
        item_bytes = torch.finfo(self.problem.dtype).bits // 8
        cell_bytes = self._num_buffers * item_bytes + 4  # 4: two masks, and temporaries while the masks are filled
        row_bytes = self.rules.bytes_per_row
        workspace = self.problem.workspace_bytes
        rows = min(workspace // (num_columns * cell_bytes + row_bytes), _MAX_ROWS, num_rows)
        if rows >= min(_MIN_ROWS, num_rows):
            return rows, num_columns
        side = max(1, math.isqrt(workspace // cell_bytes))
        return min(max(1, workspace // (side * cell_bytes + row_bytes)), num_rows), min(side, num_columns)

    def score(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, *, keep: bool, by_column: bool
    ) -> TileScores:
        mask_RC = self._mask(query_rows, shard, rows, columns)
        temperature_R = query_rows.inverse_temperature_S[rows].reciprocal()
        lse, column_lse = [], []
        for level in range(len(self.chunks)):
            logit_RC, dropped_RC = self._logits(query_rows, shard, rows, columns, level, mask_RC)
            if level == len(self.chunks) - 1:
                similarity_sum_R = logit_RC.masked_fill_(dropped_RC, 0.0).sum(1) * temperature_R
                num_kept_R = count_false(dropped_RC, self._tile(self.scratch, rows, columns))
            logit_RC.masked_fill_(dropped_RC, MASKED)
            hardest_R = logit_RC.amax(1)
            lse.append(self._lse(logit_RC, hardest_R, 1))
            if by_column:
                column_lse.append(self._lse(logit_RC, logit_RC.amax(0), 0))
        column_lse_KC = torch.stack(column_lse) if by_column else None
        return TileScores(torch.stack(lse), hardest_R * temperature_R, similarity_sum_R, num_kept_R, column_lse_KC)

    def slopes(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, weights: SlopeWeights, *, kept: bool
    ) -> TileSlopes:
        if not kept:
            mask_RC = self._mask(query_rows, shard, rows, columns)
            for level in range(len(self.chunks)):
                logit_RC, dropped_RC = self._logits(query_rows, shard, rows, columns, level, mask_RC)
                logit_RC.masked_fill_(dropped_RC, MASKED)
        dots = [self._slope(query_rows, shard, rows, columns, weights, level) for level in range(len(self.chunks))]
        level_tiles = [self._tile(buffer, rows, columns) for buffer in self.level_buffers]
        for level in reversed(range(len(level_tiles) - 1)):
            level_tiles[level].add_(level_tiles[level + 1])
        query_dots, document_dots = zip(*dots, strict=True)
        return TileSlopes(level_tiles, torch.stack(query_dots), torch.stack(document_dots))

    def _mask(self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice) -> Tensor:
        """The mask of the dropped cells. Allocates larger buffers if the present ones are too small."""
        num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
        self._allocate(num_rows, num_columns, query_rows.row_SD)
        table_columns = slice(shard.first + columns.start, shard.first + columns.stop)
        mask_buffer = self.mask_buffer[: num_rows * (num_columns + 1)].view(num_rows, num_columns + 1)
        self.rules.fill(mask_buffer, rows, table_columns)
        mask_RC = mask_buffer[:, :-1]
        if query_rows.max_cosine_KS is not None and self.problem.margin_dims == "full" and len(self.chunks) > 1:
            last = self.problem.dims[-1]
            cosine_RC = self._tile(self.scratch, rows, columns)
            torch.mm(query_rows.row_SD[rows, :last], shard.row_CD[columns, :last].T, out=cosine_RC)
            cosine_RC.mul_(query_rows.inverse_norm_KS[-1, rows, None]).mul_(shard.inverse_norm_KC[-1, columns])
            mask_RC |= cosine_RC > query_rows.max_cosine_KS[-1, rows, None]
        return mask_RC

    def _allocate(self, num_rows: int, num_columns: int, like: Tensor) -> None:
        cells = num_rows * num_columns
        if cells <= self._cells and num_rows <= self._num_rows:
            return
        self._cells, self._num_rows = max(cells, self._cells), max(num_rows, self._num_rows)
        for name in ("scratch", "column_slopes", "dot_buffer", "level_buffers", "mask_buffer", "margin_buffer"):
            vars(self).pop(name, None)  # free the old buffers first: old and new together would exceed the workspace
        tiles = [like.new_empty(self._cells) for _ in range(self._num_buffers)]
        self.scratch = tiles.pop()
        self.column_slopes = tiles.pop() if self.by_column and self.needs_gradient else None
        self.dot_buffer = tiles.pop() if len(self.chunks) > 1 else None
        self.level_buffers = tiles if self.needs_gradient else tiles * len(self.chunks)
        self.mask_buffer = like.new_empty(self._cells + self._num_rows, dtype=torch.bool)
        self.margin_buffer = like.new_empty(0 if self.problem.margin is None else self._cells, dtype=torch.bool)

    def _tile(self, buffer: Tensor, rows: slice, columns: slice) -> Tensor:
        num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
        return buffer[: num_rows * num_columns].view(num_rows, num_columns)

    def _logits(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, level: int, mask_RC: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The level's logits, in its buffer, and the mask of dropped cells. Call it for levels 0, 1, ... in turn."""
        chunk = self.chunks[level]
        logit_RC = self._tile(self.level_buffers[level], rows, columns)
        dot_RC = logit_RC if self.dot_buffer is None else self._tile(self.dot_buffer, rows, columns)
        if level == 0:
            torch.mm(query_rows.row_SD[rows, chunk], shard.row_CD[columns, chunk].T, out=dot_RC)
        else:
            dot_RC.addmm_(query_rows.row_SD[rows, chunk], shard.row_CD[columns, chunk].T)
        inverse_temperature_R = query_rows.inverse_temperature_S[rows]
        torch.mul(dot_RC, (query_rows.inverse_norm_KS[level, rows] * inverse_temperature_R)[:, None], out=logit_RC)
        logit_RC.mul_(shard.inverse_norm_KC[level, columns])
        by_level = self.problem.margin_dims == "level" or len(self.chunks) == 1
        if query_rows.max_cosine_KS is None or not by_level:
            return logit_RC, mask_RC
        max_logit_R = query_rows.max_cosine_KS[level, rows] * inverse_temperature_R
        above_RC = torch.gt(logit_RC, max_logit_R[:, None], out=self._tile(self.margin_buffer, rows, columns))
        return logit_RC, above_RC.logical_or_(mask_RC)

    def _lse(self, logit_RC: Tensor, max_logit: Tensor, dim: int) -> Tensor:
        """log-sum-exp over `dim`, computed in the scratch buffer. max_logit: the maximum over `dim`."""
        scratch_RC = self.scratch[: logit_RC.numel()].view(logit_RC.shape)
        return max_logit + torch.sub(logit_RC, max_logit.unsqueeze(dim), out=scratch_RC).exp_().sum(dim).log()

    def _slope(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, weights: SlopeWeights, level: int
    ) -> tuple[Tensor, Tensor]:
        """Overwrite a level's logits by dloss/dcosine * both inverse norms; returns the level's dots for `TileSlopes`.

        The dots are the sums, by row and by column, of dloss/dcosine * cosine = dloss/dlogit * logit.
        """
        logit_RC, slope_RC = (
            self._tile(self.level_buffers[level], rows, columns),
            self._tile(self.scratch, rows, columns),
        )
        torch.sub(logit_RC, weights.row_lse_KR[level, :, None], out=slope_RC).exp_()
        weight_R = weights.row_weight_KR[level]
        if weights.column_lse_KC is not None:
            assert weights.column_weight_KC is not None
            assert self.column_slopes is not None
            column_RC = torch.sub(
                logit_RC, weights.column_lse_KC[level], out=self._tile(self.column_slopes, rows, columns)
            )
            column_RC.exp_().mul_(weights.column_weight_KC[level])
            slope_RC.mul_(weight_R[:, None]).add_(column_RC)
            weight_R = torch.ones_like(weight_R)
        product_RC = logit_RC.mul_(slope_RC)
        query_dot_R, document_dot_C = product_RC.sum(1) * weight_R, product_RC.T @ weight_R
        slope_RC.mul_(
            (weight_R * query_rows.inverse_temperature_S[rows] * query_rows.inverse_norm_KS[level, rows])[:, None]
        )
        slope_RC.mul_(shard.inverse_norm_KC[level, columns])
        self.level_buffers[level], self.scratch = self.scratch, self.level_buffers[level]
        return query_dot_R, document_dot_C
