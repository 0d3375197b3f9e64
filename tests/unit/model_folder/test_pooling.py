"""Pooling is right on both padding sides."""

from typing import get_args

import pytest
import torch

from harness.model_folder.pooling import POOLINGS, PoolingMode

TOKENS = torch.tensor([[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]])
EXPECTED = {"cls": [1.0, 10.0], "mean": [3.0, 30.0], "last": [6.0, 60.0]}


@pytest.mark.parametrize("mode", POOLINGS)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_never_enters_the_vector(mode, side):
    padding = torch.full((2, 2), 99.0)
    long = torch.full((5, 2), 4.0)
    state = torch.stack([torch.cat([padding, TOKENS] if side == "left" else [TOKENS, padding]), long])
    mask = torch.tensor([[0, 0, 1, 1, 1] if side == "left" else [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    pooled = POOLINGS[mode].pool(state, mask)
    assert pooled[0].tolist() == EXPECTED[mode]
    assert pooled[1].tolist() == [4.0, 4.0]


def test_the_recipe_may_name_every_pooling_there_is() -> None:
    assert get_args(PoolingMode) == tuple(POOLINGS)
