"""Gathers the weights of a module, which ZeRO-3 has divided, one by one on rank 0.

They are those that the optimizer updates: where a forward pass computes with rounded copies, the fp32 ones.
"""

from __future__ import annotations

import deepspeed
import torch
from deepspeed.utils import safe_get_full_fp32_param
from torch import Tensor, nn

from harness import comm


def whole_weights(module: nn.Module, *, trained_only: bool) -> dict[str, Tensor]:
    """The module's state, unsharded, as float32 in CPU memory; empty on ranks other than 0. Every rank must call it.

    trained_only: without frozen weights and buffers, which then are not gathered either.
    """
    state: dict[str, Tensor] = {}
    first_name: dict[int, str] = {}  # tied weights, which have several names, are copied once
    for name, tensor in module.state_dict(keep_vars=True).items():
        if trained_only and not tensor.requires_grad:
            continue
        if first_name.setdefault(id(tensor), name) != name:
            state |= {name: state[first_name[id(tensor)]]} if comm.is_main() else {}
            continue
        whole = _whole_weight(tensor)
        if comm.is_main():
            state[name] = whole.float().cpu() if whole.is_floating_point() else whole.cpu()
    return state


def _whole_weight(weight: Tensor) -> Tensor:
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
