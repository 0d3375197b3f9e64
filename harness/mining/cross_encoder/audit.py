"""Writes the audit file: a line for every candidate that a cross-encoder's score makes no negative, and why."""

from __future__ import annotations

from typing import IO, Any

import numpy as np

from harness.data.table.index import TaskData
from harness.files import json_line
from harness.mining.cross_encoder.judge import Change, Judgement
from harness.mining.mined_texts import MinedTexts
from harness.search.request import SearchResult

_WORDS = {Change.DROPPED: "dropped", Change.RELABELLED: "relabelled"}


class Audit:
    """Writes the changes of one block of queries after the other.

    A line has `query`, `document`, where they stand (`query_at`, `document_at`), `rank` (from 0) and `similarity` in
    the search, `score` of the cross-encoder, `positive_score` (of the query's known positive that decides), `limit`,
    `change` (dropped, relabelled) and `why`.
    """

    def __init__(self, stream: IO[bytes], data: TaskData, documents: TaskData, texts: MinedTexts) -> None:
        self._stream, self._data, self._documents, self._texts = stream, data, documents, texts

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
            line = {
                "query": queries[entry][0],
                "document": documents[entry][0],
                "query_at": places[0],
                "document_at": places[1],
                "rank": rank,
                "similarity": float(similarity_QK[query, rank]),
                **_reasons(judged, query, rank, float(block.score_QK[query, rank]), lowest_Q, highest_Q),
            }
            self._stream.write(json_line(line))


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
