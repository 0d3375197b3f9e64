"""Stage 3: the negative bank. Which of a query's ranked candidates are in use: plain data, no model.

A training file's negative lists are ranked candidates already (rank 0 first). The fixed rule keeps each query's first
window, ranks [0, per_query). Dynamic rules replace the bank between steps; the plan only ever reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.data.index import TaskData


@dataclass(frozen=True, slots=True)
class NegativeBank:
    """Ranked candidates of every query of one task, and the window in use."""

    data: TaskData
    window: int  # candidates in use per query

    def candidates(self, row_B: np.ndarray) -> np.ndarray:
        """Text ids [B, M] of the window of each row, -1 where a row has fewer candidates. M = window."""
        first_B = self.data.row_start_R1[row_B] + 1 + self.data.num_positives_R[row_B]
        stop_B = self.data.row_start_R1[row_B + 1]
        text_BM = first_B[:, None] + np.arange(self.window)
        return np.where(text_BM < stop_B[:, None], text_BM, -1)
