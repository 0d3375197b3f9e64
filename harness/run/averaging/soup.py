"""Means of weights, and the greedy choice of what goes into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Soup:
    """The sum of the weights after some steps, float32; what is no floating-point number stays the first's."""

    steps: tuple[int, ...] = ()
    _sum: Weights = field(default_factory=dict)

    def plus(self, step: int, weights: Weights) -> Soup:
        """Another soup, with these weights, too.

        Raises:
            ValueError: they are of another model than those before.
        """
        if not self.steps:
            return Soup((step,), {name: _copy(tensor) for name, tensor in weights.items()})
        other = next((n for n, t in weights.items() if n not in self._sum or self._sum[n].shape != t.shape), None)
        other = other or next((name for name in self._sum if name not in weights), None)
        if other is not None:
            raise ValueError(
                f"--average: got step {step} with other weights than step {self.steps[0]} ({other}), expected "
                "checkpoints of one model"
            )
        summed = {n: t + weights[n].float() if t.is_floating_point() else t for n, t in self._sum.items()}
        return Soup((*self.steps, step), summed)

    def mean(self) -> dict[str, Tensor]:
        """The mean of the weights, float32."""
        count = len(self.steps)
        return {name: tensor / count if tensor.is_floating_point() else tensor for name, tensor in self._sum.items()}


def greedy(
    scored: Sequence[tuple[int, float]], weights_of: Callable[[int], Weights], score: Callable[[Soup], float]
) -> tuple[Soup, float]:
    """The greedy soup of Wortsman et al. 2022 (arXiv 2203.05482, recipe 1) and its score.

    Begin with the step of the highest score; then try the others by falling score, the later step first among equals,
    and keep each with which the mean scores no worse than without it.

    Args:
        scored: (step, its own score).
        weights_of: the weights after a step.
        score: of the mean of a soup.
    """
    order = sorted(scored, key=lambda entry: (-entry[1], -entry[0]))
    (best, highest), others = order[0], order[1:]
    soup = Soup().plus(best, weights_of(best))
    for step, _ in others:
        tried = soup.plus(step, weights_of(step))
        now = score(tried)
        if now >= highest:
            soup, highest = tried, now
    return soup, highest


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to(torch.float32, copy=True) if tensor.is_floating_point() else tensor.detach().clone()
