# mypy: disable-error-code="no-untyped-def"
# ruff: noqa: RUF059, SIM102 (tuples are unpacked whole; an `if` decided at compile time stands alone)
"""The two kernels that compute tiles of the similarity matrix. Logits are in base 2: cosine / temperature * log2(e).

A program computes the dot products of BLOCK_R query rows and BLOCK_C documents in one pass over D. At the end of each
Matryoshka level, the running dot products are those of the level, and an epilogue turns them into the level's results.
The epilogue processes 1 / PARTS of the columns at a time, so that they fit into registers.

Each part stores one partial sum per row (T parts), and each program stores one partial sum per column (U rows of
programs). Therefore no locks are needed, and every order of summation is fixed. Vectors are padded to whole tiles; only
row numbers of `query` and `document` are compared with their length. If an argument is None, the code that uses it is
removed at compile time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from fused_contrastive.triton.device_functions import (
    DROPPED,
    halves,
    hidden_zero,
    multiply,
    must_compare,
    padded,
    place,
    scaled_dots,
    store_tile,
)

EMPTY = tl.constexpr(-1e12)  # below every logit of a kept cell, above every logit of a dropped cell
MASKED = tl.constexpr(-1.4426950408889634e30)  # tiles.MASKED * log2(e)
_ANY_VALUE = ["num_rows", "num_columns", "num_steps", "num_levels", "has_margin"]  # one binary for all values


@triton.jit(do_not_specialize=_ANY_VALUE)
def score_kernel(
    query,  # [R, D]
    document,  # [C, D]
    row_scale,  # [K, R], above 0: logit = dot * column_scale * row_scale
    column_scale,  # [K, C]
    positive,  # [R]: the column of the row's positive, which is dropped; None if there is a drop_mask, which drops it
    ceiling,  # [K, R]: if has_margin, cells with dot * column_scale above it are dropped
    drop_mask,  # int8 [R, C], not 0 where the cell is dropped, or None
    level_end,  # [K + 1] in blocks of D (the last entry is read but not used), or None for a single level
    row_max,  # [K, T, R]: maximum of the logits
    row_sum,  # [K, T, R]: sum of 2^(logit - maximum)
    row_product,  # [K, T, R]: sum of 2^(logit - maximum) * logit; None without panel
    row_count,  # [T, R]: number of cells kept at the last level
    row_total,  # [T, R]: sum of the logits of these cells
    column_max,  # [K, U, C] or None
    column_sum,  # [K, U, C] or None
    panel,  # [K * R, C]: HEADROOM * 2^(logit - maximum of the part), or None
    num_rows,
    num_columns,
    num_steps,
    num_levels,
    has_margin,
    query_stride,
    document_stride,
    drop_mask_stride,
    panel_stride,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
    HEADROOM: tl.constexpr,
):
    row_tile, column_tile = place(num_rows, num_columns, BLOCK_R, BLOCK_C)
    tables = (query, query_stride, document, document_stride)
    sizes = (num_rows, num_columns, padded(num_rows, BLOCK_R), padded(num_columns, BLOCK_C))
    scales = (row_scale, column_scale)
    masks = (positive, ceiling, drop_mask, drop_mask_stride, has_margin)
    sums = (row_max, row_sum, row_product, row_count, row_total, column_max, column_sum, panel, panel_stride)
    compare = must_compare(masks, sizes, row_tile, column_tile, BLOCK_R, BLOCK_C)
    level = 0
    if level_end is not None:
        end = tl.load(level_end)
    dot = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for step in range(num_steps):
        dot = multiply(tables, sizes, row_tile, column_tile, step, dot, BLOCK_R, BLOCK_C, BLOCK_D)
        if level_end is not None:
            if step + 1 == end:
                last = level == num_levels - 1
                row, part = row_tile + hidden_zero(level), (column_tile + hidden_zero(level)) * PARTS
                _score(dot, scales, masks, sums, sizes, level, last, compare, row, part, PARTS, HEADROOM)
                level += 1
                end = tl.load(level_end + level)
    if level_end is None:
        part = column_tile * PARTS
        _score(dot, scales, masks, sums, sizes, 0, True, compare, row_tile, part, PARTS, HEADROOM)


@triton.jit
def _score(
    dot, scales, masks, sums, sizes, level, last, compare, row_tile, part,
    PARTS: tl.constexpr, HEADROOM: tl.constexpr,
):  # fmt: skip
    """The epilogue of `score_kernel`, for PARTS parts from `part` on."""
    if PARTS > 1:
        first, second = halves(dot)
        _score(first, scales, masks, sums, sizes, level, last, compare, row_tile, part, PARTS // 2, HEADROOM)
        part += PARTS // 2
        _score(second, scales, masks, sums, sizes, level, last, compare, row_tile, part, PARTS // 2, HEADROOM)
    else:
        row_scale, column_scale = scales
        row_max, row_sum, row_product, row_count, row_total, column_max, column_sum, panel, panel_stride = sums
        num_rows, num_columns, row_length, column_length = sizes
        first_row, first_column = row_tile * dot.shape[0], part * dot.shape[1]
        row = first_row + tl.arange(0, dot.shape[0])
        scaled = scaled_dots(dot, column_scale, masks, sizes, level, compare, first_row, first_column)
        scale = tl.load(row_scale + level * row_length + row)
        if last:
            _count(scaled, scale, masks, compare, row_count, row_total, part.to(tl.int64) * row_length + row)
        if column_max is not None:
            column = first_column + tl.arange(0, dot.shape[1])
            offset = (level * (row_length // dot.shape[0]) + row_tile).to(tl.int64) * column_length + column
            _sum_columns(scaled * scale[:, None], column_max + offset, column_sum + offset)
        peak = tl.max(scaled, 1)
        peak = tl.where(peak == DROPPED, MASKED, peak * scale)
        weight = tl.exp2(scaled * scale[:, None] - tl.where(peak == MASKED, 0.0, peak)[:, None])
        offset = (level * (column_length // dot.shape[1]) + part).to(tl.int64) * row_length + row
        tl.store(row_max + offset, peak)
        tl.store(row_sum + offset, tl.sum(weight, 1))
        if panel is not None:
            tl.store(row_product + offset, tl.sum(weight * scaled, 1) * scale)
            store_tile(panel, panel_stride, level * row_length + first_row, first_column, weight * HEADROOM)


@triton.jit
def _count(scaled, scale, masks, compare, row_count, row_total, offset):
    """Store the number of negatives per row, and the sum of their logits."""
    positive, ceiling, drop_mask, drop_mask_stride, has_margin = masks
    if (drop_mask is None) & (has_margin == 0) & (compare == 0):
        count = tl.full((scaled.shape[0],), scaled.shape[1], tl.float32)
        total = tl.sum(scaled, 1)
    else:
        count = tl.sum(tl.minimum(scaled - DROPPED, 1.0), 1)
        total = tl.sum(tl.where(scaled == DROPPED, 0.0, scaled), 1)
    tl.store(row_count + offset, count)
    tl.store(row_total + offset, total * scale)


@triton.jit
def _sum_columns(logit, column_max, column_sum):
    """Store the maximum and the sum of 2^(logit - maximum) per column."""
    peak = tl.max(logit, 0)
    empty = peak < EMPTY
    weight = tl.exp2(logit - tl.where(empty, 0.0, peak)[None, :])
    tl.store(column_max, tl.where(empty, MASKED, peak))
    tl.store(column_sum, tl.sum(weight, 0))


@triton.jit(do_not_specialize=_ANY_VALUE)
def slope_kernel(
    query,  # the arguments from here to level_end are as in `score_kernel`
    document,
    row_scale,
    column_scale,
    positive,
    ceiling,
    drop_mask,
    level_end,
    # dloss/dlogit = row_weight * 2^(logit - row_offset) + column_weight * 2^(logit - column_offset)
    row_offset,  # [K, R]
    row_weight,  # [K, R]
    row_factor,  # [K, R]: panel = dloss/dlogit * row_factor * column_scale
    column_offset,  # [K, C] or None
    column_weight,  # [K, C] or None
    row_dot,  # [K, T, R]: sum of slope * logit
    column_dot,  # [K, U, C]: sum of slope * logit
    panel,  # [K * R, C]
    num_rows,
    num_columns,
    num_steps,
    num_levels,
    has_margin,
    query_stride,
    document_stride,
    drop_mask_stride,
    panel_stride,
    BLOCK_R: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PARTS: tl.constexpr,
):
    row_tile, column_tile = place(num_rows, num_columns, BLOCK_R, BLOCK_C)
    tables = (query, query_stride, document, document_stride)
    sizes = (num_rows, num_columns, padded(num_rows, BLOCK_R), padded(num_columns, BLOCK_C))
    masks = (positive, ceiling, drop_mask, drop_mask_stride, has_margin)
    factors = (row_scale, column_scale, row_offset, row_weight, row_factor, column_offset, column_weight)
    results = (row_dot, column_dot, panel, panel_stride)
    compare = must_compare(masks, sizes, row_tile, column_tile, BLOCK_R, BLOCK_C)
    level = 0
    if level_end is not None:
        end = tl.load(level_end)
    dot = tl.zeros((BLOCK_R, BLOCK_C), tl.float32)
    for step in range(num_steps):
        dot = multiply(tables, sizes, row_tile, column_tile, step, dot, BLOCK_R, BLOCK_C, BLOCK_D)
        if level_end is not None:
            if step + 1 == end:
                row, part = row_tile + hidden_zero(level), (column_tile + hidden_zero(level)) * PARTS
                _slope(dot, factors, masks, results, sizes, level, compare, row, part, PARTS)
                level += 1
                end = tl.load(level_end + level)
    if level_end is None:
        _slope(dot, factors, masks, results, sizes, 0, compare, row_tile, column_tile * PARTS, PARTS)


@triton.jit
def _slope(dot, factors, masks, results, sizes, level, compare, row_tile, part, PARTS: tl.constexpr):
    """The epilogue of `slope_kernel`, for PARTS parts from `part` on."""
    if PARTS > 1:
        first, second = halves(dot)
        _slope(first, factors, masks, results, sizes, level, compare, row_tile, part, PARTS // 2)
        _slope(second, factors, masks, results, sizes, level, compare, row_tile, part + PARTS // 2, PARTS // 2)
    else:
        row_scale, column_scale, row_offset, row_weight, row_factor, column_offset, column_weight = factors
        row_dot, column_dot, panel, panel_stride = results
        num_rows, num_columns, row_length, column_length = sizes
        first_row, first_column = row_tile * dot.shape[0], part * dot.shape[1]
        row = level * row_length + first_row + tl.arange(0, dot.shape[0])
        column = level * column_length + first_column + tl.arange(0, dot.shape[1])
        scaled = scaled_dots(dot, column_scale, masks, sizes, level, compare, first_row, first_column)
        scale = tl.load(row_scale + row)
        slope = tl.exp2(scaled * scale[:, None] - tl.load(row_offset + row)[:, None])
        slope = slope * tl.load(row_weight + row)[:, None]
        if column_offset is not None:
            by_column = tl.exp2(scaled * scale[:, None] - tl.load(column_offset + column)[None, :])
            slope += by_column * tl.load(column_weight + column)[None, :]
        product = slope * scaled
        part_row = (level * (column_length // dot.shape[1]) + part).to(tl.int64) * row_length + first_row
        tile_column = (level * (row_length // dot.shape[0]) + row_tile).to(tl.int64) * column_length + first_column
        tl.store(row_dot + part_row + tl.arange(0, dot.shape[0]), tl.sum(product, 1) * scale)
        tl.store(column_dot + tile_column + tl.arange(0, dot.shape[1]), tl.sum(product * scale[:, None], 0))
        slope = slope * tl.load(row_factor + row)[:, None] * tl.load(column_scale + column)[None, :]
        store_tile(panel, panel_stride, level * row_length + first_row, first_column, slope)
