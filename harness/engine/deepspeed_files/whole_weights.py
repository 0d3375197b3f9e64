"""Gathers the weights of a module, which ZeRO-3 has divided, one by one on rank 0."""

from __future__ import annotations

import deepspeed
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
        sharded = [tensor] if hasattr(tensor, "ds_id") else []
        with deepspeed.zero.GatheredParameters(sharded, enabled=bool(sharded)):
            if comm.is_main():
                state[name] = tensor.detach().float().cpu().clone() if tensor.is_floating_point() else tensor.cpu()
    return state
