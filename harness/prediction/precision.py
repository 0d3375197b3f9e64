"""Which numbers a precision of the recipe keeps: of weights, gradients, master weights and in the forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch

from harness.engine.config import Precision
from harness.engine.precision import AUTOCAST, weight_dtype


@dataclass(frozen=True, slots=True)
class Numbers:
    """weights: as the forward finds them. autocast: what matrix products compute in, None: as the weights are."""

    weights: torch.dtype
    autocast: torch.dtype | None

    @property
    def gradients(self) -> torch.dtype:
        """As they are summed over micro-batches."""
        return torch.float32

    @property
    def reduced(self) -> torch.dtype:
        """As gradients are sent: as the backward makes them."""
        return self.weights

    @property
    def has_master(self) -> bool:
        """Whether the optimizer keeps fp32 weights of its own beside those of the forward."""
        return self.weights != torch.float32

    @property
    def computes_in(self) -> str:
        """The name of the numbers of matrix products, as in the table of devices."""
        return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.autocast or self.weights]


NUMBERS = {name: Numbers(weight_dtype(name), AUTOCAST.get(name)) for name in get_args(Precision)}
