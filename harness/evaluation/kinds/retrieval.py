"""Retrieval: how well the nearest documents of a query match its relevant documents, by trec_eval's measures.

Each rank encodes, holds and searches its share of the distinct documents; rank 0 scores the nearest ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from harness import comm, rank0
from harness.data.ragged import expand_ranges
from harness.evaluation.corpus import Corpus, IdentifiedText, identified_texts, open_corpus
from harness.evaluation.counts import Counts, only_nonzero, unused_columns
from harness.evaluation.judgements import Qrels, files_of_split, judgements_file, read_judgements
from harness.evaluation.kinds.kind import Embeddings, Kind
from harness.evaluation.kinds.trec import mean_scores, trec_values
from harness.evaluation.quantised import binary_codes, signs
from harness.evaluation.rows import bad_field, file_called
from harness.export.formats.sizes import Quantised
from harness.search.cosine import Share, nearest_by_cosine, share_of_rank
from harness.search.encode import EncodeTexts, encode_each_once, encode_share
from harness.search.exact import k_highest
from harness.search.request import SearchResult
from harness.search.scores import pair_cosines

IdsOf = Callable[[np.ndarray], Sequence[str]]  # numbers of documents → their ids
TOP_K = 100  # number of documents per query that the measures use
RESCORED = 4  # binary vectors: how many times as many are found by signs and ranked anew
QUERIES = 1024  # scored at a time
_MEASURES = ("ndcg_at_10", "map_at_10", "map_at_100", "mrr_at_10", "recall_at_10", "recall_at_100")


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """Queries with relevance judgements, all documents, and the grades `qrels[query id][document id]`.

    documents: by descending id, so that of equal scores the search keeps those that trec_eval ranks first. same_id: the
    number of the document with the query's id, of the queries that have one. not_ranked: the queries whose document of
    the same id is left out of their ranking.
    """

    queries: dict[str, str]
    documents: Corpus = field(compare=False)
    qrels: Qrels
    same_id: Mapping[str, int] = field(default_factory=dict, compare=False)
    not_ranked: Set[str] = field(default=frozenset(), compare=False)
    counts: Counts = field(default_factory=dict, compare=False)


class Retrieval(Kind[RetrievalData]):
    """All ranks encode queries and documents and search; rank 0 scores the nearest documents."""

    num_query_tables = 1
    data_type = RetrievalData
    unit = "queries"
    metrics = _MEASURES
    folder = "a BEIR folder (corpus.jsonl, queries.jsonl, qrels/), FlagEmbedding's (corpus, test_queries, test_qrels)"

    def files(self, path: Path) -> tuple[Path, ...] | None:
        """(corpus, queries, judgements)."""
        corpus, queries = file_called(path, "corpus"), file_called(path, "queries")
        if corpus and queries:
            return corpus, queries, judgements_file(path)
        of_split = files_of_split(path) if corpus else None
        return (corpus, *of_split) if corpus and of_split else None

    def load(self, corpus: Path, queries: Path, judgements: Path, cache: str | None = None) -> RetrievalData:
        """Read the data. A query that is a document (same id, same text) gets no credit for finding itself.

        BEIR's evaluator and several tasks of mteb go by the id alone, see `without_identical_ids`.
        """
        if ranked := file_called(corpus.parent, "top_ranked"):
            raise ValueError(
                f"{ranked}: got the documents to rank for each query (mteb's reranking), expected a corpus that is "
                "searched whole; remove this file, or write a file of query, positive and negative to rerank"
            )
        unused: Counter[str] = Counter()
        query_of = _queries(queries, unused)
        documents = open_corpus(corpus, cache)
        qrels, counts = read_judgements(judgements, query_of, documents.numbers)
        scored = {name: query_of[name].text for name in qrels}
        same_id = documents.numbers(scored)
        own = {name for name, document in same_id.items() if _is_own(query_of[name], documents, document)}
        counts |= unused_columns(Counter(documents.unused) + unused)
        return _not_ranking(RetrievalData(scored, documents, qrels, same_id, counts=counts), own, "own_documents")

    def without_identical_ids(self, data: RetrievalData) -> RetrievalData:
        """Data in which no query ranks the document with its id, whatever the texts (mteb's ignore_identical_ids)."""
        return _not_ranking(data, data.same_id.keys(), "identical_ids")

    def num_rows(self, data: RetrievalData) -> int:
        return len(data.queries)

    def encode(self, encode: EncodeTexts, data: RetrievalData) -> Embeddings:
        """Embeddings of all queries, and of this rank's share of the distinct documents."""
        query_QD = encode_each_once(encode, list(data.queries.values()), "query")
        share_U = np.asarray(share_of_rank(data.documents.num_texts))
        return query_QD, encode_share(encode, data.documents.distinct_texts, share_U, "document")

    def scores(self, data: RetrievalData, embeddings: Embeddings, dim: int | None = None) -> dict[str, float]:
        query_QD, document_ND = embeddings
        total = data.documents.num_texts
        share = Share(document_ND, share_of_rank(total).start, total)
        # A query's own document may be the only one of its text, and is left out after the search.
        nearest = nearest_by_cosine(query_QD, share, TOP_K + bool(data.not_ranked), dim)
        return rank0.by_main(lambda: self.score(data, nearest))

    def quantised_scores(
        self, data: RetrievalData, embeddings: Embeddings, precision: Quantised, dim: int | None = None
    ) -> dict[str, float]:
        """Binary: the documents with the fewest other signs than the query, ranked anew by the query's own numbers."""
        if precision != "binary":
            return super().quantised_scores(data, embeddings, precision, dim)
        query_QD, document_ND = (table_ND[:, :dim] for table_ND in embeddings)
        total, width = data.documents.num_texts, query_QD.shape[1]
        code_NE = binary_codes(document_ND)
        share = Share(signs(code_NE, width), share_of_rank(total).start, total)
        k = TOP_K + bool(data.not_ranked)
        nearest = nearest_by_cosine(signs(binary_codes(query_QD), width), share, RESCORED * k)
        code_UE = np.concatenate(comm.gather_objects(code_NE))
        return rank0.by_main(lambda: self.score(data, rescored(nearest, query_QD, code_UE, k)))

    def score(self, data: RetrievalData, nearest: SearchResult) -> dict[str, float]:
        """nearest: the distinct texts nearest to each query."""
        return mean_scores(self._values(data, nearest))

    def query_scores(self, data: RetrievalData, nearest: SearchResult) -> dict[str, np.ndarray]:
        """The measures whose means `score` returns, of each query, [Q]; the same order for the same data."""
        parts = self._values(data, nearest)
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _values(self, data: RetrievalData, nearest: SearchResult) -> list[dict[str, np.ndarray]]:
        queries, values = list(data.queries), []
        for first in range(0, len(queries), QUERIES):
            rows = slice(first, first + QUERIES)
            part = SearchResult(nearest.index_QK[rows], nearest.score_QK[rows])
            not_ranked = np.array([data.same_id[q] if q in data.not_ranked else -1 for q in queries[rows]])
            found = documents_of_texts(part, data.documents, not_ranked)
            values.append(retrieval_values(queries[rows], data.documents.ids, found, data.qrels))
        return values


def rescored(nearest: SearchResult, query_QD: np.ndarray, code_UE: np.ndarray, k: int) -> SearchResult:
    """The k documents with the highest cosine of query and signs, of those found by signs alone.

    code_UE: the bits of all documents.
    """
    score_QC = np.full(nearest.index_QK.shape, -np.inf, dtype=np.float32)
    for query, index_C in enumerate(nearest.index_QK):
        found = index_C >= 0
        sign_CD = signs(code_UE[index_C[found]], query_QD.shape[1])
        score_QC[query, found] = pair_cosines(sign_CD, np.broadcast_to(query_QD[query], sign_CD.shape))
    index, score = k_highest(torch.from_numpy(nearest.index_QK), torch.from_numpy(score_QC), k)
    return SearchResult(index.numpy(), score.numpy())


def documents_of_texts(nearest: SearchResult, corpus: Corpus, not_ranked_Q: np.ndarray) -> SearchResult:
    """The TOP_K documents of each query, from its nearest distinct texts; of equal scores, the lower number is first.

    nearest: one text more than TOP_K, if a document is not ranked and there are more. not_ranked_Q: number of the
    document that a query does not rank, -1: none.
    """
    width = max(1, nearest.index_QK.shape[1])
    text_N = nearest.index_QK.ravel()
    first_N, last_N = corpus.start_U1[text_N], corpus.start_U1[text_N + 1]
    most = TOP_K + 1  # more copies of a text are never ranked; one of these may be left out
    last_N = np.where(text_N < 0, first_N, np.minimum(last_N, first_N + most))
    place_E, entry_E = expand_ranges(first_N, last_N)
    query_E, document_E, score_E = place_E // width, corpus.same_text_C[entry_E], nearest.score_QK.ravel()[place_E]
    order_E = np.lexsort((document_E, -score_E, query_E))
    order_E = order_E[document_E[order_E] != not_ranked_Q[query_E[order_E]]]
    query_E, document_E, score_E = query_E[order_E], document_E[order_E], score_E[order_E]
    rank_E = np.arange(len(query_E)) - np.searchsorted(query_E, query_E)
    best_E = rank_E < TOP_K
    found = SearchResult(np.full((len(nearest), TOP_K), -1), np.full((len(nearest), TOP_K), -np.inf, dtype=np.float32))
    found.index_QK[query_E[best_E], rank_E[best_E]] = document_E[best_E]
    found.score_QK[query_E[best_E], rank_E[best_E]] = score_E[best_E]
    return found


def retrieval_values(
    query_ids: Sequence[str], ids_of: IdsOf, found: SearchResult, qrels: Mapping[str, Mapping[str, int]]
) -> dict[str, np.ndarray]:
    """nDCG@10 (linear gain), MAP@10/@100, MRR@10, Recall@10/@100 of each query by trec_eval.

    found: the TOP_K nearest documents of each query. ids_of: the ids of documents. trec_eval orders equal scores by
    descending document id.
    """
    document_N = np.unique(found.index_QK[found.index_QK >= 0])
    id_of = dict(zip(document_N.tolist(), ids_of(document_N), strict=True))
    rankings = {
        query: {id_of[n]: s for n, s in zip(index_K, score_K, strict=True) if n >= 0}
        for query, index_K, score_K in zip(query_ids, found.index_QK.tolist(), found.score_QK.tolist(), strict=True)
    }
    return trec_values(rankings, qrels, _MEASURES)


def _not_ranking(data: RetrievalData, queries: Set[str], reason: str) -> RetrievalData:
    """The data in which these queries do not rank the document with their id."""
    judged = sum(data.qrels[query].get(query, 0) > 0 for query in queries)
    counts = {**data.counts, **only_nonzero(**{reason: len(queries), "own_documents_judged_relevant": judged})}
    if reason == "identical_ids":
        counts.pop("own_documents", None)
    return replace(data, not_ranked=frozenset(queries), counts=counts)


def _queries(file: Path, unused: Counter[str]) -> dict[str, IdentifiedText]:
    """The queries by id."""
    queries: dict[str, IdentifiedText] = {}
    for row in identified_texts(file, unused, "instruction"):
        if row.id in queries:
            raise bad_field(file, row.line, "_id", row.id, "an id that did not occur before")
        queries[row.id] = row
    return queries


def _is_own(query: IdentifiedText, documents: Corpus, document: int) -> bool:
    """Whether a document is the query: a text of it, with or without what stands beside it, is a text of the query."""
    return bool({query.text, query.alone} & set(documents.texts_of(document)))
