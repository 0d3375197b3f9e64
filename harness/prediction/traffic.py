"""Bytes of gradients and weights that one rank sends in a step.

A collective over W ranks is counted as a ring computes it: an all-gather or a reduce-scatter of n bytes sends
n · (W − 1) / W, an all-reduce twice that (Thakur et al. 2005).
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.prediction.precision import Numbers
from harness.prediction.states import ModelSize
from harness.prediction.zero_settings import ZeroSettings


@dataclass(frozen=True, slots=True)
class Traffic:
    """The whole tensors that take part in collectives of one step, in bytes, however many ranks there are.

    all_reduced: sums that every rank gets. reduced: sums of which a rank gets a part. gathered: parts that every rank
    gets.
    """

    all_reduced: int
    reduced: int
    gathered: int

    def sent(self, ranks: int) -> dict[str, int]:
        """Bytes that one rank sends, by kind; 0 for a single rank."""
        share = (ranks - 1) / ranks
        return {
            "gradients": int((2 * self.all_reduced + self.reduced) * share),
            "weights": int(self.gathered * share),
        }


def traffic(size: ModelSize, zero: ZeroSettings, numbers: Numbers, micro_batches: int, forwards: int) -> Traffic:
    """The collectives of one step, those of the score phase left out.

    forwards: of one rank, over both phases. micro_batches: of one rank; each has one backward.
    """
    gradients, weights = size.total * numbers.reduced.itemsize, size.total * numbers.weights.itemsize
    if zero.stage == 0:
        sums = {"all_reduced": gradients, "reduced": 0, "gathered": 0}
    elif zero.stage in (1, 2):
        # Stage 2 sums after every micro-batch, stage 1 after the last one.
        summed = gradients * (micro_batches if zero.stage == 2 else 1)
        to_all = zero.reduces_to_all or not zero.scatters
        sums = {"all_reduced": summed if to_all else 0, "reduced": 0 if to_all else summed, "gathered": weights}
    else:
        item = numbers.weights.itemsize
        fetched = (size.sharded * (forwards + micro_batches) - size.unpassed * micro_batches) * item
        sums = {
            "all_reduced": 0 if zero.scatters else gradients * micro_batches,
            "reduced": gradients * micro_batches if zero.scatters else 0,
            "gathered": fetched + size.kept_whole * item,
        }
    return Traffic(**sums)
