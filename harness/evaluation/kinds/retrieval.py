"""Retrieval: how well the nearest documents of a query match its relevant documents, by trec_eval's measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytrec_eval

from harness import rank0
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.rows import bad_field, file_called, read_lines, read_rows, text_field
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


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """Queries with relevance judgements, all documents, and the grades `qrels[query id][document id]`."""

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: dict[str, dict[str, int]]


class Retrieval(Kind[RetrievalData]):
    """All ranks encode queries and documents and search; rank 0 scores the nearest documents."""

    data_type = RetrievalData
    metrics = tuple(_MEASURES)
    folder = "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/)"

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """(corpus, queries, judgements)."""
        corpus, queries = file_called(path, "corpus"), file_called(path, "queries")
        return (corpus, queries, _qrels_file(path)) if corpus and queries else None

    def load(self, corpus: Path, queries: Path, judgements: Path) -> RetrievalData:
        # Title and text are joined with a space, as mteb does, so that scores can be compared with published ones.
        documents = _by_id(corpus, title=True)
        all_queries = _by_id(queries, title=False)
        qrels = _load_qrels(judgements, all_queries, documents)
        return RetrievalData({name: all_queries[name] for name in qrels}, documents, qrels)

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


def _qrels_file(folder: Path) -> Path:
    found = sorted((folder / "qrels").glob("*.tsv"))
    test = folder / "qrels" / "test.tsv"
    if test in found:
        return test
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "no .tsv file"
        raise ValueError(f"{folder / 'qrels'}: got {names}, expected test.tsv or a single .tsv file")
    return found[0]


def _by_id(file: Path, title: bool) -> dict[str, str]:
    texts: dict[str, str] = {}
    for line, row in read_rows(file):
        name = row.get("_id")
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise bad_field(file, line, "_id", name, "a text or a number")
        if str(name) in texts:
            raise bad_field(file, line, "_id", name, "an id that did not occur before")
        text = text_field(file, line, row, "text", may_be_empty=True)
        if title and row.get("title") is not None:
            text = f"{text_field(file, line, row, 'title', may_be_empty=True)} {text}"
        texts[str(name)] = text.strip()
    if not texts:
        raise ValueError(f"{file}: got no rows, expected at least one")
    return texts


def _load_qrels(file: Path, queries: dict[str, str], documents: dict[str, str]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line, content in read_lines(file):
        fields = content.split("\t")
        if len(fields) != 3:
            raise bad_field(file, line, "columns", len(fields), "3, separated by tabs (query-id, corpus-id, score)")
        query, document, grade = (field.strip() for field in fields)
        if line == 1 and not grade.lstrip("-").isdigit():  # the header
            continue
        if query not in queries:
            raise bad_field(file, line, "query-id", query, "an _id of the queries file")
        if document not in documents:
            raise bad_field(file, line, "corpus-id", document, "an _id of the corpus file")
        try:
            qrels.setdefault(query, {})[document] = int(grade)
        except ValueError:
            raise bad_field(file, line, "score", grade, "a whole number") from None
    if not qrels:
        raise ValueError(f"{file}: got no judgements, expected at least one")
    return qrels
