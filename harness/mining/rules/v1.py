"""Rule v1 (Conan-embedding, arXiv 2408.15710, section 3.1): judges a query's negatives by their mean similarity.

If the negatives of a query have become easy, all of them are replaced at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import numpy as np

from harness.mining.replacement_rule import ReplacementRule, seen_slots


class Rule(ReplacementRule):
    """Easy if S0 > 0 and ratio * S < S0 and |S| < ceiling, with S and S0 the means over the query's seen slots.

    The test S0 > 0 is needed because with a negative S0, any S slightly below S0 would pass the ratio test.
    """

    default_numbers: ClassVar[Mapping[str, float]] = {"ratio": 1.15, "ceiling": 0.8}
    default_interval = 100
    replaces_windows = True

    def easy(self, row_B: np.ndarray, start_BM: np.ndarray, similarity_BM: np.ndarray) -> np.ndarray:
        ratio, ceiling = self.numbers["ratio"], self.numbers["ceiling"]
        seen_BM = seen_slots(start_BM, similarity_BM)
        start_B1, similarity_B1 = _mean(start_BM, seen_BM), _mean(similarity_BM, seen_BM)
        with np.errstate(invalid="ignore"):
            has_fallen_B1 = (start_B1 > 0) & (ratio * similarity_B1 < start_B1) & (np.abs(similarity_B1) < ceiling)
        return seen_BM & has_fallen_B1

    def next_ranks(self, leaving_BM: np.ndarray, next_ranks_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The next M ranks for all M slots; -1 for all slots if fewer than M candidates are left."""
        rank_BM = next_ranks_of(np.ones_like(leaving_BM))
        rank_BM[(rank_BM < 0).any(axis=1)] = -1
        return rank_BM

    def fixed_thresholds(self) -> dict[str, float]:
        return {f"S below {self.numbers['ceiling']:g} only": self.numbers["ceiling"]}

    def moving_thresholds(self, start_P: np.ndarray) -> dict[str, np.ndarray]:
        return {f"S0 / {self.numbers['ratio']:g}": start_P / self.numbers["ratio"]}


def _mean(value_BM: np.ndarray, seen_BM: np.ndarray) -> np.ndarray:
    """[B, 1]: mean over the seen slots; NaN if there are none."""
    count_B1 = seen_BM.sum(axis=1, keepdims=True)
    total_B1 = np.where(seen_BM, value_BM, 0.0).sum(axis=1, keepdims=True, dtype=np.float64)
    return np.divide(total_B1, count_B1, out=np.full(count_B1.shape, np.nan), where=count_B1 > 0)
