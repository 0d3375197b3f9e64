"""Pooling is right on both padding sides."""

from typing import get_args

import pytest
import torch

from harness.model_folder.pooling import POOLINGS, PoolingMode

TOKENS = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
EXPECTED = {
    "cls": [1.0, 10.0],
    "max": [6.0, 60.0],
    "mean": [3.0, 30.0],
    "mean_sqrt_len_tokens": [9.0 / 3**0.5, 90.0 / 3**0.5],
    "weightedmean": [(1 * 1 + 2 * 2 + 3 * 6) / 6, (1 * 10 + 2 * 20 + 3 * 60) / 6],
    "last": [6.0, 60.0],
}


@pytest.mark.parametrize("mode", POOLINGS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_never_enters_the_vector(mode, side):
    padding = torch.full((2, 2), 99.0)
    long = torch.full((5, 2), 4.0)
    state = torch.stack([torch.cat([padding, TOKENS] if side == "left" else [TOKENS, padding]), long])
    mask = torch.tensor([[0, 0, 1, 1, 1] if side == "left" else [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    pooled = POOLINGS[mode].pool(state, mask, mask)
    assert pooled[0].tolist() == pytest.approx(EXPECTED[mode])
    assert pooled[1].tolist() == pytest.approx([4.0 * 5**0.5] * 2 if mode == "mean_sqrt_len_tokens" else [4.0] * 2)


def test_the_recipe_may_name_every_pooling_there_is() -> None:
    assert get_args(PoolingMode) == tuple(POOLINGS)


@pytest.mark.parametrize("mode", POOLINGS)
def test_a_graph_of_any_pooling_has_a_free_batch_and_length(mode: PoolingMode) -> None:
    """torch.export fixes both to the example's for take_along_dim, and torch.onnx.export does not say so."""

    class Pool(torch.nn.Module):
        def forward(self, state_BLD: torch.Tensor, mask_BL: torch.Tensor) -> torch.Tensor:
            return POOLINGS[mode].pool(state_BLD, mask_BL, mask_BL)

    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    example = (torch.randn(2, 7, 4), torch.ones(2, 7, dtype=torch.long))
    graph = torch.export.export(Pool(), example, dynamic_shapes=(free, free)).module()
    state_BLD, mask_BL = torch.randn(3, 5, 4), torch.tensor([[1] * 5, [1, 1, 0, 0, 0], [0, 0, 1, 1, 1]])
    assert torch.allclose(graph(state_BLD, mask_BL), Pool()(state_BLD, mask_BL))
