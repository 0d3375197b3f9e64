"""What a replacement rule is told about negatives, and what it answers. S and S0 are defined in `ReplacementRule`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the own negatives of a step's queries stand among the other documents of the step.

    Both depend on the order of a query's similarities only: no temperature and no strictly monotone change of the
    cosines changes them.
    """

    # float64: share of the query's other documents that are less similar than the negative (as similar: a half);
    # NaN: unknown, as the loss has left the negative out, or there is no other document
    quantile_BM: np.ndarray
    # bool: more similar than the query's lowest positive, or left out by the loss, which takes it for a positive
    is_above_BM: np.ndarray


@dataclass(frozen=True, slots=True)
class Slots:
    """The negatives in use of some queries. If S or S0 is NaN, the slot is empty or has not been seen."""

    row_B: np.ndarray  # distinct rows of the training data, ascending
    start_BM: np.ndarray  # S0
    similarity_BM: np.ndarray  # S
    memory: Mapping[str, np.ndarray]  # what the rule has remembered of each slot: name → [B, M]


@dataclass(frozen=True, slots=True)
class Judgement:
    """Bool [B, M]: the negatives to replace, by the reason. No negative has both."""

    easy_BM: np.ndarray
    too_hard_BM: np.ndarray  # likely unlabelled positives

    @property
    def leaving_BM(self) -> np.ndarray:
        return self.easy_BM | self.too_hard_BM
