"""Retrieval: how well the nearest documents of a query match its relevant documents, by trec_eval's measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytrec_eval

from harness import rank0
from harness.evaluation.datasets import RetrievalData
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.search.encode import EncodeTexts, encode_each_once
from harness.search.request import SearchResult
from harness.search.top_k import nearest_by_cosine

TOP_K = 100  # number of documents per query that the measures use
# mteb's name: (trec_eval's name in its results, trec_eval's name in a request)
_MEASURES = {
    "ndcg_at_10": ("ndcg_cut_10", "ndcg_cut.10"),
    "map_at_10": ("map_cut_10", "map_cut.10"),
    "map_at_100": ("map_cut_100", "map_cut.100"),
    "mrr_at_10": ("recip_rank", "recip_rank"),
    "recall_at_10": ("recall_10", "recall.10"),
    "recall_at_100": ("recall_100", "recall.100"),
}


class Retrieval(Kind[RetrievalData]):
    """All ranks encode queries and documents and search; rank 0 scores the nearest documents."""

    data_type = RetrievalData
    metrics = tuple(_MEASURES)

    def num_rows(self, data: RetrievalData) -> int:
        return len(data.queries)

    def encode(self, encode: EncodeTexts, data: RetrievalData) -> Embeddings:
        query_QD = encode_each_once(encode, list(data.queries.values()), "query")
        return query_QD, encode_each_once(encode, list(data.documents.values()), "document")

    def scores(self, data: RetrievalData, embeddings: Embeddings, dim: int | None = None) -> dict[str, float]:
        query_QD, document_CD = (table_ND[:, :dim] for table_ND in embeddings)
        nearest = nearest_by_cosine(query_QD, document_CD, TOP_K)
        return rank0.by_main(lambda: self.score(data, nearest))

    def score(self, data: RetrievalData, nearest: SearchResult) -> dict[str, float]:
        return retrieval_scores(list(data.queries), list(data.documents), nearest, data.qrels)


def retrieval_scores(
    query_ids: Sequence[str],
    document_ids: Sequence[str],
    found: SearchResult,
    qrels: Mapping[str, Mapping[str, int]],
) -> dict[str, float]:
    """nDCG@10 (linear gain), MAP@10/@100, MRR@10, Recall@10/@100 by trec_eval: means over the queries.

    found: the TOP_K nearest documents of each query. As in mteb, a document with the id of the query is not removed
    from the ranking. trec_eval orders equal scores by descending document id.
    """
    ranking = {
        query: {document_ids[n]: float(s) for n, s in zip(index_K, score_K, strict=True) if n >= 0}
        for query, index_K, score_K in zip(query_ids, found.index_QK, found.score_QK, strict=True)
    }
    judged = {query: dict(qrels[query]) for query in query_ids}
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {requested for _, requested in _MEASURES.values()})
    per_query = list(evaluator.evaluate(ranking).values())
    value_MQ = {name: np.array([row[measure] for row in per_query]) for name, (measure, _) in _MEASURES.items()}
    reciprocal_rank_Q = value_MQ["mrr_at_10"]  # trec_eval counts the first relevant document at any rank, not up to 10
    value_MQ["mrr_at_10"] = np.where(reciprocal_rank_Q > 1 / 10.5, reciprocal_rank_Q, 0.0)
    return {name: float(value_Q.mean()) for name, value_Q in value_MQ.items()}
