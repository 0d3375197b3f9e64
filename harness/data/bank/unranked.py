"""Candidates that stand in for a ranking which a run makes only when it starts, so that `harness plan` counts them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.table.index import TaskData


@dataclass(frozen=True, slots=True)
class UnrankedCandidates:
    """The first positives of the rows that follow a query's own, round the end; see `negatives.Candidates`.

    As many and as long as those of a ranking among the task's documents. They are never trained on.
    """

    texts: TaskData
    offset: int
    num_candidates: int  # of each query, if there are so many other rows

    def count(self, row_B: np.ndarray) -> np.ndarray:
        return np.full(row_B.shape, min(self.num_candidates, self.texts.num_rows - 1), dtype=np.int64)

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        row_BM = (row_B[:, None] + 1 + rank_BM) % self.texts.num_rows
        text_BM = self.texts.row_start_R1[row_BM] + 1
        return np.where(rank_BM < self.count(row_B)[:, None], text_BM, -1).astype(np.int64)

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        return np.full(rank_BM.shape, np.nan, dtype=np.float32)
