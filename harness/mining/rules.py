"""When negatives have become easy: pure functions of similarities. See `MiningConfig` for the rules' sources."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.mining.config import MiningConfig


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with all its numbers."""

    by_window: bool  # judge a query's window as a whole, by means
    ratio: float
    ceiling: float
    floor: float | None
    interval: int

    @classmethod
    def of(cls, config: MiningConfig) -> Rule | None:
        """The configured rule; None for `none`."""
        if config.rule == "none":
            return None
        v1 = config.rule == "v1"
        return cls(
            by_window=v1,
            ratio=config.ratio or (1.15 if v1 else 1.2),
            ceiling=config.ceiling or (0.8 if v1 else 0.7),
            floor=None if v1 else (0.4 if config.floor is None else config.floor),
            interval=config.interval or (100 if v1 or config.check == "upcoming" else 1),
        )

    def easy(self, start_BM: np.ndarray, similarity_BM: np.ndarray) -> np.ndarray:
        """Bool [B, M]: slots to replace. NaN marks an empty slot, which is never replaced.

        The ratio test asks for S0 > 0: below, every S a little smaller than S0 would pass it.
        """
        filled_BM = ~(np.isnan(start_BM) | np.isnan(similarity_BM))
        if self.by_window:
            start_BM, similarity_BM = _mean(start_BM, filled_BM), _mean(similarity_BM, filled_BM)
        with np.errstate(invalid="ignore"):
            size_BM = np.abs(similarity_BM) if self.by_window else similarity_BM
            easy_BM = (start_BM > 0) & (self.ratio * similarity_BM < start_BM) & (size_BM < self.ceiling)
            if self.floor is not None:
                easy_BM |= start_BM < self.floor
        return filled_BM & easy_BM


def _mean(value_BM: np.ndarray, filled_BM: np.ndarray) -> np.ndarray:
    """[B, 1]: mean over the filled slots, NaN without any."""
    count_B1 = filled_BM.sum(axis=1, keepdims=True)
    total_B1 = np.where(filled_BM, value_BM, 0.0).sum(axis=1, keepdims=True, dtype=np.float64)
    return np.divide(total_B1, count_B1, out=np.full(count_B1.shape, np.nan), where=count_B1 > 0)
