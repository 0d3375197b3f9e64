"""Rule v2 (Conan-embedding-v2, arXiv 2509.12892, equation 6): judges and replaces each negative independently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from harness.mining.replacement_rule import ReplacementRule, seen_slots


class Rule(ReplacementRule):
    """Easy if S0 < floor, or if S0 > 0 and ratio * S < S0 and S < ceiling.

    The test S0 > 0 is needed because with a negative S0, any S slightly below S0 would pass the ratio test.
    """

    default_numbers: ClassVar[Mapping[str, float]] = {"ratio": 1.2, "ceiling": 0.7, "floor": 0.4}
    default_interval = 1

    def easy(self, row_B: np.ndarray, start_BM: np.ndarray, similarity_BM: np.ndarray) -> np.ndarray:
        ratio, ceiling, floor = (self.numbers[name] for name in ("ratio", "ceiling", "floor"))
        with np.errstate(invalid="ignore"):
            has_fallen_BM = (start_BM > 0) & (ratio * similarity_BM < start_BM) & (similarity_BM < ceiling)
            easy_BM = has_fallen_BM | (start_BM < floor)
        return seen_slots(start_BM, similarity_BM) & easy_BM

    def fixed_thresholds(self) -> dict[str, float]:
        ceiling, floor = self.numbers["ceiling"], self.numbers["floor"]
        return {f"S below {ceiling:g} only": ceiling, f"S0 below {floor:g}: replaced at once": floor}

    def moving_thresholds(self, start_P: np.ndarray) -> dict[str, np.ndarray]:
        return {f"S0 / {self.numbers['ratio']:g}": start_P / self.numbers["ratio"]}
