"""Reranking: how well the cosine ranks the documents that are given for each query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score

from harness.data.source.files import Row
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.rows import read_rows, text_field
from harness.search.encode import EncodeTexts, encode_each_once
from harness.search.unit_rows import unit_rows


@dataclass(frozen=True, slots=True)
class RerankingData:
    """Queries, the documents to rank for each query, and whether each of these documents is relevant."""

    queries: list[str]
    documents: list[list[str]]
    relevant: list[list[bool]]


class Reranking(Kind[RerankingData]):
    data_type = RerankingData
    metrics = ("map", "mrr")
    columns = "query, positive, negative"

    def recognises(self, row: Row) -> bool:
        return all(column in row for column in ("query", "positive", "negative"))

    def load(self, file: Path) -> RerankingData:
        # A query without positives or without negatives leaves nothing to rank: it is skipped, as mteb does.
        data = RerankingData([], [], [])
        for line, row in read_rows(file):
            query = text_field(file, line, row, "query")
            positives, negatives = (_texts(file, line, row, side) for side in ("positive", "negative"))
            if positives and negatives:
                data.queries.append(query)
                data.documents.append(positives + negatives)
                data.relevant.append([True] * len(positives) + [False] * len(negatives))
        if not data.queries:
            raise ValueError(f"{file}: got no row with a positive and a negative, expected at least one")
        return data

    def num_rows(self, data: RerankingData) -> int:
        return len(data.queries)

    def encode(self, encode: EncodeTexts, data: RerankingData) -> Embeddings:
        documents = [text for texts in data.documents for text in texts]
        return encode_each_once(encode, data.queries, "query"), encode_each_once(encode, documents, "document")

    def score(self, data: RerankingData, query_QD: np.ndarray, document_ND: np.ndarray) -> dict[str, float]:
        return reranking_scores(query_QD, document_ND, data.relevant)


def reranking_scores(
    query_QD: np.ndarray, document_ND: np.ndarray, relevant: Sequence[Sequence[bool]]
) -> dict[str, float]:
    """MAP and MRR@10 of each query's documents, ranked by cosine: means over the queries.

    document_ND: the documents of the first query, then those of the second query, and so on. relevant: for each query,
    whether each of its documents is relevant; at least one is, and at least one is not. Average precision is
    scikit-learn's: documents with equal cosines share a rank.
    """
    query_QD, document_ND = unit_rows(query_QD), unit_rows(document_ND)
    average_precisions, reciprocal_ranks, first = [], [], 0
    for query_D, relevant_n in zip(query_QD, relevant, strict=True):
        cosine_n = document_ND[first : first + len(relevant_n)] @ query_D
        first += len(relevant_n)
        average_precisions.append(average_precision_score(relevant_n, cosine_n))
        best_k = np.argsort(-cosine_n, kind="stable")[:10]
        relevant_k = np.flatnonzero(np.asarray(relevant_n)[best_k])
        reciprocal_ranks.append(1 / (1 + relevant_k[0]) if len(relevant_k) else 0.0)
    return {"map": float(np.mean(average_precisions)), "mrr": float(np.mean(reciprocal_ranks))}


def _texts(file: Path, line: int, row: Row, field: str) -> list[str]:
    value = row.get(field)
    texts = value if isinstance(value, list) else [value]
    return [text_field(file, line, {field: text}, field) for text in texts]
