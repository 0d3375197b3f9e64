"""AdamW and its learning rate. The rate depends only on recipe and step number, so checkpoints need not store it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from harness.encoder.partial.depth import depths
from harness.engine.average.optimizer import DECAY, ClippingAveragingAdamW, ClipsAndAverages, decay_of_step
from harness.engine.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class Group:
    """Weights by name that share a weight decay, and a factor of the learning rate."""

    weights: dict[str, Tensor]
    decays: bool
    rate_factor: float


def build_optimizer(module: nn.Module, training: TrainingConfig, *, on_cpu: bool) -> Optimizer:
    """AdamW with weight decay on matrices and embeddings, but not on norms and biases. Frozen weights are left out.

    on_cpu: whether ZeRO keeps the optimizer state in CPU memory or on a disk. If so, and the model trains on a GPU,
    DeepSpeed's vectorised CPU Adam is used.
    """
    groups = [
        {"params": list(group.weights.values()), "weight_decay": training.weight_decay if group.decays else 0.0}
        for group in groups_of(module, training)
    ]
    arguments = {"lr": training.learning_rate, "betas": training.adam_betas, "eps": training.adam_epsilon}
    extends = training.max_grad_value is not None or training.ema is not None
    if on_cpu and torch.cuda.is_available():
        from deepspeed.ops.adam import DeepSpeedCPUAdam

        on_host = (
            type("ClippingAveragingCPUAdam", (ClipsAndAverages, DeepSpeedCPUAdam), {}) if extends else DeepSpeedCPUAdam
        )
        return _set_up(on_host(groups, adamw_mode=True, **arguments), training)
    # Fused: one pass over weights, gradients and moments. ZeRO's flat partitions gain as much as single weights do.
    on_device = ClippingAveragingAdamW if extends else AdamW
    return _set_up(on_device(groups, fused=True, **arguments), training)  # type: ignore[arg-type]


def _set_up(optimizer: Optimizer, training: TrainingConfig) -> Optimizer:
    if isinstance(optimizer, ClipsAndAverages):
        optimizer.max_grad_value, optimizer.averages = training.max_grad_value, training.ema is not None
    return optimizer


def set_step(groups: Sequence[dict[str, Any]], factors: Sequence[float], training: TrainingConfig, step: int) -> float:
    """Give the optimizer's groups the numbers of a step, counted from 1; every rate is multiplied by its factor.

    Returns the learning rate without the factors.
    """
    rate = learning_rate(training, step)
    for group, factor in zip(groups, factors, strict=True):
        group["lr"] = rate * factor
        if training.ema is not None:
            group[DECAY] = decay_of_step(training.ema, step)
    return rate


def groups_of(module: nn.Module, training: TrainingConfig) -> list[Group]:
    """The trained weights in the order of the optimizer's groups; none of these is empty.

    Without `layer_decay`: matrices and embeddings, then norms and biases. With it, both of depth 0 (the embeddings), of
    depth 1, and so on. A weight that ZeRO-3 has divided looks flat; its own shape is in `ds_shape`.
    """
    trained: dict[str, Tensor] = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    factors = rate_factors(module, training)
    groups = []
    for factor in sorted(set(factors.values())):
        at_this_rate = {name: weight for name, weight in trained.items() if factors[name] == factor}
        matrices = {name: w for name, w in at_this_rate.items() if len(getattr(w, "ds_shape", w.shape)) >= 2}
        others = {name: weight for name, weight in at_this_rate.items() if name not in matrices}
        groups += [Group(matrices, True, factor), Group(others, False, factor)]
    return [group for group in groups if group.weights]


def rate_factors(module: nn.Module, training: TrainingConfig) -> dict[str, float]:
    """What the learning rate of each weight is multiplied by: decay^(n + 1 − depth), 1 for the head.

    Source: layer-wise learning-rate decay as in ELECTRA (Clark et al. 2020, arXiv 2003.10555, appendix B).
    """
    decay = training.layer_decay
    if decay is None or decay == 1.0:
        return {name: 1.0 for name, _ in module.named_parameters()}
    found = depths(module, "training.layer_decay")
    return {name: decay ** (found.num_layers + 1 - depth) for name, depth in found.of.items()}


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The rate of a step, counted from 1: linear warmup over warmup_ratio · steps, then the schedule's decay.

    0 would be the rate of step steps + 1: the last step still learns.
    """
    warmup = round(training.warmup_ratio * training.num_steps)
    if step <= warmup:
        return training.learning_rate * step / warmup
    if training.schedule == "constant":
        return training.learning_rate
    progress = (step - 1 - warmup) / max(1, training.num_steps - warmup)
    remaining = 1 - progress if training.schedule == "linear" else (1 + cos(pi * progress)) / 2
    return training.learning_rate * remaining


def offloads_optimizer(deepspeed_json: dict[str, Any]) -> bool:
    """Whether the optimizer runs on the CPU: its state is kept in CPU memory or on a disk."""
    offload = (deepspeed_json.get("zero_optimization") or {}).get("offload_optimizer") or {}
    return offload.get("device") in ("cpu", "nvme")
