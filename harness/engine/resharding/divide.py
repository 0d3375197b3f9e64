"""Gives whole weights and Adam moments to an engine: each rank takes what its ZeRO stage lets it hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepspeed
import torch
from torch import Tensor

from harness.engine.resharding.whole import WholeState

Values = dict[str, Tensor]  # of one weight, flat and whole: fp32, exp_avg, exp_avg_sq, and average if there is one


def load_divided_anew(
    engine: Any, stage: int, folder: Path, saved_stage: int, groups: list[list[str]]
) -> dict[str, Any]:
    """Load DeepSpeed's files of any number of ranks, saved at `saved_stage`, into an engine of ZeRO stage `stage`.

    groups: the names of the trained weights in the order of the optimizer's groups.

    Returns what the engine itself had stored beside them. Every rank must call it, before the first step.

    Raises:
        ValueError: see `take_over`, `WholeState`.
    """
    state = WholeState(folder, saved_stage, groups)
    take_over(engine, stage, state)
    return state.client_state


def take_over(engine: Any, stage: int, state: WholeState) -> None:
    """Replace the weights and the optimizer state of a DeepSpeed engine, before its first step. Every rank calls it.

    Raises:
        ValueError: the checkpoint has other weights than the model, or the optimizer's state lies on a disk.
    """
    optimizer = engine.optimizer
    if stage == 3 and optimizer.swap_optimizer:
        raise ValueError(
            "deepspeed: got another number of ranks or ZeRO stage with an optimizer state on a disk (offload_optimizer "
            "nvme), expected those of the checkpoint; offload to the CPU for this start"
        )
    weights = {name: weight for name, weight in engine.module.named_parameters() if weight.requires_grad}
    _make_room(optimizer, stage, state.num_updates, state.kinds)
    names = set()
    for name, values in state:
        if name not in weights:
            raise ValueError(f"the checkpoint has a weight {name}, which the model has not; restore the recipe's model")
        _TAKE[stage](optimizer, weights[name], values)
        names.add(name)
    missing = sorted(weights.keys() - names)
    if missing:
        raise ValueError(f"the checkpoint has no weight {missing[0]}, which the model has; restore the recipe's model")


def _make_room(optimizer: Any, stage: int, num_updates: float, kinds: tuple[str, ...]) -> None:
    """Empty moments for every tensor that the optimizer updates; DeepSpeed makes them in the first step only."""
    base = optimizer if stage == 0 else optimizer.optimizer
    flats = (
        optimizer.fp32_partitioned_groups_flat
        if stage == 3
        else [weight for group in base.param_groups for weight in group["params"]]
    )
    for flat in flats:
        # torch's fused AdamW counts on the device, DeepSpeed's CPU Adam in Python.
        is_torch = isinstance(base, torch.optim.AdamW)
        step = torch.tensor(num_updates, device=flat.device) if is_torch else int(num_updates)
        base.state[flat] = {"step": step, **{key: torch.zeros_like(flat.data) for key in kinds}}


def _take_whole(optimizer: Any, weight: Tensor, values: Values) -> None:
    weight.data.copy_(values["fp32"].view_as(weight))
    for key in values.keys() - {"fp32"}:
        optimizer.state[weight][key].copy_(values[key].view_as(weight))


def _take_slice(optimizer: Any, weight: Any, values: Values) -> None:
    """Stages 1 and 2: the whole weight, and the part of the flat fp32 copy and moments that this rank updates."""
    weight.data.copy_(values["fp32"].view_as(weight))
    mapping = weight._hp_mapping
    if mapping is None:
        return  # other ranks update all of it
    here, there = mapping.lp_fragment_address, mapping.hp_fragment_address
    mapping.hp_fragment.data.copy_(values["fp32"].narrow(0, here.start, here.numel))
    flat = optimizer.optimizer.param_groups[mapping.param_group_index]["params"][0]
    for key in values.keys() - {"fp32"}:
        moment = optimizer.optimizer.state[flat][key]
        moment.narrow(0, there.start, there.numel).copy_(values[key].narrow(0, here.start, here.numel))


def _take_piece(optimizer: Any, weight: Any, values: Values) -> None:
    """Stage 3: this rank's piece of the weight, of its fp32 copy and of its moments; the last pieces are padded."""
    with deepspeed.zero.GatheredParameters([weight], modifier_rank=0):
        if weight.numel():  # on the ranks that hold it now
            weight.data.copy_(values["fp32"].view_as(weight))
    group, start, numel = optimizer.grad_position[optimizer.get_param_id(weight)]
    flat = optimizer.fp32_partitioned_groups_flat[group]
    first = numel * optimizer._get_param_partition_rank(weight)
    targets = {"fp32": flat.data, **{key: optimizer.optimizer.state[flat][key] for key in values if key != "fp32"}}
    for key, target in targets.items():
        piece = values[key][first : first + numel]
        target.narrow(0, start, len(piece)).copy_(piece)


_TAKE = {0: _take_whole, 1: _take_slice, 2: _take_slice, 3: _take_piece}
