"""Writes the audit file: a line for every candidate that a cross-encoder's score makes no negative, and why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from harness.data.table.index import TaskData
from harness.mining.cross_encoder.judge import Change, Judgement
from harness.mining.mined_texts import MinedTexts
from harness.search.request import SearchResult

_WORDS = {Change.DROPPED: "dropped", Change.RELABELLED: "relabelled"}


class Audit:
    """Appends the changes of one block of queries after the other; the file is there when the `with` block ends.

    A line has `query`, `document`, where they stand (`query_at`, `document_at`), `rank` (from 0) and `similarity` in
    the search, `score` of the cross-encoder, `positive_score` (of the query's known positive that decides), `limit`,
    `change` (dropped, relabelled) and `why`.
    """

    def __init__(self, path: Path, data: TaskData, documents: TaskData, texts: MinedTexts) -> None:
        self._path, self._data, self._documents, self._texts = path, data, documents, texts
        self._unfinished = path.with_name(f".{path.name}.unfinished")

    def __enter__(self) -> Audit:
        self._stream = self._unfinished.open("w", encoding="utf-8", errors="surrogatepass")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self._stream.close()
        if kind is None:
            os.replace(self._unfinished, self._path)
        else:
            self._unfinished.unlink(missing_ok=True)

    def add(
        self,
        first: int,
        block: SearchResult,
        similarity_QK: np.ndarray,
        judged: Judgement,
        lowest_Q: np.ndarray,
        highest_Q: np.ndarray,
    ) -> None:
        """Write the changes among the candidates of consecutive queries from number `first` on.

        block: documents in the order of the search, and their scores by the cross-encoder. lowest_Q, highest_Q: the
        scores of the queries' known positives.
        """
        query_E, rank_E = np.nonzero(judged.change_QK != Change.KEPT)
        query_id_E = self._texts.query_id_Q[first + query_E]
        document_id_E = self._texts.document_id_C[block.index_QK[query_E, rank_E]]
        queries, documents = self._data.read_texts(query_id_E), self._documents.read_texts(document_id_E)
        for entry, (query, rank) in enumerate(zip(query_E.tolist(), rank_E.tolist(), strict=True)):
            places = self._data.location(int(query_id_E[entry])), self._documents.location(int(document_id_E[entry]))
            self._write(
                {
                    "query": queries[entry][0],
                    "document": documents[entry][0],
                    "query_at": places[0],
                    "document_at": places[1],
                    "rank": rank,
                    "similarity": float(similarity_QK[query, rank]),
                    **_reasons(judged, query, rank, float(block.score_QK[query, rank]), lowest_Q, highest_Q),
                }
            )

    def _write(self, line: dict[str, Any]) -> None:
        try:
            text = json.dumps(line, ensure_ascii=False)
            text.encode()
        except UnicodeEncodeError:  # a lone surrogate: JSON can escape it
            text = json.dumps(line)
        self._stream.write(f"{text}\n")


def _reasons(
    judged: Judgement, query: int, rank: int, score: float, lowest_Q: np.ndarray, highest_Q: np.ndarray
) -> dict[str, Any]:
    """Score, limit, change and reason of one candidate."""
    change = Change(judged.change_QK[query, rank])
    if change == Change.RELABELLED:
        what, which, of_positive, limit = "as good as a positive", "highest", highest_Q[query], judged.relabel_Q[query]
    else:
        what, which, of_positive, limit = "a likely positive", "lowest", lowest_Q[query], judged.drop_Q[query]
    why = f"{what}: its score {score:.4g} is not below {limit:.4g}; the {which} known positive has {of_positive:.4g}"
    known = {"positive_score": float(of_positive), "limit": float(limit)}
    return {"score": score, **known, "change": _WORDS[change], "why": why}
