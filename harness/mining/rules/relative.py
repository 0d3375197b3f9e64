"""Rule relative: judges a negative by its place among the step's documents, not by the value of its cosine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from harness.mining.judging.slots import Judgement, Slots, Standing
from harness.mining.replacement_rule import ReplacementRule


class Rule(ReplacementRule):
    """Easy if the smoothed quantile <= quantile. Too hard if above the positive in each of the last uses_above uses.

    The quantile of a negative in a step is the share of the step's other documents that are less similar to its query
    (see `Standing`). Smoothed: Q becomes (Q + quantile of this use) / 2; the first use's quantile is the first Q. A
    negative that is too hard may be an unlabelled positive. uses_above 0: none is too hard.
    """

    default_numbers: ClassVar[Mapping[str, float]] = {"quantile": 0.9, "uses_above": 3}
    memory: ClassVar[Mapping[str, float]] = {"quantile": np.nan, "above": 0.0}  # smoothed; uses in a row
    compares = True

    def remember(self, memory: Mapping[str, np.ndarray], standing: Standing) -> dict[str, np.ndarray]:
        before_BM, now_BM = memory["quantile"], standing.quantile_BM
        smoothed_BM = np.where(np.isnan(before_BM), now_BM, (before_BM + now_BM) / 2)
        return {
            "quantile": np.where(np.isnan(now_BM), before_BM, smoothed_BM),
            "above": np.where(standing.is_above_BM, memory["above"] + 1, 0),
        }

    def judge(self, slots: Slots) -> Judgement:
        uses_above = self.numbers["uses_above"]
        too_hard_BM = (slots.memory["above"] >= uses_above) & (uses_above > 0)
        with np.errstate(invalid="ignore"):
            easy_BM = (slots.memory["quantile"] <= self.numbers["quantile"]) & ~too_hard_BM
        return Judgement(easy_BM, too_hard_BM)
