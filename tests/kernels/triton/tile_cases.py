"""Tiles with any set of rules, and their expected scores and slopes by the formulas of `one_pass/tiles.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from fused_contrastive.cosine import chunks, prefix_inverse_norms, prefix_sums, suffix_sums
from fused_contrastive.masks import MaskRules
from fused_contrastive.one_pass.tiles import MASKED, QueryRows, Shard, SlopeWeights, TileScores, TileSlopes
from fused_contrastive.problem import Problem
from fused_contrastive.triton.tiles import TritonTiles
from fused_contrastive.validation import checked_problem
from torch import Tensor

from tests.kernels.cases import grouped, make_case

FIRST, START = 4, 3  # first row of the shard in the table; first row of the tile in the shard


@dataclass
class Tile:
    """A tile of all query rows and most columns of a shard, and the formulas for its scores and slopes."""

    problem: Problem
    rules: MaskRules
    query_rows: QueryRows
    shard: Shard
    rows: slice
    columns: slice

    def score(self, tiles: TritonTiles, *, keep: bool = False, by_column: bool = False) -> TileScores:
        return tiles.score(self.query_rows, self.shard, self.rows, self.columns, keep=keep, by_column=by_column)

    def slopes(self, tiles: TritonTiles, weights: SlopeWeights, *, kept: bool = False) -> TileSlopes:
        return tiles.slopes(self.query_rows, self.shard, self.rows, self.columns, weights, kept=kept)

    def tiles(self, *, by_column: bool = True) -> TritonTiles:
        return TritonTiles(self.problem, self.rules, by_column=by_column, needs_gradient=True)

    @property
    def rounding(self) -> float:
        """Allowed relative error of e^logit: the logit is rounded once, and a few more roundings follow."""
        return torch.finfo(torch.float32).eps * (4 + self.query_rows.inverse_temperature_S.max().item())

    def cosines(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return the cosines [K, R, C], computed in `dtype`, and a mask of those to drop."""
        rows_RD, rows_CD = self.query_rows.row_SD.to(dtype), self.shard.row_CD[self.columns].to(dtype)
        dot_KRC = prefix_sums(rows_RD[:, chunk] @ rows_CD[:, chunk].T for chunk in chunks(self.problem.dims))
        inverse_norm_KR, inverse_norm_KC = (
            self.query_rows.inverse_norm_KS.to(dtype),
            self.shard.inverse_norm_KC[:, self.columns].to(dtype),
        )
        cosine_KRC = dot_KRC * inverse_norm_KR[..., None] * inverse_norm_KC[:, None]
        dropped_RC = torch.zeros(len(rows_RD), len(rows_CD) + 1, dtype=torch.bool)
        columns_in_table = slice(self.shard.first + self.columns.start, self.shard.first + self.columns.stop)
        self.rules.fill(dropped_RC, self.rows, columns_in_table)
        dropped_KRC = dropped_RC[:, :-1].expand_as(cosine_KRC)
        if self.query_rows.max_cosine_KS is not None:
            above_KRC = cosine_KRC > self.query_rows.max_cosine_KS[..., None]
            full = self.problem.margin_dims == "full"
            dropped_KRC = dropped_KRC | (above_KRC[-1:] if full else above_KRC)
        return cosine_KRC, dropped_KRC

    def expected_scores(self, dtype: torch.dtype) -> dict[str, Tensor]:
        cosine_KRC, dropped_KRC = self.cosines(dtype)
        logit_KRC = (cosine_KRC * self.query_rows.inverse_temperature_S.to(dtype)[:, None]).masked_fill(
            dropped_KRC, MASKED
        )
        return {
            "lse_KR": logit_KRC.logsumexp(2),
            "hardest_R": cosine_KRC[-1].masked_fill(dropped_KRC[-1], MASKED).amax(1),
            "similarity_sum_R": cosine_KRC[-1].masked_fill(dropped_KRC[-1], 0).sum(1),
            "num_kept_R": (~dropped_KRC[-1]).sum(1),
            "column_lse_KC": logit_KRC.logsumexp(1),
        }

    def expected_slopes(self, weights: SlopeWeights, dtype: torch.dtype) -> dict[str, Tensor]:
        cosine_KRC, dropped_KRC = self.cosines(dtype)
        inverse_temperature_R1 = self.query_rows.inverse_temperature_S.to(dtype)[:, None]
        logit_KRC = cosine_KRC * inverse_temperature_R1
        slope_KRC = (logit_KRC - weights.row_lse_KR.to(dtype)[..., None]).exp() * weights.row_weight_KR[..., None]
        if weights.column_lse_KC is not None:
            by_column_KRC = (logit_KRC - weights.column_lse_KC.to(dtype)[:, None]).exp()
            slope_KRC += by_column_KRC * weights.column_weight_KC[:, None]
        slope_KRC = (slope_KRC * inverse_temperature_R1).masked_fill(dropped_KRC, 0)
        inverse_norm_KR, inverse_norm_KC = (
            self.query_rows.inverse_norm_KS.to(dtype),
            self.shard.inverse_norm_KC[:, self.columns].to(dtype),
        )
        return {
            "pair_weight_KRC": suffix_sums(slope_KRC * inverse_norm_KR[..., None] * inverse_norm_KC[:, None]),
            "query_dot_KR": (slope_KRC * cosine_KRC).sum(2),
            "document_dot_KC": (slope_KRC * cosine_KRC).sum(1),
        }

    def weights(self, *, columns: bool) -> SlopeWeights:
        """Slope weights with the denominators of this tile alone."""
        scores = self.expected_scores(torch.float64)
        lse_KR, lse_KC = scores["lse_KR"].float(), scores["column_lse_KC"].float()
        row_weight_KR = torch.linspace(0, 1, lse_KR.numel()).view_as(lse_KR) / len(lse_KR[0])
        column_weight_KC = torch.linspace(1, 0, lse_KC.numel()).view_as(lse_KC) / len(lse_KC[0])
        return SlopeWeights(lse_KR, row_weight_KR, *((lse_KC, column_weight_KC) if columns else (None, None)))


