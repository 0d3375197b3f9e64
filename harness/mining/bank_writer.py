"""Writes the files of a bank during a search: the candidates of each query text go to every row with this query."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.data.bank.file import BankFacts
from harness.data.ragged import expand_ranges
from harness.data.table.npy import create_array
from harness.mining.mined_texts import MinedTexts

BYTES_PER_CANDIDATE = 8  # at least: a number and a score


class BankWriter:
    """Writes the arrays of a bank into the folder `out`, see `harness.data.bank.file`. Only rank 0 creates one."""

    def __init__(self, out: Path, texts: MinedTexts, num_candidates: int) -> None:
        self.out, self.document_id_C = out, texts.document_id_C
        num_rows, num_queries = len(texts.query_of_row_R), len(texts.query_id_Q)
        self._row_by_query_R = np.argsort(texts.query_of_row_R, kind="stable")  # the rows of query 0, of query 1, …
        self._start_Q1 = np.searchsorted(texts.query_of_row_R[self._row_by_query_R], np.arange(num_queries + 1))
        needs_int64 = len(self.document_id_C) and int(self.document_id_C.max()) >= 2**31
        id_dtype = np.int64 if needs_int64 else np.int32
        self._candidate_RC = create_array(out / "candidate_RC.npy", id_dtype, (num_rows, num_candidates))
        self._score_RC = create_array(out / "score_RC.npy", np.float32, (num_rows, num_candidates))
        self._count_R = create_array(out / "count_R.npy", np.int32, (num_rows,))

    def add(self, first: int, document_QK: np.ndarray, score_QK: np.ndarray) -> None:
        """Write the search results of consecutive queries from number `first` on: documents, best first, -1 padded."""
        start_Q = self._start_Q1[first : first + len(document_QK)]
        stop_Q = self._start_Q1[first + 1 : first + 1 + len(document_QK)]
        query_E, place_E = expand_ranges(start_Q, stop_Q)
        row_E, document_EK = self._row_by_query_R[place_E], document_QK[query_E]
        is_found_EK = document_EK >= 0
        self._candidate_RC[row_E] = np.where(is_found_EK, self.document_id_C[np.maximum(document_EK, 0)], -1)
        self._score_RC[row_E] = np.where(is_found_EK, score_QK[query_E], np.nan)
        self._count_R[row_E] = is_found_EK.sum(axis=1)

    def finish(self, facts: BankFacts) -> None:
        """Write bank.json, which marks the bank as finished."""
        self.flush()
        facts.write(self.out)

    def flush(self) -> None:
        """Write what was added to the files, which have their final length."""
        for array in (self._candidate_RC, self._score_RC, self._count_R):
            array.flush()
