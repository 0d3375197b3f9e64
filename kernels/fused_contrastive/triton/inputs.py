"""Turns query rows, a shard and mask rules into the arguments of the tile kernels.

Every level of the embeddings is padded to whole blocks of D; vectors are padded to whole tiles.
"""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from fused_contrastive.cosine import chunks
from fused_contrastive.masks import MaskRules
from fused_contrastive.one_pass.tiles import QueryRows, Shard
from fused_contrastive.problem import Problem
from fused_contrastive.triton.auxiliary_kernels import margin_kernel
from fused_contrastive.triton.drop_mask import DropMask
from fused_contrastive.triton.launch import Block, Launcher, pad_to_blocks, round_up
from fused_contrastive.triton.partial_sums import LOG2_E

_ZERO_ROW = 1e-6  # row scale of a zero row; not 0, so that DROPPED * _ZERO_ROW is still far below every logit
_ALIGNED = 16  # row strides must be multiples of this many numbers for wide loads and tensor descriptors


class TileInputs:
    """Makes the arguments that `score_kernel` and `slope_kernel` have in common."""

    def __init__(self, problem: Problem, rules: MaskRules, launcher: Launcher) -> None:
        self.problem, self.rules, self.launcher, self.blocks = problem, rules, launcher, launcher.blocks
        self._compares_margin_at_full_dims = (
            problem.margin is not None and problem.margin_dims == "full" and len(problem.dims) > 1
        )
        lists = rules.own_SM, rules.excluded, rules.group_S
        several = rules.positive_SP.shape[1] > 1 or len(rules.equal_keys) > 0
        self.has_drop_mask = several or self._compares_margin_at_full_dims or any(rule is not None for rule in lists)
        self.drop_mask = DropMask(rules, problem.num_documents, launcher, problem.query_BD.device)
        self._chunks = chunks(problem.dims)
        ends = list(accumulate(-(-(chunk.stop - chunk.start) // launcher.blocks.dims) for chunk in self._chunks))
        self.num_steps = ends[-1]
        level_end = torch.tensor([*ends, 0], dtype=torch.int32, device=problem.query_BD.device)
        self._level_end = level_end if len(ends) > 1 else None
        self._tables: dict[str, tuple[QueryRows | Shard, Tensor]] = {}

    def arguments(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, block: Block
    ) -> dict[str, Any]:
        """The arguments for one tile, by name. They are valid until the next call."""
        scale_KR = query_rows.inverse_norm_KS[:, rows] * (query_rows.inverse_temperature_S[rows] * LOG2_E)
        row_scale = pad_to_blocks(scale_KR.masked_fill(scale_KR == 0, _ZERO_ROW), block.rows, _ZERO_ROW)
        by_level = query_rows.max_cosine_KS is not None and not self._compares_margin_at_full_dims
        drop_mask = self._filled_mask(query_rows, shard, rows, columns) if self.has_drop_mask else None
        mask_table, drop_mask_stride = self.launcher.table(drop_mask, block.rows, block.width)
        return self._table_arguments(query_rows, shard, rows, columns, block) | {
            "row_scale": row_scale,
            "column_scale": pad_to_blocks(shard.inverse_norm_KC[:, columns], block.columns),
            "positive": None if self.has_drop_mask else self._positive(shard, rows, columns, block),
            "ceiling": self._ceiling(query_rows, rows, block) if by_level else row_scale,
            "drop_mask": mask_table,
            "level_end": self._level_end,
            "num_levels": len(self._chunks),
            "has_margin": int(by_level),
            "drop_mask_stride": drop_mask_stride,
            "PARTS": block.parts,
        }

    def _table_arguments(
        self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice, block: Block
    ) -> dict[str, Any]:
        """Embeddings of the tile's query rows and documents, their sizes and strides, and the block sizes."""
        queries = self._table(query_rows, query_rows.row_SD)[rows]
        documents = self._table(shard, shard.row_CD)[columns]
        query_table, query_stride = self.launcher.table(queries, block.rows, self.blocks.dims)
        document_table, document_stride = self.launcher.table(documents, block.columns, self.blocks.dims)
        return {
            "query": query_table,
            "document": document_table,
            "num_rows": len(queries),
            "num_columns": len(documents),
            "num_steps": self.num_steps,
            "query_stride": query_stride,
            "document_stride": document_stride,
            "BLOCK_R": block.rows,
            "BLOCK_C": block.columns,
            "BLOCK_D": self.blocks.dims,
        }

    def _table(self, owner: QueryRows | Shard, rows: Tensor) -> Tensor:
        """The rows, if every level ends at a whole block of D; otherwise a copy padded with zeros to whole blocks.

        The copy is cached per `owner` object, not per address, because a shard of a ring may get the memory of the
        previous shard.
        """
        dims = self.blocks.dims
        aligned = rows.data_ptr() % 16 == 0 and rows.stride(0) % _ALIGNED == 0 and rows.stride(1) == 1
        if aligned and all(chunk.stop % dims == 0 for chunk in self._chunks):
            return rows
        owner_type = type(owner).__name__
        cached = self._tables.get(owner_type)
        if cached is None or cached[0] is not owner:
            copy = rows.new_zeros(len(rows), self.num_steps * dims)
            start = 0
            for chunk in self._chunks:
                width = chunk.stop - chunk.start
                copy[:, start : start + width] = rows[:, chunk]
                start += round_up(width, dims)
            cached = self._tables[owner_type] = (owner, copy)
        return cached[1]

    def _positive(self, shard: Shard, rows: slice, columns: slice, block: Block) -> Tensor:
        """The column, within the tile, of each row's only positive; not a valid column if it is outside of the tile."""
        positive_R = self.rules.positive_SP[rows, 0] - (shard.first + columns.start)
        return pad_to_blocks(positive_R.to(torch.int32), block.rows, -1)

    def _ceiling(self, query_rows: QueryRows, rows: slice, block: Block) -> Tensor:
        """The highest dot * column_scale that the margin keeps, per level and row."""
        assert query_rows.max_cosine_KS is not None
        return pad_to_blocks(query_rows.max_cosine_KS[:, rows] / query_rows.inverse_norm_KS[:, rows], block.rows)

    def _filled_mask(self, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice) -> Tensor:
        """The tile's `DropMask`, including the cells that the margin drops if it uses the full dims."""
        rows_at_once = max(1, self.problem.workspace_bytes // 16 // max(1, self.drop_mask.row_bytes))
        table_columns = slice(shard.first + columns.start, shard.first + columns.stop)
        drop_mask = self.drop_mask.fill(rows, table_columns, rows_at_once)
        if self._compares_margin_at_full_dims:
            self._mark_above_margin_at_full_dims(drop_mask, query_rows, shard, rows, columns)
        return drop_mask

    def _mark_above_margin_at_full_dims(
        self, drop_mask: Tensor, query_rows: QueryRows, shard: Shard, rows: slice, columns: slice
    ) -> None:
        """Set the mask to 1 where the last level's cosine is above the margin. This is one more pass over D."""
        block = self.blocks.margin
        arguments = self._table_arguments(query_rows, shard, rows, columns, block)
        mask_table, drop_mask_stride = self.launcher.table(drop_mask, block.rows, block.columns)
        arguments |= {
            "column_scale": pad_to_blocks(shard.inverse_norm_KC[-1, columns], block.columns),
            "ceiling": self._ceiling(query_rows, rows, block)[-1].contiguous(),
            "drop_mask": mask_table,
            "drop_mask_stride": drop_mask_stride,
        }
        num_programs = block.num_programs(arguments["num_rows"], arguments["num_columns"])
        self.launcher.launch(margin_kernel, num_programs, block, arguments)
