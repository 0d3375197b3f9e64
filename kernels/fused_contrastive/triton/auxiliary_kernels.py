# mypy: disable-error-code="no-untyped-def"
"""Small kernels that support `tile_kernels.py`: two fill the drop mask, and one turns stored weights into slopes."""

from __future__ import annotations

import triton
import triton.language as tl

from fused_contrastive.triton.device_functions import load_tile, multiply, padded, place, store_tile


@triton.jit(do_not_specialize=["row_length", "column_length", "num_levels"])
def combine_kernel(
    panel,  # [K * R, C]: weights that `score_kernel` stored or, without row_max, slopes; overwritten by sums of slopes
    row_max,  # [K, T, R], or None; if None, the following arguments up to column_dot are None as well
    row_offset,  # as in `slope_kernel`
    row_weight,
    row_factor,
    column_scale,
    column_dot,  # [K, U, C]: sums of slope * logit
    row_length,  # R and C, padded to whole tiles
    column_length,
    num_levels,
    panel_stride,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    HEADROOM: tl.constexpr,
):
    """panel[k] = sum of the slopes at level k and all higher levels."""
    num_parts = column_length // BLOCK_C
    row_tile, part = tl.program_id(0) // num_parts, tl.program_id(0) % num_parts
    row, column = tl.arange(0, BLOCK_R), tl.arange(0, BLOCK_C)
    start = panel + part * BLOCK_C + row[:, None] * panel_stride + column[None, :]
    total = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for count in range(num_levels):
        level = num_levels - 1 - count
        first_row = level * row_length + row_tile * BLOCK_R
        cells = start + first_row.to(tl.int64) * panel_stride
        slope = tl.load(cells).to(tl.float32)
        if row_max is not None:
            peak = tl.load(row_max + (level * num_parts + part).to(tl.int64) * row_length + row_tile * BLOCK_R + row)
            share = tl.exp2(peak - tl.load(row_offset + first_row + row)) * tl.load(row_weight + first_row + row)
            logit = tl.log2(tl.where(slope > 0, slope, HEADROOM) / HEADROOM) + peak[:, None]
            slope = slope * (share / HEADROOM)[:, None]
            tile_row = (level * (row_length // BLOCK_R) + row_tile).to(tl.int64)
            part_column = tile_row * column_length + part * BLOCK_C + column
            tl.store(column_dot + part_column, tl.sum(slope * logit, 0))
            scale = tl.load(column_scale + level * column_length + part * BLOCK_C + column)
            slope = slope * tl.load(row_factor + first_row + row)[:, None] * scale[None, :]
        total += slope
        tl.store(cells, total.to(panel.dtype.element_ty))


@triton.jit(do_not_specialize=["num_rows", "num_columns", "num_steps"])
def margin_kernel(
    query,  # the arguments from here to ceiling are as in `score_kernel`, for the last level only
    document,
    column_scale,
    ceiling,
    drop_mask,  # set to 1 where dot * column_scale is above the row's ceiling
    num_rows,
    num_columns,
    num_steps,
    query_stride,
    document_stride,
    drop_mask_stride,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    row_tile, column_tile = place(num_rows, num_columns, BLOCK_R, BLOCK_C)
    tables = (query, query_stride, document, document_stride)
    sizes = (num_rows, num_columns)
    dot = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for step in range(num_steps):
        dot = multiply(tables, sizes, row_tile, column_tile, step, dot, BLOCK_R, BLOCK_C, BLOCK_D)
    first_row, first_column = row_tile * BLOCK_R, column_tile * BLOCK_C
    scaled = dot * tl.load(column_scale + first_column + tl.arange(0, BLOCK_C))[None, :]
    above = scaled > tl.load(ceiling + first_row + tl.arange(0, BLOCK_R))[:, None]
    mark = load_tile(drop_mask, drop_mask_stride, padded(num_rows, BLOCK_R), first_row, first_column, BLOCK_R, BLOCK_C)
    store_tile(drop_mask, drop_mask_stride, first_row, first_column, tl.where(above, 1, mark))


@triton.jit(do_not_specialize=["row_length", "column_length"])
def mark_kernel(
    drop_mask,  # int8 [R, C]: 0 undecided, 1 dropped or 2 kept in any group; overwritten by 0 (kept) or 1 (dropped)
    row_labels,  # [3, R]: group, key, second key
    column_labels,  # [3, C]
    row_length,  # R and C, padded to whole tiles
    column_length,
    drop_mask_stride,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Set to 1 the cells whose document has a different group from the query row, or an equal key."""
    num_tiles = column_length // BLOCK_C
    first_row, first_column = tl.program_id(0) // num_tiles * BLOCK_R, tl.program_id(0) % num_tiles * BLOCK_C
    row, column = first_row + tl.arange(0, BLOCK_R), first_column + tl.arange(0, BLOCK_C)
    mark = load_tile(drop_mask, drop_mask_stride, row_length, first_row, first_column, BLOCK_R, BLOCK_C)
    other_group = tl.load(row_labels + row)[:, None] != tl.load(column_labels + column)[None, :]
    dropped = (mark == 1) | ((mark == 0) & other_group)
    for key in tl.static_range(1, 3):
        row_key = tl.load(row_labels + key * row_length + row)
        dropped = dropped | (row_key[:, None] == tl.load(column_labels + key * column_length + column)[None, :])
    store_tile(drop_mask, drop_mask_stride, first_row, first_column, tl.where(dropped, 1, 0))
