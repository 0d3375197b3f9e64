"""Reranking: how well the cosine ranks the documents that are given for each query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from harness import comm, rank0
from harness.data.source.columns.foreign import foreign_format
from harness.data.source.facts import FileFacts
from harness.data.source.files import BadRow, Row
from harness.data.source.formats import FormattedRow, detect_format
from harness.evaluation.counts import Counts, only_nonzero, unused_columns
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.trec import mean_scores, trec_values
from harness.evaluation.rows import example_of, read_formatted
from harness.search.cosine import share_of_rank
from harness.search.encode import EncodeTexts, encode_each_once, encode_share
from harness.search.scores import listed_cosines

QUERIES = 1024  # scored at a time


@dataclass(frozen=True, slots=True)
class RerankingData:
    """Queries, the documents to rank for each query, and whether each of these documents is relevant."""

    queries: list[str]
    documents: list[list[str]]
    relevant: list[list[bool]]
    counts: Counts = field(default_factory=dict, compare=False)


class Reranking(Kind[RerankingData]):
    num_query_tables = 1
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

    def load(self, file: Path, cache: str | None = None) -> RerankingData:
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
        """Embeddings of all queries, and of this rank's share of the distinct documents."""
        query_QD = encode_each_once(encode, data.queries, "query")
        texts = list(_number_of(data))
        share_U = np.asarray(share_of_rank(len(texts)))
        return query_QD, encode_share(encode, lambda number_N: [texts[i] for i in number_N], share_U, "document")

    def scores(self, data: RerankingData, embeddings: Embeddings, dim: int | None = None) -> dict[str, float]:
        """Each rank computes the cosines of its share of the documents, rank 0 the scores."""
        query_QD, document_ND = (table_ND[:, :dim] for table_ND in embeddings)
        number_of = _number_of(data)
        share = share_of_rank(len(number_of))
        number_N = np.array([number_of[text] for texts in data.documents for text in texts])
        query_N = np.repeat(np.arange(len(data.queries)), [len(texts) for texts in data.documents])
        own_N = np.flatnonzero((number_N >= share.start) & (number_N < share.stop))
        row_N = number_N[own_N] - share.start
        own_cosine_N = np.zeros(len(number_N), dtype=np.float32)
        own_cosine_N[own_N] = listed_cosines(query_QD, document_ND, query_N[own_N], row_N)
        cosine_N = comm.all_reduce_sum(torch.from_numpy(own_cosine_N).to(comm.device()))  # one cosine and zeros: exact
        return rank0.by_main(lambda: self.score(data, cosine_N.cpu().numpy()))

    def score(self, data: RerankingData, cosine_N: np.ndarray) -> dict[str, float]:
        return reranking_scores(cosine_N, data.relevant)


def _number_of(data: RerankingData) -> dict[str, int]:
    """Distinct document → its number, in the order of the first occurrence."""
    distinct = dict.fromkeys(text for texts in data.documents for text in texts)
    return {text: number for number, text in enumerate(distinct)}


def _is_empty(row: FormattedRow) -> bool:
    """Whether the row has the column of positives, but none in it."""
    name = row.row_format.positive
    return name in row.columns and row.columns[name] in (None, [])


def reranking_scores(cosine_N: np.ndarray, relevant: Sequence[Sequence[bool]]) -> dict[str, float]:
    """MAP and MRR@10 of each query's documents, ranked by cosine: means over the queries, by trec_eval.

    cosine_N: of the documents of the first query, then those of the second query, and so on. relevant: for each query,
    whether each of its documents is relevant; at least one is, and at least one is not. Equal cosines count against
    the model: its negatives come first. mteb's ids of such documents (`apositive_...`, `negative_...`) do the same in
    trec_eval, which ranks equal scores by descending id.
    """
    values = []
    first = 0
    for start in range(0, len(relevant), QUERIES):
        rankings: dict[str, dict[str, float]] = {}
        qrels: dict[str, dict[str, int]] = {}
        for query, relevant_n in enumerate(relevant[start : start + QUERIES]):
            ids = [f"{'positive' if is_relevant else 'xnegative'}_{i}" for i, is_relevant in enumerate(relevant_n)]
            cosine_n = cosine_N[first : first + len(ids)].tolist()
            rankings[str(query)] = dict(zip(ids, cosine_n, strict=True))
            qrels[str(query)] = {name: int(is_relevant) for name, is_relevant in zip(ids, relevant_n, strict=True)}
            first += len(ids)
        values.append(trec_values(rankings, qrels, ("map_at_1000", "mrr_at_10")))
    scores = mean_scores(values)
    return {"map": scores["map_at_1000"], "mrr": scores["mrr_at_10"], **scores}
