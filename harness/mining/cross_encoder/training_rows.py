"""Writes the training rows with their mined negatives, relabelled positives and a ranker's scores, for distillation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.data.table.index import TaskData
from harness.data.table.npy import open_array
from harness.files import gzip_file, json_line, replace_file
from harness.mining.mined_texts import MinedTexts

TRAIN = "train.jsonl.gz"
_ROWS_AT_ONCE = 1024

Scored = tuple[np.ndarray, np.ndarray, np.ndarray]  # (query, document, score) of some pairs


class TrainingRows:
    """The rows in their order, with the negatives of the bank's arrays in `out`, hardest first.

    A row is FlagEmbedding's: query, pos, neg, pos_scores, neg_scores, and prompt if it has one of its own.

    Args:
        positives: (query, text id of `data`, score) of the known positives.
        relabelled: (query, document, score) of candidates that become positives of all rows with this query.
    """

    def __init__(
        self,
        out: Path,
        data: TaskData,
        documents: TaskData,
        texts: MinedTexts,
        positives: Scored,
        relabelled: Sequence[Scored],
    ) -> None:
        self._out, self._data, self._documents, self._texts = out, data, documents, texts
        self._candidate_RC, self._score_RC, self._count_R = (
            open_array(out / f"{name}.npy") for name in ("candidate_RC", "score_RC", "count_R")
        )
        query_E, id_E, score_E = positives
        self._positive_score = dict(zip(zip(query_E.tolist(), id_E.tolist(), strict=True), score_E, strict=True))
        self._relabelled: dict[int, list[tuple[int, float]]] = {}
        for queries, found, scores in relabelled:
            for query, document, score in zip(queries.tolist(), found.tolist(), scores.tolist(), strict=True):
                self._relabelled.setdefault(query, []).append((int(texts.document_id_C[document]), score))

    def write(self) -> None:
        """Write the file; equal inputs give equal bytes."""

        def write(stream: IO[bytes]) -> None:
            with gzip_file(stream) as packed:
                for first in range(0, self._data.num_rows, _ROWS_AT_ONCE):
                    for row in self.read(first, min(first + _ROWS_AT_ONCE, self._data.num_rows)):
                        packed.write(json_line(row))

        replace_file(self._out / TRAIN, write)

    def read(self, first: int, stop: int) -> list[dict[str, Any]]:
        """The rows first … stop - 1."""
        plans = [self._plan(row) for row in range(first, stop)]
        own = _texts_of(self._data, [ids for own_ids, _, _ in plans for ids in own_ids])
        found = _texts_of(self._documents, [i for _, more, negatives in plans for i, _ in (*more, *negatives)])
        rows = []
        for row, (own_ids, more, negatives) in zip(range(first, stop), plans, strict=True):
            (query, prompt), query_number = own[own_ids[0]], int(self._texts.query_of_row_R[row])
            own_scores = [float(self._positive_score[query_number, i]) for i in own_ids[1:]]
            rows.append(
                {
                    "query": query,
                    "pos": [own[i][0] for i in own_ids[1:]] + [found[i][0] for i, _ in more],
                    "neg": [found[i][0] for i, _ in negatives],
                    "pos_scores": own_scores + [score for _, score in more],
                    "neg_scores": [score for _, score in negatives],
                    **({} if prompt is None else {"prompt": prompt}),
                }
            )
        return rows

    def _plan(self, row: int) -> tuple[list[int], list[tuple[int, float]], list[tuple[int, float]]]:
        """(text ids of the query and its own positives, relabelled documents, negatives, both with their scores)."""
        start = int(self._data.row_start_R1[row])
        own = list(range(start, start + 1 + int(self._data.num_positives_R[row])))
        count = int(self._count_R[row])
        ids, scores = self._candidate_RC[row, :count].tolist(), self._score_RC[row, :count].tolist()
        more = self._relabelled.get(int(self._texts.query_of_row_R[row]), [])
        return own, more, list(zip(ids, scores, strict=True))


def _texts_of(table: TaskData, ids: list[int]) -> dict[int, tuple[str, str | None]]:
    unique = np.unique(np.array(ids, dtype=np.int64))
    return dict(zip(unique.tolist(), table.read_texts(unique), strict=True))
