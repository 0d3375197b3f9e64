"""From token states to one vector per text. Pure functions, right for left and right padding."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness.encoder.config import PoolingMode


def cls_pool(state_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The state of each text's first real token."""
    first_B = mask_BL.to(torch.int32).argmax(dim=1)
    return state_BLD[torch.arange(len(first_B), device=first_B.device), first_B]


def mean_pool(state_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The mean state of each text's real tokens, summed in float32."""
    weight_BL1 = mask_BL.unsqueeze(-1).float()
    return (state_BLD.float() * weight_BL1).sum(1) / weight_BL1.sum(1).clamp(min=1.0)


def last_pool(state_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """The state of each text's last real token."""
    last_B = mask_BL.shape[1] - 1 - mask_BL.flip(1).to(torch.int32).argmax(dim=1)
    return state_BLD[torch.arange(len(last_B), device=last_B.device), last_B]


POOLING: dict[PoolingMode, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": cls_pool,
    "mean": mean_pool,
    "last": last_pool,
}
