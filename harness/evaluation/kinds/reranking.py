"""Reranking: how well the cosine ranks the documents that are given for each query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.data.source.columns.foreign import foreign_format
from harness.data.source.facts import FileFacts
from harness.data.source.files import BadRow, Row
from harness.data.source.formats import FormattedRow, detect_format
from harness.evaluation.counts import Counts, only_nonzero, unused_columns
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.trec import trec_scores
from harness.evaluation.rows import example_of, read_formatted
from harness.search.encode import EncodeTexts, encode_each_once
from harness.search.scores import pair_cosines


@dataclass(frozen=True, slots=True)
class RerankingData:
    """Queries, the documents to rank for each query, and whether each of these documents is relevant."""

    queries: list[str]
    documents: list[list[str]]
    relevant: list[list[bool]]
    counts: Counts = field(default_factory=dict, compare=False)


class Reranking(Kind[RerankingData]):
    data_type = RerankingData
    unit = "queries"
    # map and mrr: the names that mteb 1 gave to map_at_1000 and mrr_at_10, and that earlier runs have recorded.
    metrics = ("map", "mrr", "map_at_1000", "mrr_at_10")
    columns = "query, positive, negative"

    def recognises(self, row: Row) -> bool:
        """Whether training would read it as a query with positives; negatives may be missing in the first row."""
        return foreign_format(set(row), "retrieval") is not None or not isinstance(
            detect_format(row, "retrieval"), BadRow
        )

    def load(self, file: Path) -> RerankingData:
        # A query without positives or without negatives leaves nothing to rank: it is not scored, as in mteb.
        data, count = RerankingData([], [], []), Counter[str]()
        for line, row in read_formatted(file, "retrieval", facts := FileFacts()):
            if _is_empty(row):
                count["rows_without_positives"] += 1
                continue
            example = example_of(file, line, row)
            query, *documents = example.texts
            num_negatives = len(documents) - example.num_positives
            if not num_negatives:
                count["rows_without_negatives"] += 1
                continue
            count["row_prompts"] += example.prompt is not None
            count["row_scores"] += example.document_scores is not None
            data.queries.append(query)
            data.documents.append(documents)
            data.relevant.append([True] * example.num_positives + [False] * num_negatives)
        count["rows_without_positives"] += sum(facts.skipped.values())
        count["queries_with_both_labels"] = sum(facts.notes.values())
        if not data.queries:
            raise ValueError(f"{file}: got no row with a positive and a negative, expected at least one to rerank")
        data.counts.update(only_nonzero(**count) | unused_columns(facts.unused))
        return data

    def num_rows(self, data: RerankingData) -> int:
        return len(data.queries)

    def encode(self, encode: EncodeTexts, data: RerankingData) -> Embeddings:
        documents = [text for texts in data.documents for text in texts]
        return encode_each_once(encode, data.queries, "query"), encode_each_once(encode, documents, "document")

    def score(self, data: RerankingData, query_QD: np.ndarray, document_ND: np.ndarray) -> dict[str, float]:
        return reranking_scores(query_QD, document_ND, data.relevant)


def _is_empty(row: FormattedRow) -> bool:
    """Whether the row has the column of positives, but none in it."""
    name = row.row_format.positive
    return name in row.columns and row.columns[name] in (None, [])


def reranking_scores(
    query_QD: np.ndarray, document_ND: np.ndarray, relevant: Sequence[Sequence[bool]]
) -> dict[str, float]:
    """MAP and MRR@10 of each query's documents, ranked by cosine: means over the queries, by trec_eval.

    document_ND: the documents of the first query, then those of the second query, and so on. relevant: for each query,
    whether each of its documents is relevant; at least one is, and at least one is not. Equal cosines count against
    the model: its negatives come first. mteb's ids of such documents (`apositive_...`, `negative_...`) do the same in
    trec_eval, which ranks equal scores by descending id.
    """
    query_N = np.repeat(np.arange(len(query_QD)), [len(relevant_n) for relevant_n in relevant])
    cosine_N = pair_cosines(query_QD[query_N], document_ND)
    rankings: dict[str, dict[str, float]] = {}
    qrels: dict[str, dict[str, int]] = {}
    first = 0
    for query, relevant_n in enumerate(relevant):
        ids = [f"{'positive' if is_relevant else 'xnegative'}_{i}" for i, is_relevant in enumerate(relevant_n)]
        cosine_n = cosine_N[first : first + len(ids)].tolist()
        rankings[str(query)] = dict(zip(ids, cosine_n, strict=True))
        qrels[str(query)] = {name: int(is_relevant) for name, is_relevant in zip(ids, relevant_n, strict=True)}
        first += len(ids)
    scores = trec_scores(rankings, qrels, ("map_at_1000", "mrr_at_10"))
    return {"map": scores["map_at_1000"], "mrr": scores["mrr_at_10"], **scores}
