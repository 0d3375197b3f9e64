"""The numbers of a model's forward pass: `training.precision`, in one place.

| precision    | weights, gradients, optimizer | matrix products of the backbone              |
| fp32         | fp32                          | fp32                                         |
| bf16, fp16   | fp32                          | bf16 or fp16, by torch's autocast            |
| bf16_weights | bf16, with fp32 master copies | bf16                                         |

Autocast covers the backbone only: `Encoder` pools and projects in the dtype of its weights, and losses, similarities
and scores are computed in float32 always. It is torch's own, not DeepSpeed's `torch_autocast`: that one adds up the
gradients of linear layers over the ranks in half precision, and is a global of the process that outlives its engine. It
is switched on inside the module: around the engine, DeepSpeed switches it off again on a GPU (but not on a CPU).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, get_args

import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from torch import Tensor, nn

from harness import comm
from harness.engine.config import Precision

AUTOCAST: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Bytes of the activations that a graph keeps, in units of those in half precision. Measured on MiniLM without dropout:
# 65, 41 and 32 bytes per token, layer and hidden unit. Autocast keeps the states between layers in float32.
ACTIVATIONS: dict[str, float] = {"fp32": 2.0, "bf16": 1.3, "fp16": 1.3, "bf16_weights": 1.0}
_FIRST_SCALE, _STEADY_STEPS = 2.0**16, 2000  # torch's GradScaler: where it starts, and after how many steps it doubles


def weight_dtype(precision: str) -> torch.dtype:
    """The dtype of the weights that the forward pass uses."""
    assert precision in get_args(Precision), precision
    return torch.bfloat16 if precision == "bf16_weights" else torch.float32


class Autocast:
    """Runs a module's forward pass in bf16 or fp16 over float32 weights, where the precision says so.

    Every forward pass is a context of its own. So the copies of the weights that autocast keeps never outlive it: none
    made without a graph is met by a pass with one, and none of an earlier step by a later one. Making them anew for
    every micro-batch of 1,024 tokens costs 1.7 % of its time (MiniLM, one CPU core).
    """

    def __init__(self, module: nn.Module, precision: str) -> None:
        self._dtype, self._is_on = AUTOCAST.get(precision), True
        module.forward = self._inside(module.forward)

    @contextmanager
    def off(self) -> Iterator[None]:
        """In here the module computes in the dtype of its weights."""
        self._is_on = False
        try:
            yield
        finally:
            self._is_on = True

    def _inside(self, forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        @wraps(forward)
        def forward_with_autocast(*args: Any, **kwargs: Any) -> Tensor:
            enabled = self._is_on and self._dtype is not None
            with torch.autocast(comm.device().type, dtype=self._dtype, enabled=enabled):
                return forward(*args, **kwargs)

        return forward_with_autocast


class LossScale:
    """In fp16: the factor that keeps small gradients from vanishing inside the backward pass. Elsewhere unused.

    A backward pass begins with its gradient times `value`. The float32 gradient of a weight is divided by it as soon as
    it arrives, so nobody else, DeepSpeed included, ever sees a scaled gradient. Factors are powers of two, so this
    rounds nothing. After an overflow the step is left out and the factor halved; it doubles after 2,000 good steps.

    DeepSpeed takes the mean over the ranks where the sum is wanted. The number of ranks, which makes up for that, is
    multiplied in on the float32 side of the backward pass, where it cannot overflow.
    """

    def __init__(self, precision: str) -> None:
        self.is_used = precision == "fp16"
        self._scaler = DynamicLossScaler(
            init_scale=_FIRST_SCALE if self.is_used else 1.0,
            scale_window=_STEADY_STEPS,
            min_scale=1.0,
            delayed_shift=1,
            consecutive_hysteresis=False,
        )

    @property
    def value(self) -> float:
        """The factor of this step."""
        return float(self._scaler.cur_scale)

    def before_backward(self, num_ranks: int) -> float:
        """What a backward pass is multiplied by at its begin."""
        return self.value if self.is_used else float(num_ranks)

    def after_backward(self, gradient: Tensor, num_ranks: int) -> Tensor | None:
        """A weight's gradient without the scale, for the mean over the ranks; None: it is so already."""
        return gradient * (num_ranks / self.value) if self.is_used else None

    def update(self, overflowed: bool, step: int) -> None:
        """Choose the factor of the next step. overflowed: whether a gradient of this step, on any rank, is not finite.

        Rank 0 warns of a step that is left out.

        Raises:
            ValueError: gradients overflow even without a factor.
        """
        before = self.value
        if overflowed and before <= 1.0:
            raise ValueError(
                "training.precision: got fp16, but gradients are not finite even at a loss scale of 1, expected "
                "numbers below 65,504; set training.precision: bf16 or fp32, or lower training.learning_rate"
            )
        self._scaler.update_scale(overflowed)
        if overflowed and comm.is_main():
            message = f"step {step}: left out, because fp16 gradients overflowed at a loss scale of {before:.0f}"
            warnings.warn(f"{message}; now {self.value:.0f}", UserWarning, stacklevel=1)

    def state(self) -> dict[str, float]:
        """What a checkpoint must hold."""
        return {name: getattr(self._scaler, name) for name in ("cur_scale", "cur_iter", "last_overflow_iter")}

    def load_state(self, state: dict[str, float]) -> None:
        """Continue from what `state` has returned."""
        vars(self._scaler).update(state)
