"""The fp32 weights that an optimizer updates, where a forward pass computes with rounded copies of them."""

from __future__ import annotations

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor


def whole_weight(weight: Tensor) -> Tensor:
    """A weight of the module, gathered from all ranks: the optimizer's fp32 one if the module's is rounded.

    Every rank must call it. A rounded weight that is not trained has no other.
    """
    is_rounded = weight.is_floating_point() and weight.dtype != torch.float32
    master = safe_get_full_fp32_param(weight) if is_rounded and weight.requires_grad else None
    if master is not None:
        return master.detach().view(getattr(weight, "ds_shape", weight.shape))
    sharded = [weight] if hasattr(weight, "ds_id") else []
    with deepspeed.zero.GatheredParameters(sharded, enabled=bool(sharded)):
        return weight.detach().clone()
