"""Tiles of the Triton kernels against the formulas of `tiles.py`, on the interface itself, in Triton's interpreter.

What `info_nce` makes of the tiles is in `test_triton.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from fused_contrastive.cosine import chunks, prefix_inverse_norms, prefix_sums, suffix_sums
from fused_contrastive.masks import MaskRules
from fused_contrastive.one_pass.tiles import MASKED, QueryRows, Shard, SlopeWeights, TileScores, TileSlopes
from fused_contrastive.problem import Problem
from fused_contrastive.triton.launch import Launcher
from fused_contrastive.triton.tiles import TritonTiles
from fused_contrastive.triton.variants import Variant, VariantRecorder, all_variants, variant_of
from fused_contrastive.validation import checked_problem
from torch import Tensor

from tests.kernels.cases import FEATURES, grouped, make_case

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled here, not interpreted")

DTYPES = (torch.float32, torch.float16)
RULES = ("nothing", "own", "excluded", "query_key", "document_key", "margin", "margin_full", "positives", "query_row")
SIZES = ((1, 8), (7, 90), (37, 30), (16, 39), (33, 104), (3, 200))  # programs have 16 rows and 32 columns in two parts
FIRST, START = 4, 3  # of the shard in the whole table, of the tile in the shard


@dataclass
class Tile:
    """All query rows by most of a shard's columns, and the formulas for what is asked about it."""

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
        """Relative error of e^logit when the logit is rounded once, and a few roundings more."""
        return torch.finfo(torch.float32).eps * (4 + self.query_rows.inverse_temperature_S.max().item())

    def cosines(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """[K, R, C]: cosines computed in `dtype`, and which of them to drop."""
        rows_RD, rows_CD = self.query_rows.row_SD.to(dtype), self.shard.row_CD[self.columns].to(dtype)
        dot_KRC = prefix_sums(rows_RD[:, chunk] @ rows_CD[:, chunk].T for chunk in chunks(self.problem.dims))
        inverse_norm_KR, inverse_norm_KC = (
            self.query_rows.inverse_norm_KS.to(dtype),
            self.shard.inverse_norm_KC[:, self.columns].to(dtype),
        )
        cosine_KRC = dot_KRC * inverse_norm_KR[..., None] * inverse_norm_KC[:, None]
        dropped_RC = torch.zeros(len(rows_RD), len(rows_CD) + 1, dtype=torch.bool)
        whole = slice(self.shard.first + self.columns.start, self.shard.first + self.columns.stop)
        self.rules.fill(dropped_RC, self.rows, whole)
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
        """With the denominators of this tile, as if there were no other."""
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
    if problem.margin is not None:  # any bound between the cosines will do
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
    """At most twice the error of plain torch in float32, plus a relative rounding."""
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
    dtype = tile.problem.query_BD.dtype  # of what is stored on the way, once or (weights, then slopes) twice
    rounding = tile.rounding + (0.0 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps)
    assert_no_worse("pair_weight_KRC", tested, plain["pair_weight_KRC"], exact["pair_weight_KRC"], rounding)
    for name in ("query_dot_KR", "document_dot_KC"):
        assert_no_worse(name, getattr(slopes, name), plain[name], exact[name], rounding)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scope", ["all", "group"])
@pytest.mark.parametrize("levels", [{"nothing"}, {"levels"}])
@pytest.mark.parametrize("feature", RULES)
def test_scores_and_slopes_are_those_of_the_formulas(
    feature: str, levels: set[str], scope: str, dtype: torch.dtype
) -> None:
    tile = make_tile({feature} | levels, dtype, scope=scope)
    tiles = tile.tiles()
    assert_scores(tile, tile.score(tiles, by_column=True))
    for columns in (False, True):
        weights = tile.weights(columns=columns)
        assert_slopes(tile, tiles, tile.slopes(tiles, weights), weights)
    weights = tile.weights(columns=False)
    assert_scores(tile, tile.score(tiles, keep=True))
    assert_slopes(tile, tiles, tile.slopes(tiles, weights, kept=True), weights)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("dims", [(32,), (34,), (1,), (16, 32), (1, 7, 34)])
def test_ragged_sizes_and_levels_that_are_no_whole_blocks(size: tuple[int, int], dims: tuple[int, ...]) -> None:
    tile = make_tile({"margin", "temperatures"}, size=size, matryoshka_dims=dims)
    tiles, weights = tile.tiles(), tile.weights(columns=True)
    assert_scores(tile, tile.score(tiles, by_column=True))
    assert_slopes(tile, tiles, tile.slopes(tiles, weights), weights)
    weights = tile.weights(columns=False)
    assert_scores(tile, tile.score(tiles, keep=True))
    assert_slopes(tile, tiles, tile.slopes(tiles, weights, kept=True), weights)


@pytest.mark.parametrize("dtype", DTYPES)
def test_more_equalities_than_the_kernel_compares_are_all_obeyed(dtype: torch.dtype) -> None:
    tile = make_tile({"positives", "document_key", "query_key", "query_row"}, dtype, scope="group")
    assert len(tile.rules.equal_keys) > 3
    assert_scores(tile, tile.score(tile.tiles(), by_column=True))


@pytest.mark.parametrize("temperature", [0.003, 30.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_temperature_overflows(temperature: float, dtype: torch.dtype) -> None:
    """2^(logit) alone would, at 1 / 0.003; each row and column has its own reference."""
    tile = make_tile({"levels"}, dtype, temperature=temperature)
    tiles, weights = tile.tiles(), tile.weights(columns=True)
    assert_scores(tile, tile.score(tiles, by_column=True))
    assert_slopes(tile, tiles, tile.slopes(tiles, weights), weights)


@pytest.mark.parametrize("length", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("keep", [False, True])
def test_a_row_and_a_column_of_which_nothing_is_kept_have_no_weight(keep: bool, length: float) -> None:
    """Whatever the rows' length, which dropped cells are multiplied by, too."""
    tile = make_tile({"levels"}, scope="group")
    tile.query_rows.row_SD.mul_(length)
    tile = tile_of(tile.problem)
    group_N = tile.rules.group_N.clone()
    group_N[FIRST + START + 5] = 7
    tile.rules = MaskRules(**{**{name: getattr(tile.rules, name) for name in tile.rules.__slots__}, "group_N": group_N})
    tile.rules.group_S[11] = 9
    tiles, weights = tile.tiles(), tile.weights(columns=not keep)
    scores = tile.score(tiles, keep=keep, by_column=not keep)
    assert scores.num_kept_R[11] == 0
    assert scores.lse_KR[:, 11].max() < MASKED / 2
    assert scores.hardest_R[11] < MASKED / 2
    assert_scores(tile, scores)
    slopes = tile.slopes(tiles, weights, kept=keep)
    assert_slopes(tile, tiles, slopes, weights)
    assert all((weight_RC[11] == 0).all() and (weight_RC[:, 5] == 0).all() for weight_RC in slopes.pair_weight_KRC)


def test_zero_rows_have_cosine_zero_and_no_pair_weight() -> None:
    tile = make_tile({"levels", "margin"})
    tile.query_rows.row_SD[3] = 0
    tile.shard.row_CD[START + 6, :8] = 0  # the first level only
    tile = tile_of(tile.problem)
    tiles, weights = tile.tiles(), tile.weights(columns=True)
    assert_scores(tile, tile.score(tiles, by_column=True))
    slopes = tile.slopes(tiles, weights)
    assert_slopes(tile, tiles, slopes, weights)
    assert all((weight_RC[3] == 0).all() for weight_RC in slopes.pair_weight_KRC)


@pytest.mark.parametrize("features", [set(), {"levels", "excluded"}])
def test_a_row_that_is_not_finite_gives_nan_and_leaves_the_others_alone(features: set[str]) -> None:
    tile = make_tile(features)
    tile.query_rows.row_SD[5, 2] = torch.nan
    tile = tile_of(tile.problem)
    lse_KR = tile.score(tile.tiles()).lse_KR
    assert lse_KR[:, 5].isnan().all()
    assert lse_KR[:, :5].isfinite().all()
    tile.shard.row_CD[START + 30, 2] = torch.inf
    tile = tile_of(tile.problem)
    kept_R = ~tile.cosines(torch.float32)[1][-1, :, 30]
    lse_KR = tile.score(tile.tiles()).lse_KR
    assert kept_R.any()
    assert lse_KR[:, kept_R].isnan().all()


@pytest.mark.parametrize("features", [set(), {"levels", "excluded"}])
def test_twice_the_same_bits(features: set[str]) -> None:
    tile = make_tile(features)
    once, again = (tile.score(tile.tiles(), by_column=True) for _ in range(2))
    assert torch.equal(once.lse_KR, again.lse_KR)
    assert torch.equal(once.column_lse_KC, again.column_lse_KC)
    weights = tile.weights(columns=True)
    for one, other in zip(*(tile.slopes(tile.tiles(), weights).pair_weight_KRC for _ in range(2)), strict=True):
        assert torch.equal(one, other)


def test_a_new_shard_in_the_same_memory_is_read_anew() -> None:
    """With a ring the next shard may arrive where the last one was; the padded copy must not outlive it."""
    tile = make_tile({"levels"}, matryoshka_dims=[5, 32, 34])
    tiles = tile.tiles()
    tile.score(tiles)
    tile.shard.row_CD.copy_(tile.shard.row_CD.flip(0))
    tile = tile_of(tile.problem)
    assert_scores(tile, tile.score(tiles))


@pytest.mark.parametrize("symmetric", [False, True])
def test_half_precision_slopes_neither_overflow_nor_vanish(symmetric: bool) -> None:
    """One query takes all the weight, the others a millionth of it, and all have the same positive."""
    weight_B = torch.full((19,), 1e-6)
    weight_B[0] = 1.0
    positive_B = torch.full((19,), 30)
    tile = make_tile({"levels"}, torch.float16, weight_B=weight_B, positive_B=positive_B, symmetric=symmetric)
    tiles = tile.tiles()
    scores = tile.expected_scores(torch.float64)
    share_KR = tile.problem.normalized_weight_B * torch.tensor(tile.problem.level_weights)[:, None]
    weights = SlopeWeights(scores["lse_KR"].float(), share_KR)
    if symmetric:
        column_weight_KC = torch.zeros_like(scores["column_lse_KC"], dtype=torch.float32)
        column_weight_KC[:, 30 - FIRST - START] = share_KR.sum(1)
        weights = SlopeWeights(*(weights.row_lse_KR, share_KR), scores["column_lse_KC"].float(), column_weight_KC)
    slopes = tile.slopes(tiles, weights)
    assert_slopes(tile, tiles, slopes, weights)
    largest = max(weight_RC.abs().max() for weight_RC in slopes.pair_weight_KRC)
    assert 2**5 < largest <= 2**14
    kept_RC = ~tile.cosines(torch.float32)[1][0]
    assert (slopes.pair_weight_KRC[0][10][kept_RC[10]] > 0).float().mean() > 0.9


@pytest.mark.parametrize("features", [set(), {"levels", "excluded"}])
@pytest.mark.parametrize("workspace", [1, 20_000, 200_000, 10**7])
def test_buffers_stay_within_the_workspace_or_one_program(features: set[str], workspace: int) -> None:
    """Nothing is computed here: the sizes are those of any launcher."""
    size = (150, 700)
    tile = make_tile(features, size=size, workspace_bytes=workspace)
    launcher = VariantRecorder("interpreter", torch.float32)
    tiles = TritonTiles(tile.problem, tile.rules, by_column=True, needs_gradient=True, launcher=launcher)
    for keep in (False, True):
        num_rows, num_columns = tiles.shape(*size, slopes=True, keep=keep)
        tile.rows, tile.columns = slice(0, min(size[0], num_rows)), slice(0, min(size[1] - FIRST, num_columns))
        keeps = keep and num_columns >= size[1]
        tile.score(tiles, keep=keeps, by_column=not keeps)
        zero_KR = torch.zeros(len(tile.problem.dims), tile.rows.stop)
        tile.slopes(tiles, SlopeWeights(zero_KR, zero_KR), kept=keeps)
    buffers = [buffer for owner in (tiles, tiles.inputs.drop_mask) for buffer in owner.buffers.flat.values()]
    one_program = 16 * 32 * 4 * 8  # its tile, a few times
    assert sum(buffer.nbytes for buffer in buffers) <= max(workspace, one_program)


def test_all_columns_come_back_only_for_panels_that_are_not_thin() -> None:
    tile = make_tile(set(), workspace_bytes=1 << 21)
    shape = tile.tiles(by_column=False).shape
    assert shape(100, 1500, slopes=True, keep=True)[1] >= 1500
    assert shape(100_000, 100_000, slopes=True, keep=True)[1] < 100_000
    assert shape(100_000, 20, slopes=True, keep=True)[0] >= 1024


def test_every_variant_that_is_launched_is_compiled_for_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the other way round: none is compiled in vain."""
    launched: set[Variant] = set()
    launch = Launcher.launch

    def noting(self: Launcher, kernel: Any, num_programs: int, block: Any, arguments: dict[str, Any]) -> None:
        launched.add(variant_of(kernel, block, arguments))
        launch(self, kernel, num_programs, block, arguments)

    monkeypatch.setattr(Launcher, "launch", noting)
    for dtype in DTYPES:
        for levels in ({"nothing"}, {"levels"}):
            for workspace in (None, 4096):
                for feature in (*FEATURES, "nothing"):
                    make_case({feature} | levels, num_documents=40).run("triton", dtype, workspace_bytes=workspace)
                make_case({"symmetric", "excluded"} | levels).run("triton", dtype, workspace_bytes=workspace)
    assert launched == {variant for dtype in DTYPES for variant in all_variants("interpreter", dtype)}
