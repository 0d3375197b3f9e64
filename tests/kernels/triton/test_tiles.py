"""Tiles of the Triton kernels, run in the interpreter, equal the formulas of `one_pass/tiles.py`.

`test_equals_reference.py` tests the results that `info_nce` computes from the tiles.
"""

from __future__ import annotations

import pytest
import torch
from fused_contrastive.masks import MaskRules
from fused_contrastive.one_pass.tiles import MASKED, SlopeWeights

from tests.kernels.triton.tile_cases import FIRST, START, assert_scores, assert_slopes, make_tile, tile_of

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled here, not interpreted")

DTYPES = (torch.float32, torch.float16)
RULES = ("nothing", "own", "excluded", "query_key", "document_key", "margin", "margin_full", "positives", "query_row")
SIZES = ((1, 8), (7, 90), (37, 30), (16, 39), (33, 104), (3, 200))  # a program has 16 rows and 32 columns in two parts


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
    """2^logit would overflow at temperature 0.003, so each row and column subtracts its own reference logit."""
    tile = make_tile({"levels"}, dtype, temperature=temperature)
    tiles, weights = tile.tiles(), tile.weights(columns=True)
    assert_scores(tile, tile.score(tiles, by_column=True))
    assert_slopes(tile, tiles, tile.slopes(tiles, weights), weights)


@pytest.mark.parametrize("length", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("keep", [False, True])
def test_a_row_and_a_column_of_which_nothing_is_kept_have_no_weight(keep: bool, length: float) -> None:
    """For any length of the rows, although dropped cells are multiplied by it, too."""
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
    tile.shard.row_CD[START + 6, :8] = 0  # zero in the first level only
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
    """In a ring a shard can use the memory of the one before, whose padded copy must not be used for it."""
    tile = make_tile({"levels"}, matryoshka_dims=[5, 32, 34])
    tiles = tile.tiles()
    tile.score(tiles)
    tile.shard.row_CD.copy_(tile.shard.row_CD.flip(0))
    tile = tile_of(tile.problem)
    assert_scores(tile, tile.score(tiles))


@pytest.mark.parametrize("symmetric", [False, True])
def test_half_precision_slopes_neither_overflow_nor_vanish(symmetric: bool) -> None:
    """One query has nearly all the weight, the others a millionth of it, and all have the same positive."""
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