def make_tile(
    features: set[str],
    dtype: torch.dtype = torch.float32,
    size: tuple[int, int] = (19, 47),
    scope: str = "all",
    **changes: Any,
) -> Tile:
    arguments = make_case(features, scope, *size, width=34).arguments | changes
    for name in ("query_BD", "document_ND"):
        arguments[name] = arguments[name].to(dtype)
    return tile_of(checked_problem(**grouped(arguments)))


def tile_of(problem: Problem) -> Tile:
    shard_rows = problem.document_ND[FIRST:]
    inverse_norm_KB = prefix_inverse_norms(problem.query_BD, problem.dims, torch.float32)
    max_cosine_KB = None
    if problem.margin is not None:  # any bound between the smallest and the largest cosine
        max_cosine_KB = torch.linspace(0, 0.6, inverse_norm_KB.numel()).view_as(inverse_norm_KB)
    return Tile(
        problem,
        MaskRules.of(problem, torch.arange(len(problem.query_BD))),
        QueryRows(problem.query_BD, inverse_norm_KB, problem.temperature_B.float().reciprocal(), max_cosine_KB),
        Shard(FIRST, shard_rows, prefix_inverse_norms(shard_rows, problem.dims, torch.float32), None),
        slice(0, len(problem.query_BD)),
        slice(START, len(shard_rows)),
    )


def assert_no_worse(name: str, tested: Tensor, plain: Tensor, exact: Tensor, rounding: float) -> None:
    """Assert that the error is at most twice that of plain torch in float32, plus a relative rounding."""
    assert tested.shape == exact.shape, name
    if exact.dtype == torch.int64:
        assert torch.equal(tested, exact), name
        return
    empty = exact < MASKED / 1e6
    assert torch.equal(tested < MASKED / 1e6, empty), name
    tested, plain, exact = (value.double().masked_fill(empty, 0) for value in (tested, plain, exact))
    allowed = 2 * (plain - exact).abs().max() + rounding * exact.abs().max()
    assert (tested - exact).abs().max() <= allowed, name


def assert_scores(tile: Tile, scores: TileScores) -> None:
    plain, exact = tile.expected_scores(torch.float32), tile.expected_scores(torch.float64)
    for name, value in exact.items():
        tested = getattr(scores, name)
        if tested is not None:
            assert_no_worse(name, tested, plain[name], value, tile.rounding)


def assert_slopes(tile: Tile, tiles: TritonTiles, slopes: TileSlopes, weights: SlopeWeights) -> None:
    plain, exact = tile.expected_slopes(weights, torch.float32), tile.expected_slopes(weights, torch.float64)
    scale = 1.0 if tiles.gradient_scale is None else tiles.gradient_scale.item()
    tested = torch.stack([weight_RC.double() / scale for weight_RC in slopes.pair_weight_KRC])
    dtype = (
        tile.problem.query_BD.dtype
    )  # of the intermediate values, which are rounded once or twice (weights, then slopes)
    rounding = tile.rounding + (0.0 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps)
    assert_no_worse("pair_weight_KRC", tested, plain["pair_weight_KRC"], exact["pair_weight_KRC"], rounding)
    for name in ("query_dot_KR", "document_dot_KC"):
        assert_no_worse(name, getattr(slopes, name), plain[name], exact[name], rounding)
