"""AdamW and its learning rate. The rate depends only on recipe and step number, so checkpoints need not store it."""

from __future__ import annotations

from math import cos, pi
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from harness.engine.average.optimizer import DECAY, ClippingAveragingAdamW, ClipsAndAverages, decay_of_step
from harness.engine.config import TrainingConfig


def build_optimizer(module: nn.Module, training: TrainingConfig, *, on_cpu: bool) -> Optimizer:
    """AdamW with weight decay on matrices and embeddings, but not on norms and biases.

    on_cpu: whether ZeRO keeps the optimizer state in CPU memory or on a disk. If so, and the model trains on a GPU,
    DeepSpeed's vectorised CPU Adam is used.
    """
    decays = (training.weight_decay, 0.0)
    named = zip(groups_of(module), decays, strict=True)
    groups = [{"params": list(group.values()), "weight_decay": decay} for group, decay in named]
    arguments = {"lr": training.learning_rate, "betas": training.adam_betas, "eps": training.adam_epsilon}
    groups = [group for group in groups if group["params"]]
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


def set_step(groups: list[dict[str, Any]], training: TrainingConfig, step: int) -> float:
    """Give the optimizer's groups the numbers of a step, counted from 1. Returns the learning rate."""
    rate = learning_rate(training, step)
    for group in groups:
        group["lr"] = rate
        if training.ema is not None:
            group[DECAY] = decay_of_step(training.ema, step)
    return rate


def groups_of(module: nn.Module) -> tuple[dict[str, Tensor], ...]:
    """The trained weights by name: matrices and embeddings, then norms and biases.

    A weight that ZeRO-3 has divided looks flat; its own shape is in `ds_shape`.
    """
    trained: dict[str, Tensor] = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    matrices: dict[str, Tensor] = {name: p for name, p in trained.items() if len(getattr(p, "ds_shape", p.shape)) >= 2}
    return matrices, {name: weight for name, weight in trained.items() if name not in matrices}


def learning_rate(training: TrainingConfig, step: int) -> float:
    """The rate of a step, counted from 1: linear warmup over warmup_ratio · steps, then the schedule's decay to 0."""
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
