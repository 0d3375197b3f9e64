"""Retrieval: how well the nearest documents of a query match its relevant documents, by trec_eval's measures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harness import rank0
from harness.evaluation.counts import Counts, note_unused, only_nonzero, unused_columns
from harness.evaluation.judgements import Qrels, judgements_file, read_judgements
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.trec import trec_scores
from harness.evaluation.rows import MISSING, bad_field, file_called, read_rows, text_field
from harness.search.encode import EncodeTexts, encode_each_once
from harness.search.request import Pairs, SearchResult
from harness.search.top_k import nearest_by_cosine

TOP_K = 100  # number of documents per query that the measures use
_MEASURES = ("ndcg_at_10", "map_at_10", "map_at_100", "mrr_at_10", "recall_at_10", "recall_at_100")


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """Queries with relevance judgements, all documents, and the grades `qrels[query id][document id]`.

    documents: by descending id, so that of equal scores the search keeps those that trec_eval ranks first. not_ranked:
    the queries whose document of the same id is left out of their ranking.
    """

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: Qrels
    not_ranked: Set[str] = field(default=frozenset(), compare=False)
    counts: Counts = field(default_factory=dict, compare=False)


class Retrieval(Kind[RetrievalData]):
    """All ranks encode queries and documents and search; rank 0 scores the nearest documents."""

    data_type = RetrievalData
    unit = "queries"
    metrics = _MEASURES
    folder = "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/)"

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """(corpus, queries, judgements)."""
        corpus, queries = file_called(path, "corpus"), file_called(path, "queries")
        return (corpus, queries, judgements_file(path)) if corpus and queries else None

    def load(self, corpus: Path, queries: Path, judgements: Path) -> RetrievalData:
        """Read the data. A query that is a document (same id, same text) gets no credit for finding itself.

        BEIR's evaluator and several tasks of mteb go by the id alone, see `without_identical_ids`.
        """
        if ranked := file_called(corpus.parent, "top_ranked"):
            raise ValueError(
                f"{ranked}: got the documents to rank for each query (mteb's reranking), expected a corpus that is "
                "searched whole; remove this file, or write a file of query, positive and negative to rerank"
            )
        texts_of = _by_id(corpus, unused := Counter[str]())
        queries_of = _by_id(queries, unused, is_corpus=False)
        all_queries = {name: texts[0] for name, texts in queries_of.items()}
        qrels, counts = read_judgements(judgements, all_queries, texts_of)
        scored = {name: all_queries[name] for name in qrels}
        own = {name for name in scored if set(queries_of[name]) & set(texts_of.get(name, ()))}
        documents = {name: texts_of[name][0] for name in sorted(texts_of, reverse=True)}
        data = RetrievalData(scored, documents, qrels, counts=counts | unused_columns(unused))
        return _not_ranking(data, own, "own_documents")

    def without_identical_ids(self, data: RetrievalData) -> RetrievalData:
        """Data in which no query ranks the document with its id, whatever the texts (mteb's ignore_identical_ids)."""
        return _not_ranking(data, data.queries.keys() & data.documents.keys(), "identical_ids")

    def num_rows(self, data: RetrievalData) -> int:
        return len(data.queries)

    def encode(self, encode: EncodeTexts, data: RetrievalData) -> Embeddings:
        query_QD = encode_each_once(encode, list(data.queries.values()), "query")
        return query_QD, encode_each_once(encode, list(data.documents.values()), "document")

    def scores(self, data: RetrievalData, embeddings: Embeddings, dim: int | None = None) -> dict[str, float]:
        query_QD, document_CD = (table_ND[:, :dim] for table_ND in embeddings)
        nearest = nearest_by_cosine(query_QD, document_CD, TOP_K, excluded=_excluded(data))
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

    found: the TOP_K nearest documents of each query. trec_eval orders equal scores by descending document id.
    """
    rankings = {
        query: {document_ids[n]: float(s) for n, s in zip(index_K, score_K, strict=True) if n >= 0}
        for query, index_K, score_K in zip(query_ids, found.index_QK, found.score_QK, strict=True)
    }
    return trec_scores(rankings, qrels, _MEASURES)


def _not_ranking(data: RetrievalData, queries: Set[str], reason: str) -> RetrievalData:
    """The data in which these queries do not rank the document with their id."""
    judged = sum(data.qrels[query].get(query, 0) > 0 for query in queries)
    counts = {**data.counts, **only_nonzero(**{reason: len(queries), "own_documents_judged_relevant": judged})}
    if reason == "identical_ids":
        counts.pop("own_documents", None)
    return replace(data, not_ranked=frozenset(queries), counts=counts)


def _excluded(data: RetrievalData) -> Pairs | None:
    """The (query, document) positions that are not ranked."""
    if not data.not_ranked:
        return None
    row_of = {name: row for row, name in enumerate(data.documents)}
    pairs = [(i, row_of[name]) for i, name in enumerate(data.queries) if name in data.not_ranked]
    query_E, row_E = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    return query_E, row_E


def _by_id(file: Path, unused: Counter[str], is_corpus: bool = True) -> dict[str, tuple[str, ...]]:
    """Id → (the text to encode, and the text alone if a title or an instruction stands beside it).

    A document is its title and text, a query its text and instruction, joined with a space as mteb joins them, so that
    scores can be compared with published ones. unused: gets the columns that are not used.
    """
    texts: dict[str, tuple[str, ...]] = {}
    for line, row in read_rows(file):
        id_field = "_id" if "_id" in row else "id" if "id" in row else "_id"
        name = row.get(id_field, MISSING)
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise bad_field(file, line, id_field, name, "a text or a number")
        if str(name) in texts:
            raise bad_field(file, line, id_field, name, "an id that did not occur before")
        text = text_field(file, line, row, "text", may_be_empty=True).strip()
        beside = "title" if is_corpus else "instruction"
        more = None if row.get(beside) is None else text_field(file, line, row, beside, may_be_empty=True)
        joined = f"{more} {text}" if is_corpus else f"{text} {more}"
        texts[str(name)] = (joined.strip(), text) if more else (text,)
        note_unused(unused, row, (id_field, "text", beside))
    if not texts:
        raise ValueError(f"{file}: got no rows, expected at least one")
    return texts
