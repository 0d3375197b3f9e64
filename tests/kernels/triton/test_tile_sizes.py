"""Tiles and buffers of the Triton kernels fit the workspace."""

from __future__ import annotations

import pytest
import torch
from fused_contrastive.one_pass.tiles import SlopeWeights
from fused_contrastive.triton.tiles import TritonTiles
from fused_contrastive.triton.variants import VariantRecorder

from tests.kernels.triton.tile_cases import FIRST, make_tile

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the kernels are compiled here, not interpreted")


@pytest.mark.parametrize("features", [set(), {"levels", "excluded"}])
@pytest.mark.parametrize("workspace", [1, 20_000, 200_000, 10**7])
def test_buffers_stay_within_the_workspace_or_one_program(features: set[str], workspace: int) -> None:
    """Nothing is computed; the sizes do not depend on the launcher."""
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
    one_program = 16 * 32 * 4 * 8  # bytes of a tile, times eight
    assert sum(buffer.nbytes for buffer in buffers) <= max(workspace, one_program)


def test_all_columns_come_back_only_for_panels_that_are_not_thin() -> None:
    tile = make_tile(set(), workspace_bytes=1 << 21)
    shape = tile.tiles(by_column=False).shape
    assert shape(100, 1500, slopes=True, keep=True)[1] >= 1500
    assert shape(100_000, 100_000, slopes=True, keep=True)[1] < 100_000
    assert shape(100_000, 20, slopes=True, keep=True)[0] >= 1024
