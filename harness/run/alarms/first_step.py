"""Looks at the first step of a start: a step that changes no weight, or tells no texts apart, is warned of at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

_SAMPLED = 1_024  # numbers of each weight that are compared
_LEAST_DIFFERENCE = 1e-6  # of mean cosines: float32 rounds the sums that they are made of by as much


class FirstStepAlarm:
    """Compares some numbers of every weight before and after the first step with a learning rate. No collectives.

    weights: of this rank; under ZeRO-3 its parts of them.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self._weights: list[Tensor] | None = [weight for weight in weights if weight.requires_grad]
        # Weights in half precision may stay while their float32 copies move, so they say nothing.
        self._before = [_sample(weight) for weight in self._weights if _local(weight).dtype == torch.float32]

    def message(self, metrics: Mapping[str, float]) -> str | None:
        """What to warn of after a step with these metrics; None after all steps but the first."""
        if self._weights is None or metrics["learning_rate"] == 0 or not metrics["gradient_norm"] < float("inf"):
            return None  # a warm-up may begin at 0; an overflow in fp16 leaves a step out
        after = [_sample(weight) for weight in self._weights if _local(weight).dtype == torch.float32]
        is_changed = not after or any(not torch.equal(a, b) for a, b in zip(self._before, after, strict=True))
        self._weights, self._before = None, []
        step = int(metrics["step"])
        if metrics["gradient_norm"] == 0:
            return (
                f"step {step} changed nothing: its loss is {metrics['loss']:g} and its gradient 0, whatever the "
                "embeddings are; see what harness plan says of the recipe's data and losses"
            )
        if not is_changed:
            return (
                f"step {step} changed no weight: a learning rate of {metrics['learning_rate']:g} with a gradient of "
                f"norm {metrics['gradient_norm']:g} is less than float32 can add; raise training.learning_rate"
            )
        return _about_similarities(step, metrics)


def _about_similarities(step: int, metrics: Mapping[str, float]) -> str | None:
    positive, negative = (metrics.get(f"{side}_similarity", float("nan")) for side in ("positive", "negative"))
    if not abs(positive - negative) < _LEAST_DIFFERENCE:  # also where one of them is not known
        return None
    return (
        f"step {step}: positives and negatives have the same mean cosine, {positive:.6f}: the model tells their texts "
        "not apart; check model.name_or_path, model.pooling and the texts"
    )


def _local(weight: Tensor) -> Tensor:
    """What this rank holds of a weight."""
    return getattr(weight, "ds_tensor", weight)


def _sample(weight: Tensor) -> Tensor:
    """Numbers of a weight, evenly spaced, in CPU memory."""
    values = _local(weight).detach().flatten()
    return values[:: max(1, values.numel() // _SAMPLED)].to("cpu", copy=True)
