"""The base class of kinds of evaluation data. Each kind defines its metrics, the texts to encode, and the scores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from harness import rank0
from harness.data.source.files import FILE_SUFFIXES, Row
from harness.evaluation.quantised import quantised_rows
from harness.evaluation.rows import file_called, first_row
from harness.export.formats.sizes import Quantised
from harness.search.encode import EncodeTexts
from harness.search.unit_rows import unit_rows

Data = TypeVar("Data")  # each has `counts`: what was counted while it was read (harness/evaluation/counts.py)
Embeddings = tuple[np.ndarray, ...]  # one or several float32 [N, D], not normalised; see `encode`


class Kind(ABC, Generic[Data]):
    """A kind of evaluation data. To add a kind, add a file to this folder and a line to `table.py`."""

    data_type: type[Data]
    folder: str = ""  # of a kind that is a folder of several files: what messages call it
    columns: str = ""  # of a kind that is a single file: its columns, as messages list them
    num_query_tables: int = 0  # how many of the first embeddings are of queries, which no index stores
    unit: str  # what `num_rows` counts
    metrics: tuple[str, ...]  # mteb's names; the first is the main metric, which no other kind has
    # score(data, *unit rows) returns all metrics, NaN where one is not defined; called on rank 0 only
    score: Callable[..., dict[str, float]]
    # load(*files, cache=...) reads what `files` names; ValueError `FILE:LINE: FIELD: ...` for a bad row. cache: the
    # folder for derived files; None: the user's
    load: Callable[..., Data]

    @property
    def main_metric(self) -> str:
        return self.metrics[0]

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """The files of the data set at `path`; None if it is not of this kind.

        By default a kind is a single file, or a folder that contains it under the name test, whose first row
        `recognises` accepts.
        """
        file = file_called(path, "test") if path.is_dir() else path
        if file is None or not file.is_file() or not file.name.endswith(FILE_SUFFIXES):
            return None
        return (file,) if self.recognises(first_row(file)) else None

    def recognises(self, row: Row) -> bool:
        """Whether a file with this first row is of this kind."""
        return False

    @abstractmethod
    def num_rows(self, data: Data) -> int:
        """The number of queries, pairs or texts that are scored."""

    @abstractmethod
    def encode(self, encode: EncodeTexts, data: Data) -> Embeddings:
        """The embeddings that `scores` takes. Equal texts are encoded once. Every rank must call this.

        Where rank 0 alone scores, the other ranks get tables without rows. Where the data may be large, each rank gets
        its share of the documents. Every table is [N, D] on every rank.
        """

    def scores(self, data: Data, embeddings: Embeddings, dim: int | None = None) -> dict[str, float]:
        """All metrics of the embeddings, or of their first `dim` dimensions. Every rank must call this.

        Scores are computed from unit rows in float32, whatever the model's precision and whether it normalises: an
        exported model folder normalises, so that mteb gets unit rows, too.
        """
        return rank0.by_main(lambda: self.score(data, *(unit_rows(table_ND[:, :dim]) for table_ND in embeddings)))

    def quantised_scores(
        self, data: Data, embeddings: Embeddings, precision: Quantised, dim: int | None = None
    ) -> dict[str, float]:
        """`scores` of vectors stored in this precision; those of queries are not stored. Every rank must call this."""
        cut = [table_ND[:, :dim] for table_ND in embeddings]
        stored = quantised_rows(cut[self.num_query_tables :], precision)
        return self.scores(data, (*cut[: self.num_query_tables], *stored))
