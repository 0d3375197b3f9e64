"""What the tile kernels read: tables in whole blocks of D, scales padded to whole tiles, masks."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fused_contrastive.cosine import chunks
from fused_contrastive.masks import Rules
from fused_contrastive.one_pass.tiles import Left, Shard
from fused_contrastive.problem import Problem
from fused_contrastive.triton.helpers import margin_kernel
from fused_contrastive.triton.launch import Block, Launcher, pad, whole
from fused_contrastive.triton.plane import Plane
from fused_contrastive.triton.sums import LOG2_E

_ZERO_ROW = 1e-6  # row scale of a zero row: its logits vanish, yet what is dropped stays far below them
_ALIGNED = 16  # numbers: rows start where wide loads and descriptors can


class TileInputs:
    """Arguments that `score_kernel` and `slope_kernel` have in common."""

    def __init__(self, problem: Problem, rules: Rules, launcher: Launcher) -> None:
        self.problem, self.rules, self.launcher, self.blocks = problem, rules, launcher, launcher.blocks
        self._judges_full = problem.margin is not None and problem.margin_dims == "full" and len(problem.dims) > 1
        lists = rules.own_SM, rules.excluded_SX, rules.group_S
        several = rules.positive_SP.shape[1] > 1 or len(rules.equalities) > 0
        self.has_plane = several or self._judges_full or any(rule is not None for rule in lists)
        self.marks = Plane(rules, problem.num_documents, launcher, problem.query_BD.device)
        self._chunks = chunks(problem.dims)
        ends = list(accumulate(-(-(chunk.stop - chunk.start) // launcher.blocks.dims) for chunk in self._chunks))
        self.num_steps = ends[-1]
        level_end = torch.tensor([*ends, 0], dtype=torch.int32, device=problem.query_BD.device)
        self._level_end = level_end if len(ends) > 1 else None
        self._tables: dict[str, tuple[Left | Shard, Tensor]] = {}

    def arguments(self, left: Left, shard: Shard, rows: slice, columns: slice, block: Block) -> dict[str, Any]:
        """Of one tile; valid until the next call."""
        scale_KR = left.inverse_KS[:, rows] * (left.inverse_temperature_S[rows] * LOG2_E)
        row_scale = pad(scale_KR.masked_fill(scale_KR == 0, _ZERO_ROW), block.rows, _ZERO_ROW)
        by_level = left.highest_KS is not None and not self._judges_full
        plane = self._plane(left, shard, rows, columns) if self.has_plane else None
        marks, plane_stride = self.launcher.table(plane, block.rows, block.width)
        return self._multiplied(left, shard, rows, columns, block) | {
            "row_scale": row_scale,
            "column_scale": pad(shard.inverse_KC[:, columns], block.columns),
            "positive": None if self.has_plane else self._positive(shard, rows, columns, block),
            "ceiling": self._ceiling(left, rows, block) if by_level else row_scale,
            "plane": marks,
            "level_end": self._level_end,
            "num_levels": len(self._chunks),
            "has_margin": int(by_level),
            "plane_stride": plane_stride,
            "PARTS": block.parts,
        }

    def _multiplied(self, left: Left, shard: Shard, rows: slice, columns: slice, block: Block) -> dict[str, Any]:
        """The tables and how to walk through them."""
        left_rows, right_rows = self._table(left, left.row_SD)[rows], self._table(shard, shard.row_CD)[columns]
        left_table, left_stride = self.launcher.table(left_rows, block.rows, self.blocks.dims)
        right_table, right_stride = self.launcher.table(right_rows, block.columns, self.blocks.dims)
        return {
            "left": left_table,
            "right": right_table,
            "num_rows": len(left_rows),
            "num_columns": len(right_rows),
            "num_steps": self.num_steps,
            "left_stride": left_stride,
            "right_stride": right_stride,
            "BLOCK_R": block.rows,
            "BLOCK_C": block.columns,
            "BLOCK_D": self.blocks.dims,
        }

    def _table(self, owner: Left | Shard, rows: Tensor) -> Tensor:
        """The rows as they are, if levels are whole blocks; else a copy, made once, with zeros between the levels."""
        dims = self.blocks.dims
        aligned = rows.data_ptr() % 16 == 0 and rows.stride(0) % _ALIGNED == 0 and rows.stride(1) == 1
        if aligned and all(chunk.stop % dims == 0 for chunk in self._chunks):
            return rows
        kind = type(owner).__name__
        known = self._tables.get(kind)
        if known is None or known[0] is not owner:
            copy = rows.new_zeros(len(rows), self.num_steps * dims)
            start = 0
            for chunk in self._chunks:
                width = chunk.stop - chunk.start
                copy[:, start : start + width] = rows[:, chunk]
                start += whole(width, dims)
            known = self._tables[kind] = (owner, copy)
        return known[1]

    def _positive(self, shard: Shard, rows: slice, columns: slice, block: Block) -> Tensor:
        positive_R = self.rules.positive_SP[rows, 0] - (shard.first + columns.start)
        return pad(positive_R.to(torch.int32), block.rows, -1)

    def _ceiling(self, left: Left, rows: slice, block: Block) -> Tensor:
        """The highest dot * column_scale that is kept."""
        assert left.highest_KS is not None
        return pad(left.highest_KS[:, rows] / left.inverse_KS[:, rows], block.rows)

    def _plane(self, left: Left, shard: Shard, rows: slice, columns: slice) -> Tensor:
        """See `Plane`."""
        rows_at_once = max(1, self.problem.workspace_bytes // 16 // max(1, self.marks.row_bytes))
        inside = slice(shard.first + columns.start, shard.first + columns.stop)
        plane = self.marks.fill(rows, inside, rows_at_once)
        if self._judges_full:
            self._judge_at_full_dims(plane, left, shard, rows, columns)
        return plane

    def _judge_at_full_dims(self, plane: Tensor, left: Left, shard: Shard, rows: slice, columns: slice) -> None:
        """A first pass over D that compares the cosines of the last level alone."""
        block = self.blocks.margin
        arguments = self._multiplied(left, shard, rows, columns, block)
        marks, plane_stride = self.launcher.table(plane, block.rows, block.columns)
        arguments |= {
            "column_scale": pad(shard.inverse_KC[-1, columns], block.columns),
            "ceiling": self._ceiling(left, rows, block)[-1].contiguous(),
            "plane": marks,
            "plane_stride": plane_stride,
        }
        num_programs = block.num_programs(arguments["num_rows"], arguments["num_columns"])
        self.launcher.launch(margin_kernel, num_programs, block, arguments)
