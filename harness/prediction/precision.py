"""Which numbers a precision of the recipe keeps: of weights, gradients, master weights and in the forward."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Numbers:
    """weights: as the forward finds them. autocast: what matrix products compute in, None: as the weights are.

    gradients: as they are summed over micro-batches. reduced: as they are sent. has_master: whether the optimizer keeps
    fp32 weights of its own beside those of the forward even where ZeRO does not ask for it.
    """

    weights: torch.dtype
    autocast: torch.dtype | None
    gradients: torch.dtype
    reduced: torch.dtype
    has_master: bool

    @property
    def computes_in(self) -> str:
        """The name of the numbers of matrix products, as in the table of devices."""
        return {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.autocast or self.weights]


_FP32, _BF16, _FP16 = torch.float32, torch.bfloat16, torch.float16
NUMBERS = {
    "fp32": Numbers(_FP32, None, _FP32, _FP32, False),
    "bf16": Numbers(_FP32, _BF16, _FP32, _FP32, False),
    "fp16": Numbers(_FP32, _FP16, _FP32, _FP32, False),
    "bf16_weights": Numbers(_BF16, None, _FP32, _BF16, True),
}
