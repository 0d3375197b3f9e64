"""What every kind of evaluation data defines: its metrics, the texts it encodes, and its scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from harness import rank0
from harness.search.encode import EncodeTexts
from harness.search.unit_rows import unit_rows

Data = TypeVar("Data")
Embeddings = tuple[np.ndarray, ...]  # float32 [N, D] each, not normalised; the same on every rank


class Kind(ABC, Generic[Data]):
    """A kind of evaluation data. Add one as a file of this folder and a line of `table.py`."""

    data_type: type[Data]
    metrics: tuple[str, ...]  # mteb's names; the main one first, which no other kind has
    score: Callable[..., dict[str, float]]  # score(data, *embeddings): all metrics; called on rank 0 only

    @property
    def main_metric(self) -> str:
        return self.metrics[0]

    @abstractmethod
    def num_rows(self, data: Data) -> int:
        """How many queries, pairs or texts are judged."""

    @abstractmethod
    def encode(self, encode: EncodeTexts, data: Data) -> Embeddings:
        """The embeddings that `scores` takes. Every rank calls it. Of equal texts one is encoded."""

    def scores(self, data: Data, embeddings: Embeddings, dim: int | None = None) -> dict[str, float]:
        """All metrics, or those of the first `dim` dimensions only. Every rank calls it; rank 0 computes."""
        return rank0.by_main(lambda: self.score(data, *(_prefix(table_ND, dim) for table_ND in embeddings)))


def _prefix(row_ND: np.ndarray, dim: int | None) -> np.ndarray:
    """The rows; with `dim`, their first so many dimensions as unit rows (Matryoshka)."""
    return row_ND if dim is None else unit_rows(row_ND[:, :dim])
