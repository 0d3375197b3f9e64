"""What is done to gradients just before, and to weights just after an update, inside the optimizer.

ZeRO calls the optimizer with what a rank owns: its part of the fp32 weights and of their whole, summed gradient, at
every stage, without a loss scale. So an element of a gradient is cut here, and an average is kept here, without sending
anything. The average is a state of the optimizer as Adam's moments are: DeepSpeed saves, loads and offloads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

AVERAGE = "average"  # key of a weight's state
DECAY = "ema"  # key of a parameter group: the decay of this step


def decay_of_step(ema: float, step: int) -> float:
    """The decay of a step, counted from 1: min(ema, (1 + step) / (10 + step)).

    The warm-up keeps the starting weights, which are in the average from the begin, from staying in it for
    1 / (1 - ema) steps (the rule of TensorFlow's ExponentialMovingAverage with num_updates).
    """
    return min(ema, (1 + step) / (10 + step))


class ClipsAndAverages:
    """In front of an optimizer class: cuts gradients to `max_grad_value`, and keeps the average of the weights.

    gradient ← min(max(gradient, -max_grad_value), max_grad_value)
    average ← decay · average + (1 - decay) · weight, after the update; the first average is the starting weight
    """

    max_grad_value: float | None = None
    averages = False

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update of the weights that have a gradient."""
        updated = [(weight, group) for weight, group in _weights(self) if weight.grad is not None]
        if self.max_grad_value is not None:
            for weight, _ in updated:
                assert weight.grad is not None
                weight.grad.clamp_(-self.max_grad_value, self.max_grad_value)
        state = self.state  # type: ignore[attr-defined]
        # Adam makes a weight's state in its first update, and takes one that is there for its own.
        starts = {w: w.detach().clone() for w, _ in updated if self.averages and AVERAGE not in state[w]}
        done = super().step(closure)  # type: ignore[misc]
        for weight, group in updated if self.averages else ():
            average = state[weight].setdefault(AVERAGE, starts.get(weight))
            average.lerp_(weight.detach().to(average.dtype), 1 - group[DECAY])
        return done


def _weights(optimizer: Any) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    for group in optimizer.param_groups:
        for weight in group["params"]:
            yield weight, group


class ClippingAveragingAdamW(ClipsAndAverages, AdamW):
    """torch's AdamW with both."""


def averages_of(base: Optimizer) -> list[tuple[Tensor, Tensor]]:
    """(weight, its average) of every tensor that this rank updates; empty before the first update."""
    return [(weight, state[AVERAGE]) for weight, state in base.state.items() if AVERAGE in state]


@torch.no_grad()
def exchange(pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Exchange the values of weights and averages, in parts, so that little more memory is needed."""
    for one, other in pairs:
        first, second = one.detach().view(-1), other.detach().view(-1)
        for start in range(0, len(first), _PART):
            a, b = first[start : start + _PART], second[start : start + _PART]
            kept = a.clone()
            a.copy_(b)
            b.copy_(kept)


_PART = 2**22  # elements
