"""Computes the drop mask from the mask rules: one mark per cell of a tile.

The mask is not needed if every query row drops only its single positive, because the kernels handle this case alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fused_contrastive.masks import EqualKeys, MaskRules, mark_equal, scatter_listed
from fused_contrastive.triton.auxiliary_kernels import mark_kernel
from fused_contrastive.triton.launch import Block, Buffers, Launcher, pad_to_blocks, round_up

_NUM_KEYS = 2  # number of `EqualKeys` that `mark_kernel` compares for every cell


class DropMask:
    """int8 [R, C], padded to whole blocks or more, valid until the next `fill`: 1 where the rules drop a cell, else 0.

    First torch scatters the lists: 1 means dropped, 2 means an own negative, which is kept in any group. Then the
    kernel compares groups and keys for every cell and writes 0 or 1. At last torch marks the remaining `EqualKeys`,
    which have few columns.
    """

    def __init__(self, rules: MaskRules, num_documents: int, launcher: Launcher, device: torch.device) -> None:
        self.rules, self.launcher = rules, launcher
        self.buffers = Buffers(device)
        by_length = sorted(rules.equal_keys, key=lambda keys: len(keys.column_E), reverse=True)
        by_kernel, self._by_torch = by_length[:_NUM_KEYS], by_length[_NUM_KEYS:]
        self._labels = _labels(rules, by_kernel, num_documents)

    @property
    def row_bytes(self) -> int:
        """Memory that `fill` needs per row in addition to the mask."""
        entries = max((len(keys.column_E) for keys in self._by_torch), default=0)
        return self.rules.bytes_per_row + 4 * entries

    def fill(self, rows: slice, columns: slice, rows_at_once: int) -> Tensor:
        """The mask of query rows `rows` and documents `columns` of the whole table.

        rows_at_once: number of rows whose lists are copied at a time.
        """
        num_rows, num_columns = rows.stop - rows.start, columns.stop - columns.start
        drop_mask = self.buffers.get("drop_mask", torch.int8, *self._shape(num_rows, num_columns)).zero_()
        marks = drop_mask[:num_rows, : num_columns + 1]  # marks of documents outside the tile go to the last column
        parts = [slice(start, start + rows_at_once) for start in range(0, num_rows, rows_at_once)]
        for part in parts:
            self._scatter(marks[part], _within(rows, part), columns)
        if self.rules.excluded is not None:
            self.rules.excluded.write(marks, rows, columns, 1)
        if self._labels is not None:
            self._compare(drop_mask, rows, columns)
        for keys in self._by_torch:
            for part in parts:
                mark_equal(marks[part, :-1], keys, _within(rows, part), columns)
        return drop_mask

    def _shape(self, num_rows: int, num_columns: int) -> tuple[int, int]:
        blocks = [block for block in self.launcher.blocks if isinstance(block, Block)]
        height = max(round_up(num_rows, block.rows) for block in blocks)
        return height, max(round_up(num_columns + 1, block.columns) for block in blocks)

    def _scatter(self, marks: Tensor, rows: slice, columns: slice) -> None:
        scatter_listed(marks, self.rules.own_SM, rows, columns, 2)
        scatter_listed(marks, self.rules.positive_SP, rows, columns, 1)

    def _compare(self, drop_mask: Tensor, rows: slice, columns: slice) -> None:
        block = self.launcher.blocks.mark
        assert self._labels is not None
        row_labels, column_labels = self._labels
        height = round_up(rows.stop - rows.start, block.rows)
        width = round_up(columns.stop - columns.start, block.columns)
        arguments = {
            "drop_mask": drop_mask,
            "row_labels": pad_to_blocks(row_labels[:, rows], block.rows),
            "column_labels": pad_to_blocks(column_labels[:, columns], block.columns),
            "row_length": height,
            "column_length": width,
            "drop_mask_stride": drop_mask.stride(0),
            "BLOCK_R": block.rows,
            "BLOCK_C": block.columns,
        }
        self.launcher.launch(mark_kernel, block.num_programs(height, width), block, arguments)


def _within(rows: slice, part: slice) -> slice:
    return slice(rows.start + part.start, min(rows.start + part.stop, rows.stop))


def _labels(rules: MaskRules, equal_keys: list[EqualKeys], num_documents: int) -> tuple[Tensor, Tensor] | None:
    """int32 [3, S] and [3, N], for query rows and documents: group, first key, second key; None if no rule needs them.

    Without groups all group labels are 0. A document without a key has -2 and a query row without a key has -1, so that
    they are never equal.
    """
    if rules.group_S is None and not equal_keys:
        return None
    row_labels = rules.positive_SP.new_full((1 + _NUM_KEYS, len(rules.positive_SP)), -1, dtype=torch.int32)
    column_labels = row_labels.new_full((1 + _NUM_KEYS, num_documents), -2)
    row_labels[0], column_labels[0] = 0, 0
    if rules.group_S is not None:
        assert rules.group_N is not None
        number = torch.cat([rules.group_S, rules.group_N]).unique(return_inverse=True)[1]
        row_labels[0], column_labels[0] = number[: len(rules.group_S)], number[len(rules.group_S) :]
    for key, keys in enumerate(equal_keys, start=1):
        row_labels[key] = keys.query_key_S
        column_labels[key, keys.column_E] = keys.document_key_E.to(torch.int32)
    return row_labels, column_labels
